"""Accuracies of a probe with confidence intervals: Wilson's for an accuracy, Newcombe's for a
change on the same texts.

Neither interval has zero width if all texts are classified correctly. Newcombe 1998, Statistics in
Medicine 17, method 10 (paired).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

NORMAL_QUANTILE = 1.959964
"""Normal quantile of a two-sided 95 % interval of an accuracy."""


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the accuracy right / n, with n > 0."""
    p, z2 = right / n, NORMAL_QUANTILE * NORMAL_QUANTILE
    middle, half = p + z2 / (2 * n), NORMAL_QUANTILE * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
    return max(low, 0.0), min(high, 1.0)


def accuracy_with_interval(right: np.ndarray) -> dict[str, Any]:
    """Return an accuracy as `value` with its 95 % interval `low` to `high` and `n`, from bool [n]
    with n > 0.
    """
    low, high = wilson_interval(int(right.sum()), len(right))
    return {"value": float(right.mean()), "low": low, "high": high, "n": len(right)}


def accuracy_change(after: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """Return the change of accuracy on the same texts, after minus before, with Newcombe's paired
    95 % interval.
    """
    n = len(after)
    both, only_after = int((after & before).sum()), int((after & ~before).sum())
    only_before = int((~after & before).sum())
    neither = n - both - only_after - only_before
    p1, p2 = (both + only_after) / n, (both + only_before) / n
    (low1, high1), (low2, high2) = (
        wilson_interval(both + only_after, n),
        wilson_interval(both + only_before, n),
    )
    phi = _phi_coefficient(both, only_after, only_before, neither)
    value = p1 - p2
    down = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    up = (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2
    return {
        "value": value,
        "low": value - math.sqrt(max(down, 0.0)),
        "high": value + math.sqrt(max(up, 0.0)),
        "n": n,
    }


def _phi_coefficient(e: int, f: int, g: int, h: int) -> float:
    """Return the phi correlation of two classifications for the interval of a change of accuracy,
    corrected for continuity; 0 if one does not vary.
    """
    spread = (e + f) * (g + h) * (e + g) * (f + h)
    if spread == 0:
        return 0.0
    cross, n = e * h - f * g, e + f + g + h
    if cross > n / 2:
        cross -= n / 2
    elif cross >= 0:
        cross = 0
    return cross / math.sqrt(spread)


def accuracy_by_cell(right: np.ndarray, cells: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the accuracy in each cell of label and group, by name."""
    names = np.array(cells)
    return {str(name): accuracy_with_interval(right[names == name]) for name in sorted(set(cells))}
