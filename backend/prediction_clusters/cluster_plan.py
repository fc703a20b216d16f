"""The settings of a cluster analysis: which predictions are sampled and how they are clustered.
Importable without torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from feature_store.errors import InputError, pick_by_name, suggest_near_miss

CLUSTERING_METHODS = {
    "linkage": "average linkage of cosines",
    "spectral": "spectral clustering of cosines",
    "kmeans": "k-means on unit vectors",
}
MAX_TOKENS = 5_000
TOKENS_PER_CLUSTER = 15
"""Number of tokens for each cluster if the number of clusters is not given."""


@dataclass(frozen=True)
class ClusterPlan:
    """Settings of a cluster analysis: the predictions to sample and the clustering method."""

    dictionaries: tuple[str, ...] = ()
    """Names of dictionaries of the harvest; all if empty."""
    tokens: int = 600
    """Number of next tokens to sample, one from each sequence."""
    loss: float = 0.3
    """Loss in nats below which a next token counts as predicted well."""
    clusters: int = 0
    """Number of clusters; 0 for one per TOKENS_PER_CLUSTER tokens."""
    kept: int = 400
    """Number of features kept in each effect vector: those with the largest effects."""
    method: str = "linkage"
    shown: int = 12
    """Number of features listed for each cluster."""
    removed: int = 10
    """Number of the listed features that are ablated together to check their effect on the
    predictions.
    """
    seed: int = 0

    def check(self) -> "ClusterPlan":
        """Return the cluster plan if its numbers are valid; raise InputError otherwise."""
        pick_by_name("clustering method", self.method, CLUSTERING_METHODS)
        if not 20 <= self.tokens <= MAX_TOKENS:
            raise InputError(f"The number of tokens must be between 20 and {MAX_TOKENS:,}.")
        if self.loss <= 0 or self.kept < 1 or self.shown < 1 or not 0 <= self.removed <= self.shown:
            raise InputError(
                "The loss, the features kept and the features shown must be above 0, and the "
                "features removed must be between 0 and those shown."
            )
        if self.clusters and not 2 <= self.clusters <= self.tokens // 4:
            raise InputError(
                f"{self.tokens:,} tokens can have between 2 and {self.tokens // 4} clusters."
            )
        return self

    def groups(self, n: int) -> int:
        """Return the number of clusters for `n` sampled tokens."""
        return min(self.clusters or max(2, n // TOKENS_PER_CLUSTER), n // 4)

    def to_json(self) -> dict[str, Any]:
        """Return the cluster plan as plain data for JSON."""
        return {**asdict(self), "dictionaries": list(self.dictionaries)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "ClusterPlan":
        """Build a cluster plan from the plain data that `to_json` returns. Raises InputError for
        unknown fields.
        """
        known = [field.name for field in fields(cls)]
        unknown = [name for name in given if name not in known]
        if unknown:
            near = suggest_near_miss(str(unknown[0]), known)
            raise InputError(f"This is not a cluster plan: no field {unknown[0]!r}.{near}")
        try:
            return cls(**{**given, "dictionaries": tuple(given.get("dictionaries", ()))}).check()
        except TypeError as bad:
            raise InputError(f"This is not a cluster plan: {bad}.") from bad
