"""A dictionary's scores beside those of its null dictionaries: other features, so not paired."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from autointerp.pipeline.score_summary import mean_to_json
from autointerp.statistics import independent_difference, mean_over_features


def compare_with_null_dictionaries(
    own: np.ndarray, nulls: Mapping[str, np.ndarray], bounds: tuple[float, float]
) -> dict[str, dict[str, Any]]:
    """For each null dictionary its mean over features, and own mean − its mean.

    `own` and `nulls`: a value a feature, NaN where there is none. `bounds`: of the measure.
    """
    mine = mean_over_features(own, bounds)
    means = {name: mean_over_features(values, bounds) for name, values in nulls.items()}
    return {
        name: mean_to_json(mean) | {"difference": mean_to_json(independent_difference(mine, mean))}
        for name, mean in means.items()
    }
