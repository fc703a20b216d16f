"""Co-activation of features in the pool of random windows: pairs, parents and children.

B is a parent of A where B fires on most tokens on which A does, and not the other way round: the
subsumption rule of Sanderson & Croft (SIGIR 1999), P(B|A) high and P(A|B) lower, asked of features
instead of terms. Such pairs are what feature splitting and absorption leave behind (Chanin et al.,
arXiv 2409.14507). A lift keeps dense features from being everybody's parent.
"""

import math
from dataclasses import dataclass

import numpy as np

from feature_store.window_pool import MIN_TOGETHER, WindowPool, align_pools

MIN_PARENT_SHARE = 0.5
"""P(parent | child) is at least this."""
MIN_ASYMMETRY = 2.0
"""P(parent | child) is at least so many times P(child | parent)."""
MIN_LIFT = 2.0
"""P(parent | child) is at least so many times the parent's density."""
NORMAL_QUANTILE = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class CoactivationCounts:
    """How two features fire on the same tokens."""

    tokens: int
    """Tokens looked at, n."""
    mine: int
    """Of these, tokens on which the first fires."""
    other: int
    together: int

    @property
    def phi(self) -> float | None:
        """Correlation of the two firings (0 or 1 each); None where one always or never fires."""
        n, a, b = self.tokens, self.mine, self.other
        spread = a * b * (n - a) * (n - b)
        return (n * self.together - a * b) / math.sqrt(spread) if spread else None


@dataclass(frozen=True)
class RelatedFeature:
    """A parent or a child of a feature."""

    feature: int
    share: float
    """P(parent | child)."""
    low: float
    """Wilson's 95 % interval of it, tokens taken as independent."""
    high: float
    back: float
    """P(child | parent)."""
    n: int
    """Tokens on which the child fires."""


def count_coactivations(one: WindowPool, a: int, other: WindowPool, b: int) -> CoactivationCounts:
    """Two features, of one dictionary or of two of the same harvest."""
    one, other = align_pools([one, other])
    mine, theirs = one.of(a)[0], other.of(b)[0]
    return CoactivationCounts(
        one.n_tokens, len(mine), len(theirs), len(np.intersect1d(mine, theirs))
    )


def activation_correlation(one: WindowPool, a: int, other: WindowPool, b: int) -> float | None:
    """Pearson's r of two features' activations over the pool's tokens; None if one is constant."""
    one, other = align_pools([one, other])
    x, y = np.zeros(one.n_tokens), np.zeros(one.n_tokens)
    for values, (tokens, acts) in ((x, one.of(a)), (y, other.of(b))):
        values[tokens] = acts
    if not x.any() or not y.any():
        return None
    r = float(np.corrcoef(x, y)[0, 1])
    return None if math.isnan(r) else r


def find_relatives(
    pool: WindowPool, feature: int, n: int
) -> tuple[list[RelatedFeature], list[RelatedFeature]]:
    """Up to `n` parents and `n` children of a feature, surest first."""
    active = np.bincount(pool.feature, minlength=pool.d_sae)
    tokens = np.zeros(pool.n_tokens, dtype=bool)
    tokens[pool.of(feature)[0]] = True
    joint = np.bincount(pool.feature[tokens[pool.token]], minlength=pool.d_sae)
    joint[feature] = 0
    known = np.flatnonzero(joint >= MIN_TOGETHER)
    found: tuple[list[RelatedFeature], list[RelatedFeature]] = ([], [])
    for other in known.tolist():
        ends = (feature, other)
        for kin, (child, parent) in zip(found, (ends, ends[::-1]), strict=True):
            together, size = int(joint[other]), int(active[child])
            share, back = together / size, together / int(active[parent])
            density = int(active[parent]) / pool.n_tokens
            if (
                share >= MIN_PARENT_SHARE
                and share >= MIN_ASYMMETRY * back
                and share >= MIN_LIFT * density
            ):
                kin.append(
                    RelatedFeature(other, share, *wilson_interval(together, size), back, size)
                )
    parents, children = (sorted(kin, key=lambda r: (-r.low, r.feature))[:n] for kin in found)
    return parents, children


def wilson_interval(k: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share k ÷ n."""
    centre, spread = (
        k + NORMAL_QUANTILE**2 / 2,
        NORMAL_QUANTILE * math.sqrt(k * (n - k) / n + NORMAL_QUANTILE**2 / 4),
    )
    return max(0.0, (centre - spread) / (n + NORMAL_QUANTILE**2)), min(
        1.0, (centre + spread) / (n + NORMAL_QUANTILE**2)
    )
