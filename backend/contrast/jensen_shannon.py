"""Jensen–Shannon distance between groups of documents: how well the values of a unit (feature or
neuron) separate the groups.

As in work on monosemanticity of SAE features, which compares a unit's activation distributions
under different concepts; silent documents are included.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

BINS = 8
"""Number of bins of equal count for nonzero values; zero has a bin of its own."""
SHUFFLES = 20
"""Number of random shuffles of the labels."""
TOP_UNITS = 10
"""Number of units in the mean of the largest distances."""


@dataclass(frozen=True)
class GroupSeparation:
    """How well each of m units (features, or coordinates of a hook point) separates groups of
    documents: Jensen–Shannon distances between the groups, from 0 (same distribution) to 1 (no
    common bin).
    """

    distance: Float[np.ndarray, "m"]
    shuffled: Float[np.ndarray, "shuffles m"]
    """Jensen–Shannon distances with shuffled labels: the null, since few documents differ by chance
    too.
    """

    def best(self) -> tuple[float, float]:
        """Return the largest Jensen–Shannon distance of any unit, and what it is on average when
        the group labels are shuffled.
        """
        return self._of(lambda x: x.max(axis=-1))

    def top(self) -> tuple[float, float]:
        """Return the mean of the TOP_UNITS largest Jensen–Shannon distances, and what it is on
        average when the group labels are shuffled.
        """
        return self._of(lambda x: np.sort(x, axis=-1)[..., -TOP_UNITS:].mean(axis=-1))

    def _of(self, take) -> tuple[float, float]:
        if not self.distance.size:
            return float("nan"), float("nan")
        return float(take(self.distance)), float(take(self.shuffled).mean())


def jensen_shannon_distances(
    tile: Float32[np.ndarray, "n m"], group: Int[np.ndarray, "n"], seed: int = 0
) -> GroupSeparation:
    """Compute the Jensen–Shannon distance of each column's values between two or more groups of
    rows.

    The square root of the divergence in bits between the groups' binned distributions, with groups
    weighted equally, divided by log2 of the number of groups. Bins: zero, and BINS of equal count
    over the column's other values in order of sign and size.
    """
    rng = np.random.default_rng(seed)
    orders = [group, *(rng.permutation(group) for _ in range(SHUFFLES))]
    k = int(group.max()) + 1
    member = np.stack([order == g for order in orders for g in range(k)]).astype(np.float32)
    member /= member.sum(axis=1, keepdims=True)
    bins = bin_by_rank(tile)
    total_entropy, group_entropies = (
        np.zeros((len(orders), *shape)) for shape in ((tile.shape[1],), (k, bins.shape[1]))
    )
    for number in range(BINS + 1):
        p = (member @ (bins == number).astype(np.float32)).reshape(len(orders), k, -1)
        total_entropy += entropy_terms(p.mean(axis=1))
        group_entropies += entropy_terms(p)
    divergence = (total_entropy - group_entropies.mean(axis=1)) / np.log2(k)
    distance = np.sqrt(np.clip(divergence, 0, 1))
    return GroupSeparation(distance[0], distance[1:])


def bin_by_rank(tile: Float32[np.ndarray, "n m"]) -> Int[np.ndarray, "n m"]:
    """Return the bin of each value for the Jensen–Shannon distance: 0 for silence, otherwise 1 to
    BINS by its rank among the column's nonzero values; equal values share a bin.
    """
    from scipy.stats import rankdata  # slow to import

    silent = tile == 0
    ranks = rankdata(np.where(silent, np.inf, tile), axis=0, method="min") - 1
    fires = np.maximum((~silent).sum(axis=0), 1)
    return np.where(silent, 0, 1 + (ranks * BINS // fires).clip(0, BINS - 1)).astype(np.int8)


def entropy_terms(p: np.ndarray) -> np.ndarray:
    """Return the terms −p log2 p of the entropies in the Jensen–Shannon divergence, with 0 at p =
    0.
    """
    return -p * np.log2(np.where(p > 0, p, 1))
