"""Clusters into the catalog: what the job and the command share."""

from typing import Any

from app.experiments import keeping
from backend.prediction_clusters.cluster_plan import ClusterPlan
from feature_store.store import Store


def keep(store: Store, harvest: str, engine: Any, plan: ClusterPlan, result: dict[str, Any]) -> str:
    """Keep what was found; its id. InputError where the store may not be written."""
    return keeping.keep(
        store,
        "clusters",
        engine,
        harvest=harvest,
        dictionaries=result["dictionaries"],
        request=plan.to_json(),
        result=result,
    )
