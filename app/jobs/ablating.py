"""The job `ablate`: an ablation over a data set, kept as an experiment when it ends."""

from typing import Any

from app.experiments import keeping
from feature_store.job_process import JobProcess
from feature_store.store import Store


def arguments(harvest: str, request: dict[str, Any]) -> dict[str, Any]:
    """What this kind of job is asked; `request` as
    `backend.ablation.ablation_requests.AblationRequest` writes it."""
    return {"harvest": harvest, "request": request}


def do(store: Store, work: JobProcess) -> dict[str, Any]:
    """Run it; the answer is kept in the catalog, its id is the job's result."""
    from backend.ablation.ablation_requests import AblationRequest
    from backend.ablation.dataset_ablation import ablate_dataset
    from backend.ablation.harvest_means import read_harvest_means
    from backend.engine import LocalEngine
    from backend.model.device import choose_placement

    work.progress(0, 1, "loading the model")
    file = store.harvest(work.arguments["harvest"])
    asked = AblationRequest.from_json(work.arguments["request"])
    engine = LocalEngine.load(file, store.places.read_all(), choose_placement())
    result = ablate_dataset(
        engine,
        asked,
        read_harvest_means(file),
        lambda done, total: work.progress(done, total, "running prompts"),
    )
    names = sorted({part.dictionary for part in asked.parts if part.dictionary})
    name = keeping.keep(
        store,
        "ablate",
        engine,
        harvest=file.record.id,
        dictionaries=names,
        request={**asked.to_json(), "over": "dataset"},
        result=result,
    )
    return {"experiment": name, "prompts": result["n"]}
