"""Means over features with their intervals: a series, its nulls, the differences, agreement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from app.scores.read import Series, matched
from autointerp.scorers import SCORERS
from feature_store.score_storage import NULL_LABELS
from feature_store.statistics import (
    DifferenceVerdict,
    Estimate,
    judge_difference,
    mean_over_features,
    spearman_correlation,
)


@dataclass(frozen=True)
class SeriesMeans:
    """A series in one line."""

    series: Series
    mean: Estimate
    hard: Estimate
    nulls: dict[str, Estimate]
    """Null → its mean."""
    above: dict[str, Estimate]
    """Null → the mean difference to it, by feature."""
    yes: dict[str, Any] | None
    """Features and mean share of yes, over as many firing as silent windows; None for scores whose
    judge does not say yes or no."""
    verdict: DifferenceVerdict | None
    """Whether own labels differ from borrowed ones; None where the judge sees no label."""
    without: int
    """Features with a score that has no value."""
    failed: int


def line(series: Series, shares: Mapping[int, float] | None = None) -> SeriesMeans:
    """The means of a series; `shares` of yes by the score's number."""
    bounds = SCORERS[series.scorer].bounds if series.scorer in SCORERS else (0.0, 1.0)
    wide = (bounds[0] - bounds[1], bounds[1] - bounds[0])
    own, numbers = series.value, series.numbers
    return SeriesMeans(
        series,
        mean_over_features(own, bounds),
        mean_over_features(numbers["hard"], bounds),
        {name: mean_over_features(numbers[name], bounds) for name in NULL_LABELS},
        {name: mean_over_features(own - numbers[name], wide) for name in NULL_LABELS},
        yes_of(series, shares or {}),
        verdict_of(series, wide),
        int((~series.valued).sum()),
        int(series.failed.sum()),
    )


def yes_of(series: Series, shares: Mapping[int, float]) -> dict[str, Any] | None:
    """Features whose judge said yes or no, and the mean share of yes."""
    known = [shares[number] for number in series.score.tolist() if number in shares]
    return {"n": len(known), "mean": float(np.mean(known))} if known else None


def verdict_of(series: Series, bounds: tuple[float, float]) -> DifferenceVerdict | None:
    """Whether own labels differ from borrowed ones."""
    if series.scorer in SCORERS and not SCORERS[series.scorer].shows_label:
        return None
    return judge_difference(series.value - series.numbers["borrowed"], bounds)


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
            found.append((one, other, spearman_correlation(one.value[a], other.value[b], features)))
    return found


def extremes(series: Series, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the `n` features with the least and the greatest values, the outermost first."""
    order = np.flatnonzero(series.valued)
    order = order[np.argsort(series.value[order], kind="stable")]
    return order[:n], order[::-1][:n]
