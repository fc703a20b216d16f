"""Comparison of a dictionary's mean score with the mean scores of its null dictionaries. They have
other features, so the difference is not paired."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from autointerp.pipeline.score_summary import mean_to_json
from feature_store.statistics import independent_difference, mean_over_features


def compare_with_null_dictionaries(
    own: np.ndarray, nulls: Mapping[str, np.ndarray], bounds: tuple[float, float]
) -> dict[str, dict[str, Any]]:
    """Return for each null dictionary (a control without learned features, such as random
    directions) its mean score over features, and the difference of the scored dictionary's own mean
    from it.

    `own` and `nulls` hold a score per feature [features], NaN where there is none; `bounds` are the
    smallest and largest possible score.
    """
    # other features on both sides, so the two means are independent
    own_mean = mean_over_features(own, bounds)
    means = {name: mean_over_features(values, bounds) for name, values in nulls.items()}
    return {
        name: mean_to_json(mean)
        | {"difference": mean_to_json(independent_difference(own_mean, mean))}
        for name, mean in means.items()
    }
