"""The mean that stands in a feature's place: over all counted tokens of a harvest."""

from collections.abc import Callable

import numpy as np

from backend.ablation.model_parts import ModelPart
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile

FeatureMeans = Callable[[ModelPart], float | None]
"""A feature's mean over all counted tokens of a harvest; None for what is no feature."""


def read_harvest_means(file: HarvestFile) -> FeatureMeans:
    """E[f] of the named harvest, silent tokens at 0 (not the mean when active). A dictionary's are
    read together: a ranking asks for hundreds."""
    known: dict[str, np.ndarray] = {}

    def mean(part: ModelPart) -> float | None:
        if part.feature is None:
            return None
        feature, name = file.check(part.feature), part.dictionary
        if name not in known:
            known[name] = file.feature_table(name)["mean_all"].to_numpy()
        return float(known[name][feature.index])

    return mean


def refuse_without_harvest(part: ModelPart) -> float | None:
    """Where there is no harvest: InputError for a feature."""
    if part.feature is None:
        return None
    raise InputError(
        f"The mean of {part} comes from a harvest. Name a store that has one (--store), or choose "
        "zero, resample or pair."
    )
