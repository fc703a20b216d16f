"""A dictionary's scores beside those of its null dictionaries: other features, so not paired."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from autointerp.jobs.summary import said
from autointerp.statistics import Estimate, over_features


def beside(
    own: np.ndarray, nulls: Mapping[str, np.ndarray], bounds: tuple[float, float]
) -> dict[str, dict[str, Any]]:
    """For each null dictionary its mean over features, and own mean − its mean.

    `own` and `nulls`: a value a feature, NaN where there is none. `bounds`: of the measure.
    """
    mine = over_features(own, bounds)
    means = {name: over_features(values, bounds) for name, values in nulls.items()}
    return {
        name: said(mean) | {"difference": said(difference(mine, mean))}
        for name, mean in means.items()
    }


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One mean less an independent one, its interval from the two intervals (MOVER: Zou & Donner,
    Statistics in Medicine 2008). n is that of the smaller group."""
    ends = (one.value, one.low, one.high, other.value, other.low, other.high)
    n = min(one.n, other.n)
    if any(end is None for end in ends):
        return Estimate.none(n, n, one.note or other.note)
    a, a_low, a_high, b, b_low, b_high = (float(end) for end in ends if end is not None)
    low = a - b - np.hypot(a - a_low, b_high - b)
    high = a - b + np.hypot(a_high - a, b - b_low)
    return Estimate(a - b, float(low), float(high), n, n)
