"""A job's mean over features, and the mean difference between two kinds of label, by feature.

Features are what is resampled: how sure the score of each one is shows in how they differ.
Percentiles of the resamples are moved away from the mean by t ÷ z · √(n ÷ (n − 1)), which intervals
of few features lack (Hesterberg 2015).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from autointerp.statistics.estimate import MIN_JUDGEMENTS, Estimate
from autointerp.statistics.token_correlations import TAIL, is_constant

RESAMPLES = 2000
MIN_FOR_STUDENT = 500
"""Features from which on the interval is Student's: resampling them gives the same."""
MAX_DRAWN = 1 << 21
"""Features drawn at once."""


def mean_over_features(
    values: Sequence[float | None] | np.ndarray,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    many: int = MIN_FOR_STUDENT,
) -> Estimate:
    """The mean of the features that have a value; `bounds` are the least and the largest possible.
    From `many` features on the interval is Student's.

    Where all are equal, up to 3 ÷ n of all features may still be anything (95 %), and the interval
    says so.
    """
    kept = np.array([v for v in values if v is not None and np.isfinite(v)], dtype=float)
    n = len(kept)
    if n < MIN_JUDGEMENTS:
        return Estimate.too_few(n, n, found=n, unit="features")
    value = float(kept.mean())
    if is_constant(kept):
        low, high = (value + 3 / n * (end - value) for end in bounds)
    elif n >= many:
        low, high = student_interval(kept, value)
    else:
        low, high = widen_percentiles(bootstrap_means(kept, seed), value, n)
    return Estimate(value, max(low, bounds[0]), min(high, bounds[1]), n, n)


def mean_paired_difference(
    one: Mapping[int, float | None], other: Mapping[int, float | None], seed: int = 0
) -> Estimate:
    """The mean of `one` − `other` over the features that have both; both lie in [0, 1]."""
    pairs = [(a, other.get(feature)) for feature, a in one.items()]
    both = [a - b for a, b in pairs if a is not None and b is not None]
    return mean_over_features(both, (-1.0, 1.0), seed)


def student_interval(values: np.ndarray, mean: float) -> tuple[float, float]:
    """Student's interval of a mean."""
    from scipy.stats import t

    half = t.ppf(1 - TAIL, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(mean - half), float(mean + half)


def bootstrap_means(values: np.ndarray, seed: int) -> np.ndarray:
    """The means of RESAMPLES draws of as many features."""
    dice, step = np.random.default_rng(seed), max(1, MAX_DRAWN // len(values))
    parts = []
    for begin in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - begin)
        parts.append(values[dice.integers(len(values), size=(size, len(values)))].mean(-1))
    return np.concatenate(parts)


def widen_percentiles(drawn: np.ndarray, value: float, n: int) -> tuple[float, float]:
    """The percentiles of resamples, moved away from the value as few units need."""
    from scipy.stats import norm, t

    wider = t.ppf(1 - TAIL, n - 1) / norm.ppf(1 - TAIL) * np.sqrt(n / (n - 1))
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL])
    return float(value + (low - value) * wider), float(value + (high - value) * wider)
