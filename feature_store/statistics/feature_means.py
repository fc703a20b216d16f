"""Means over the features of a job, with intervals, and paired differences between two labels.

Features are the independent units: the uncertainty of each feature's score shows in how the scores
differ. The interval is a bootstrap-t; from MIN_FOR_STUDENT features on it is Student's, which then
agrees with it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from feature_store.statistics.bootstrap_t import estimate_mean
from feature_store.statistics.estimate import MIN_JUDGEMENTS, Estimate
from feature_store.statistics.student_t import estimate_student_mean
from feature_store.statistics.token_correlations import is_constant

MIN_FOR_STUDENT = 500
"""Number of features from which the interval of a mean is Student's: resampling gives the same."""


def mean_over_features(
    values: Sequence[float | None] | np.ndarray,
    bounds: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
    many: int = MIN_FOR_STUDENT,
) -> Estimate:
    """Estimate the mean over all features that have a value. `bounds` are the smallest and largest
    possible value; from `many` features on the interval is Student's.

    Where all values are equal, up to 3 ÷ n of all features may still have any value (95 %), and the
    interval says so.
    """
    kept = np.array([v for v in values if v is not None and np.isfinite(v)], dtype=float)
    n = len(kept)
    if n < MIN_JUDGEMENTS:
        return Estimate.too_few(n, n, found=n, unit="features")
    value = float(kept.mean())
    if is_constant(kept):
        low, high = (value + 3 / n * (end - value) for end in bounds)
    else:
        found = estimate_student_mean(kept) if n >= many else estimate_mean(kept, seed)
        assert found.low is not None and found.high is not None  # not constant, n ≥ 20
        low, high = found.low, found.high
    return Estimate(value, max(low, bounds[0]), min(high, bounds[1]), n, n)


def mean_paired_difference(
    one: Mapping[int, float | None], other: Mapping[int, float | None], seed: int = 0
) -> Estimate:
    """Estimate the mean of `one` − `other` over the features that have both; both lie in [0, 1]."""
    pairs = [(a, other.get(feature)) for feature, a in one.items()]
    both = [a - b for a, b in pairs if a is not None and b is not None]
    return mean_over_features(both, (-1.0, 1.0), seed)
