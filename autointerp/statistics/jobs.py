"""A job's mean over features, and the mean difference between two kinds of label, by feature.

Features are what is resampled: how sure the score of each one is shows in how they differ.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from autointerp.statistics.estimate import ENOUGH, Estimate
from autointerp.statistics.series import constant, resampled, spread


def over_features(
    values: Sequence[float | None] | np.ndarray,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> Estimate:
    """The mean of the features that have a value; `bounds` are the least and the largest possible.

    Where all are equal, up to 3 ÷ n of all features may still be anything (95 %), and the interval
    says so.
    """
    kept = np.array([v for v in values if v is not None and np.isfinite(v)], dtype=float)
    n = len(kept)
    if n < ENOUGH:
        return Estimate.too_few(n, n, "features")
    value = float(kept.mean())
    if constant(kept):
        low, high = (value + 3 / n * (end - value) for end in bounds)
    else:
        drawn = resampled(np.stack([np.ones(n), kept], -1), np.zeros(n, int), seed)
        low, high = spread(drawn[:, 1] / drawn[:, 0], value, n)
    return Estimate(value, max(low, bounds[0]), min(high, bounds[1]), n, n)


def paired(
    one: Mapping[int, float | None], other: Mapping[int, float | None], seed: int = 0
) -> Estimate:
    """The mean of `one` − `other` over the features that have both; both lie in [0, 1]."""
    pairs = [(a, other.get(feature)) for feature, a in one.items()]
    both = [a - b for a, b in pairs if a is not None and b is not None]
    return over_features(both, (-1.0, 1.0), seed)
