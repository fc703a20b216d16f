"""The job `map`: a dictionary's map, computed and published."""

from typing import Any

from feature_store.feature_maps import FeatureMapPlan, FeatureMaps
from feature_store.job_process import JobProcess
from feature_store.store import Store


def arguments(harvest: str, dictionary: str, plan: FeatureMapPlan) -> dict[str, Any]:
    """What this kind of job is asked."""
    return {
        "harvest": harvest,
        "dictionary": dictionary,
        "neighbours": plan.neighbours,
        "min_dist": plan.min_dist,
        "seed": plan.seed,
    }


def do(store: Store, work: JobProcess) -> dict[str, Any]:
    """Compute the map and publish it; nothing is there before it is whole."""
    from backend.features.feature_map import compute_feature_map

    asked = dict(work.arguments)
    file = store.harvest(asked.pop("harvest"))
    name = asked.pop("dictionary")
    made = compute_feature_map(
        file, name, store.places.read_all(), FeatureMapPlan(**asked), work.progress
    )
    FeatureMaps(store.path).write(made)
    clusters = int(made.cluster.max()) + 1
    return {"features": len(made.feature), "clusters": clusters, "seconds": made.about.seconds}
