"""Means over features with their intervals: a series, its nulls, the differences, agreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from app.scores.read import Series, matched
from autointerp.scorers import SCORERS
from autointerp.statistics import Estimate, over_features, spearman
from feature_store.scoring import NULLS


@dataclass(frozen=True)
class Line:
    """A series in one line."""

    series: Series
    mean: Estimate
    hard: Estimate
    nulls: dict[str, Estimate]
    """Null → its mean."""
    above: dict[str, Estimate]
    """Null → the mean difference to it, by feature."""
    without: int
    """Features with a score that has no value."""
    failed: int


def line(series: Series) -> Line:
    """The means of a series."""
    bounds = SCORERS[series.scorer].bounds if series.scorer in SCORERS else (0.0, 1.0)
    wide = (bounds[0] - bounds[1], bounds[1] - bounds[0])
    own, numbers = series.value, series.numbers
    return Line(
        series,
        over_features(own, bounds),
        over_features(numbers["hard"], bounds),
        {name: over_features(numbers[name], bounds) for name in NULLS},
        {name: over_features(own - numbers[name], wide) for name in NULLS},
        int((~series.valued).sum()),
        int(series.failed.sum()),
    )


def agreement(series: Sequence[Series]) -> list[tuple[Series, Series, Estimate]]:
    """Every two series, and how far they agree in the order of the features."""
    found = []
    for one, other in combinations(series, 2):
        features, a, b = matched(one, other)
        if len(features) < 2 or np.ptp(one.value[a]) == 0 or np.ptp(other.value[b]) == 0:
            n = len(features)
            few = "one feature in common" if n else "no features in common"
            why = "the same everywhere" if n >= 2 else few
            found.append((one, other, Estimate.none(n, n, why)))
        else:
            found.append((one, other, spearman(one.value[a], other.value[b], features)))
    return found


def extremes(series: Series, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the `n` features with the least and the greatest values, the outermost first."""
    order = np.flatnonzero(series.valued)
    order = order[np.argsort(series.value[order], kind="stable")]
    return order[:n], order[::-1][:n]
