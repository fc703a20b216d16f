"""The mean that stands in a feature's place: over all counted tokens of a harvest."""

from collections.abc import Callable

from backend.ablation.parts import Part
from feature_store.errors import InputError
from feature_store.reader import HarvestFile

Means = Callable[[Part], float | None]
"""A feature's mean over all counted tokens of a harvest; None for what is no feature."""


def harvest_means(file: HarvestFile) -> Means:
    """E[f] of the named harvest, silent tokens at 0 (not the mean when active)."""

    def mean(part: Part) -> float | None:
        return None if part.feature is None else file.facts(file.check(part.feature)).mean_all

    return mean


def no_harvest(part: Part) -> float | None:
    """Where there is no harvest: InputError for a feature."""
    if part.feature is None:
        return None
    raise InputError(
        f"The mean of {part} comes from a harvest. Name a store that has one (--store), or choose "
        "zero, resample or pair."
    )
