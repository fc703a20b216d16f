"""The job `clusters`: circuits in bulk, kept as an experiment when it ends."""

from typing import Any

from backend.behaviours.plan import ClusterPlan
from feature_store.store import Store
from feature_store.work import Work


def arguments(harvest: str, plan: ClusterPlan) -> dict[str, Any]:
    """What this kind of job is asked."""
    return {"harvest": harvest, "plan": plan.to_json()}


def do(store: Store, work: Work) -> dict[str, Any]:
    """Find them; the id that they are kept under is the job's result."""
    from app.behaviours import keeping
    from backend.behaviours.finding import find
    from backend.device import choose_placement
    from backend.engine import LocalEngine

    work.progress(0, 1, "loading the model")
    plan = ClusterPlan.from_json(work.arguments["plan"])
    file = store.harvest(work.arguments["harvest"])
    engine = LocalEngine.load(file, store.places.known(), choose_placement())
    found = find(engine, file, plan, work.progress)
    name = keeping.keep(store, file.record.id, engine, plan, found)
    return {"experiment": name, "tokens": found["picked"], "clusters": len(found["clusters"])}
