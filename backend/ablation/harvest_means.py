"""Mean activations of features over a harvest, for mean ablation."""

from collections.abc import Callable

import numpy as np

from backend.ablation.model_parts import ModelPart
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile

FeatureMeans = Callable[[ModelPart], float | None]
"""Function that returns a feature's mean over all counted tokens of a harvest; None for a part that
is no feature.
"""


def read_harvest_means(file: HarvestFile) -> FeatureMeans:
    """Return a lookup of the features' mean activations E[f] in a harvest, silent tokens counted as
    0, which replace the activations in mean ablation.

    The means of a dictionary are read once and kept, since a ranking asks for hundreds of them.
    """
    known: dict[str, np.ndarray] = {}

    def mean(part: ModelPart) -> float | None:
        if part.feature is None:
            return None
        feature, name = file.check_feature(part.feature), part.dictionary
        if name not in known:
            known[name] = file.feature_table(name)["mean_all"].to_numpy()
        return float(known[name][feature.index])

    return mean


def refuse_without_harvest(part: ModelPart) -> float | None:
    """Look up a part's mean where there is no harvest: None for a part that is no feature, whose
    mean is computed from the prompts.

    Raises InputError for a feature: without a harvest its mean activation is unknown.
    """
    if part.feature is None:
        return None
    raise InputError(
        f"The mean of {part} is read from a harvest. Name a store that has one (--store), or "
        "choose zero, resample or pair."
    )
