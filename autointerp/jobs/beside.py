"""A dictionary's scores beside those of its null dictionaries: other features, so not paired."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from autointerp.jobs.summary import said
from autointerp.statistics import difference, over_features


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
