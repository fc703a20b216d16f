"""What is asked of circuits in bulk; importable without torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from feature_store.errors import InputError, pick_by_name

CLUSTERING_METHODS = {
    "linkage": "average linkage of cosines",
    "spectral": "spectral clustering of cosines",
    "kmeans": "k-means on unit vectors",
}
MAX_TOKENS = 5_000
TOKENS_PER_CLUSTER = 15
"""Tokens for each cluster, where the number of clusters is not given."""


@dataclass(frozen=True)
class ClusterPlan:
    """Which next tokens, and how they are grouped."""

    dictionaries: tuple[str, ...] = ()
    """Of the harvest; all, if empty."""
    tokens: int = 600
    """Next tokens looked at, one of a sequence."""
    loss: float = 0.3
    """In nats: a token counts as predicted where its loss is below."""
    clusters: int = 0
    """0: one for every PER_CLUSTER tokens."""
    kept: int = 400
    """Features that each token's vector keeps: those of largest effect."""
    method: str = "linkage"
    shown: int = 12
    """Features named of each cluster."""
    removed: int = 10
    """Of these, how many are taken away together to see what becomes of the prediction."""
    seed: int = 0

    def check(self) -> "ClusterPlan":
        """The same; InputError for numbers that make no sense."""
        pick_by_name("way to cluster", self.method, CLUSTERING_METHODS)
        if not 20 <= self.tokens <= MAX_TOKENS:
            raise InputError(f"Between 20 and {MAX_TOKENS:,} tokens are grouped.")
        if self.loss <= 0 or self.kept < 1 or self.shown < 1 or not 0 <= self.removed <= self.shown:
            raise InputError(
                "The loss and the features kept and named are above 0, and of those named at most "
                "all are taken away."
            )
        if self.clusters and not 2 <= self.clusters <= self.tokens // 4:
            raise InputError(f"Between 2 and {self.tokens // 4} clusters, for so many tokens.")
        return self

    def groups(self, n: int) -> int:
        """How many clusters `n` tokens make."""
        return min(self.clusters or max(2, n // TOKENS_PER_CLUSTER), n // 4)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "dictionaries": list(self.dictionaries)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "ClusterPlan":
        """InputError for what `to_json` does not write."""
        try:
            return cls(**{**given, "dictionaries": tuple(given.get("dictionaries", ()))}).check()
        except TypeError as bad:
            raise InputError(f"This is no plan of clusters: {bad}.") from bad
