"""The job `map`: a dictionary's map, computed and published."""

from typing import Any

from feature_store.maps import MapPlan, Maps
from feature_store.store import Store
from feature_store.work import Work


def arguments(harvest: str, dictionary: str, plan: MapPlan) -> dict[str, Any]:
    """What this kind of job is asked."""
    return {
        "harvest": harvest,
        "dictionary": dictionary,
        "neighbours": plan.neighbours,
        "min_dist": plan.min_dist,
        "seed": plan.seed,
    }


def do(store: Store, work: Work) -> dict[str, Any]:
    """Compute the map and publish it; nothing is there before it is whole."""
    from backend.atlas import draw

    asked = dict(work.arguments)
    file = store.harvest(asked.pop("harvest"))
    name = asked.pop("dictionary")
    made = draw(file, name, store.places.known(), MapPlan(**asked), work.progress)
    Maps(store.path).write(made)
    clusters = int(made.cluster.max()) + 1
    return {"features": len(made.feature), "clusters": clusters, "seconds": made.about.seconds}
