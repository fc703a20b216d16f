"""The job `ablate`: an ablation over a data set, kept as an experiment when it ends."""

from typing import Any

from app.experiments import keeping
from feature_store.store import Store
from feature_store.work import Work


def arguments(harvest: str, request: dict[str, Any]) -> dict[str, Any]:
    """What this kind of job is asked; `request` as `backend.ablation.asked.Asked` writes it."""
    return {"harvest": harvest, "request": request}


def do(store: Store, work: Work) -> dict[str, Any]:
    """Run it; the answer is kept in the catalog, its id is the job's result."""
    from backend.ablation.asked import Asked
    from backend.ablation.dataset import over
    from backend.ablation.means import harvest_means
    from backend.device import choose_placement
    from backend.engine import LocalEngine

    work.progress(0, 1, "loading the model")
    file = store.harvest(work.arguments["harvest"])
    asked = Asked.from_json(work.arguments["request"])
    engine = LocalEngine.load(file, store.places.known(), choose_placement())
    result = over(
        engine,
        asked,
        harvest_means(file),
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
