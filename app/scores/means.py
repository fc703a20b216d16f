"""Means over features with their intervals: a series, its nulls, the differences, agreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from app.scores.read import Series, matched
from autointerp.scorers import SCORERS
from autointerp.statistics import ENOUGH, Estimate, over_features, spearman
from feature_store.scoring import NULLS

MANY = 500
"""Features from which on the mean's interval is Student's: resampling them gives the same."""


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
        mean(own, bounds),
        mean(numbers["hard"], bounds),
        {name: mean(numbers[name], bounds) for name in NULLS},
        {name: mean(own - numbers[name], wide) for name in NULLS},
        int((~series.valued).sum()),
        int(series.failed.sum()),
    )


def mean(values: np.ndarray, bounds: tuple[float, float]) -> Estimate:
    """The mean of those that are numbers; features are what is drawn at random."""
    kept = values[np.isfinite(values)]
    n = len(kept)
    if n < MANY or np.ptp(kept) == 0:
        return over_features(kept, bounds)
    from scipy.stats import t

    half = float(t.ppf(0.975, n - 1) * kept.std(ddof=1) / np.sqrt(n))
    value = float(kept.mean())
    return Estimate(value, max(value - half, bounds[0]), min(value + half, bounds[1]), n, n)


def apart(one: np.ndarray, other: np.ndarray) -> Estimate:
    """The mean of one dictionary's features less that of another's: nothing is paired, so both
    spreads count (Welch's interval)."""
    from scipy.stats import t

    kept = [values[np.isfinite(values)] for values in (one, other)]
    n = min(len(values) for values in kept)
    if n < ENOUGH:
        return Estimate.too_few(n, n, "features")
    value = float(kept[0].mean() - kept[1].mean())
    parts = [values.var(ddof=1) / len(values) for values in kept]
    square = sum(parts)
    if square <= 0:
        return Estimate.none(n, n, "each the same everywhere: an interval cannot be had")
    freedom = square**2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, kept, strict=True))
    half = float(t.ppf(0.975, freedom) * np.sqrt(square))
    return Estimate(value, value - half, value + half, n, n)


def agreement(series: Sequence[Series]) -> list[tuple[Series, Series, Estimate]]:
    """Every two series, and how far they agree in the order of the features."""
    found = []
    for one, other in combinations(series, 2):
        features, a, b = matched(one, other)
        if len(features) < 2 or np.ptp(one.value[a]) == 0 or np.ptp(other.value[b]) == 0:
            n = len(features)
            why = "the same everywhere" if n >= 2 else "no features in common"
            found.append((one, other, Estimate.none(n, n, why)))
        else:
            found.append((one, other, spearman(one.value[a], other.value[b], features)))
    return found


def extremes(series: Series, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the `n` features with the least and the greatest values, the outermost first."""
    order = np.flatnonzero(series.valued)
    order = order[np.argsort(series.value[order], kind="stable")]
    return order[:n], order[::-1][:n]
