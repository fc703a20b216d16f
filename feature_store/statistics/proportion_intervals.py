"""Confidence intervals of proportions: Wilson's of one share, Newcombe's of a difference of two.

Both have a positive width even where every judgement is right or every one is wrong. Sources:
Wilson 1927; Newcombe 1998, Statistics in Medicine 17, 857 (independent samples, method 10) and
2635 (paired samples, method 10).
"""

import math
from typing import overload

import numpy as np

from feature_store.statistics.estimate import Estimate

NORMAL_QUANTILE = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""


@overload
def wilson_interval(k: int, n: int) -> tuple[float, float]: ...
@overload
def wilson_interval(k: np.ndarray, n: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...
def wilson_interval(k: int | np.ndarray, n: int | np.ndarray) -> tuple:
    """Return Wilson's 95 % interval of the share k ÷ n, for n > 0; arrays are taken elementwise."""
    share, z2 = np.asarray(k) / n, NORMAL_QUANTILE**2
    middle = share + z2 / (2 * n)
    half = NORMAL_QUANTILE * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = np.maximum((middle - half) / (1 + z2 / n), 0.0)
    high = np.minimum((middle + half) / (1 + z2 / n), 1.0)
    # At the edges rounding would leave 1e-17 in place of 0, and so the share outside its interval.
    low, high = np.where(share <= 0, 0.0, low), np.where(share >= 1, 1.0, high)
    return (low, high) if isinstance(k, np.ndarray) else (float(low), float(high))


def estimate_share(right: np.ndarray) -> Estimate:
    """Return the share of True in a bool array [n], n > 0, with Wilson's interval."""
    low, high = wilson_interval(int(right.sum()), len(right))
    return Estimate(float(right.mean()), low, high, len(right))


def newcombe_interval(
    k_a: np.ndarray, n_a: int, k_b: np.ndarray, n_b: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return Newcombe's 95 % interval of a difference of two shares, k_a ÷ n_a − k_b ÷ n_b, from
    independent samples, elementwise."""
    p, q = k_a / n_a, k_b / n_b
    (low_a, high_a), (low_b, high_b) = wilson_interval(k_a, n_a), wilson_interval(k_b, n_b)
    low = p - q - np.sqrt((p - low_a) ** 2 + (high_b - q) ** 2)
    return low, p - q + np.sqrt((high_a - p) ** 2 + (q - low_b) ** 2)


def estimate_paired_difference(after: np.ndarray, before: np.ndarray) -> Estimate:
    """Return the share of True in `after` minus that in `before`, two bool arrays [n] that judge
    the same n > 0 texts, with Newcombe's interval for paired samples."""
    n = len(after)
    both, only_after = int((after & before).sum()), int((after & ~before).sum())
    only_before = int((~after & before).sum())
    neither = n - both - only_after - only_before
    p, q = (both + only_after) / n, (both + only_before) / n
    low_p, high_p = wilson_interval(both + only_after, n)
    low_q, high_q = wilson_interval(both + only_before, n)
    phi = _continuity_corrected_phi(both, only_after, only_before, neither)
    down = (p - low_p) ** 2 - 2 * phi * (p - low_p) * (high_q - q) + (high_q - q) ** 2
    up = (high_p - p) ** 2 - 2 * phi * (high_p - p) * (q - low_q) + (q - low_q) ** 2
    value = p - q
    return Estimate(value, value - math.sqrt(max(down, 0.0)), value + math.sqrt(max(up, 0.0)), n)


def _continuity_corrected_phi(both: int, first: int, second: int, neither: int) -> float:
    """Return the correlation of two paired proportions, corrected for continuity as Newcombe's
    interval does; 0 where one of the judgements is constant."""
    spread = (both + first) * (second + neither) * (both + second) * (first + neither)
    if spread == 0:
        return 0.0
    cross, n = both * neither - first * second, both + first + second + neither
    if cross > n / 2:
        cross -= n / 2
    elif cross >= 0:
        cross = 0
    return cross / math.sqrt(spread)
