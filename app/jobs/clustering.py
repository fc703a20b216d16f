"""The job `clusters`: circuits in bulk, kept as an experiment when it ends."""

from typing import Any

from backend.prediction_clusters.cluster_plan import ClusterPlan
from feature_store.job_process import JobProcess
from feature_store.store import Store


def arguments(harvest: str, plan: ClusterPlan) -> dict[str, Any]:
    """What this kind of job is asked."""
    return {"harvest": harvest, "plan": plan.to_json()}


def do(store: Store, work: JobProcess) -> dict[str, Any]:
    """Find them; the id that they are kept under is the job's result."""
    from app.behaviours import keeping
    from backend.engine import LocalEngine
    from backend.model.device import choose_placement
    from backend.prediction_clusters.cluster_analysis import find_clusters

    work.progress(0, 1, "loading the model")
    plan = ClusterPlan.from_json(work.arguments["plan"])
    file = store.harvest(work.arguments["harvest"])
    engine = LocalEngine.load(file, store.places.read_all(), choose_placement())
    found = find_clusters(engine, file, plan, work.progress)
    name = keeping.keep(store, file.record.id, engine, plan, found)
    return {"experiment": name, "tokens": found["picked"], "clusters": len(found["clusters"])}
