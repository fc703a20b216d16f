"""Co-activation of features on the pool of random windows: joint firing counts, φ, Pearson
correlation, and parent and child features.

B is a parent of A if B fires on most tokens on which A fires, but not the other way round: the
subsumption rule of Sanderson & Croft (SIGIR 1999), P(B|A) high and P(A|B) lower, applied to
features instead of terms. Feature splitting and absorption produce such pairs (Chanin et al., arXiv
2409.14507). A minimum lift keeps dense features from being parents of all others.
"""

import math
from dataclasses import dataclass

import numpy as np

from feature_store.statistics.proportion_intervals import wilson_interval
from feature_store.window_pool import MIN_TOGETHER, WindowPool, align_pools

MIN_PARENT_SHARE = 0.5
"""Minimum of P(parent | child) for a parent-child pair of features."""
MIN_ASYMMETRY = 2.0
"""Minimum ratio of P(parent | child) to P(child | parent) for a parent-child pair of features."""
MIN_LIFT = 2.0
"""Minimum ratio of P(parent | child) to the parent's density for a parent-child pair of
features."""


@dataclass(frozen=True)
class CoactivationCounts:
    """Numbers of tokens on which two features fire, alone and together."""

    n_tokens: int
    """Number of tokens of the pool that both features were evaluated on, n."""
    first: int
    """Number of tokens on which the first feature fires."""
    second: int
    together: int

    @property
    def phi(self) -> float | None:
        """φ coefficient: correlation of the two features' firings (0 or 1 per token); None if
        one fires always or never."""
        n, a, b = self.n_tokens, self.first, self.second
        spread = a * b * (n - a) * (n - b)
        return (n * self.together - a * b) / math.sqrt(spread) if spread else None


@dataclass(frozen=True)
class RelatedFeature:
    """A parent or child of a feature by co-activation, with its conditional firing rates: a parent
    fires on most tokens on which its child fires, but not the other way round."""

    feature: int
    p_parent_given_child: float
    """P(parent fires | child fires) on the pool's tokens."""
    low: float
    """Lower end of Wilson's 95 % interval of `p_parent_given_child`, with tokens taken as
    independent; `high` is the upper end."""
    high: float
    p_child_given_parent: float
    """P(child fires | parent fires) on the pool's tokens."""
    n_child: int
    """Number of tokens on which the child feature fires."""


def count_coactivations(one: WindowPool, a: int, other: WindowPool, b: int) -> CoactivationCounts:
    """Count the tokens on which two features fire together; they may be of two dictionaries of
    one harvest."""
    one, other = align_pools([one, other])
    mine, theirs = one.activations_of(a)[0], other.activations_of(b)[0]
    return CoactivationCounts(
        one.n_tokens, len(mine), len(theirs), len(np.intersect1d(mine, theirs))
    )


def activation_correlation(one: WindowPool, a: int, other: WindowPool, b: int) -> float | None:
    """Return Pearson's r of two features' activations over the pool's tokens; None if one is
    constant."""
    one, other = align_pools([one, other])
    x, y = np.zeros(one.n_tokens), np.zeros(one.n_tokens)
    for values, (tokens, acts) in ((x, one.activations_of(a)), (y, other.activations_of(b))):
        values[tokens] = acts
    if not x.any() or not y.any():
        return None
    r = float(np.corrcoef(x, y)[0, 1])
    return None if math.isnan(r) else r


def find_relatives(
    pool: WindowPool, feature: int, n: int
) -> tuple[list[RelatedFeature], list[RelatedFeature]]:
    """Find up to `n` parents and `n` children of a feature by co-activation, those with the highest
    lower limit of P(parent fires | child fires) first."""
    active = np.bincount(pool.feature, minlength=pool.d_sae)
    tokens = np.zeros(pool.n_tokens, dtype=bool)
    tokens[pool.activations_of(feature)[0]] = True
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
