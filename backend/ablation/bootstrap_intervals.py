"""Intervals over prompts: the bootstrap, bias-corrected and accelerated (Efron 1987)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

RowStatistic = Callable[[Float[np.ndarray, "... n k"]], Float[np.ndarray, "..."]]
RESAMPLES = 4_000
MIN_ROWS = 5
"""Prompts below which there is no interval: the bootstrap knows nothing of what it has not seen."""
CONFIDENCE_LEVEL = 0.95
NUMBERS_PER_BLOCK = 1 << 21
"""Numbers of one block of resamples."""


def first_column_mean(rows: Float[np.ndarray, "... n k"]) -> Float[np.ndarray, "..."]:
    """Mean of the first column."""
    return rows[..., 0].mean(-1)


def relative_reduction(rows: Float[np.ndarray, "... n k"]) -> Float[np.ndarray, "..."]:
    """1 - mean of the second column ÷ mean of the first: a ratio of means over prompts."""
    return 1 - rows[..., 1].mean(-1) / rows[..., 0].mean(-1)


def bootstrap_estimate(
    rows: Float[np.ndarray, "n k"], statistic: RowStatistic = first_column_mean, seed: int = 0
) -> dict[str, Any]:
    """`value` with `low` and `high` (95 %) and `n`; no interval below LEAST rows, nor where all
    resamples agree."""
    n = len(rows)
    value = float(statistic(rows))
    found: dict[str, Any] = {"value": value, "low": None, "high": None, "n": n}
    if n < MIN_ROWS or not np.isfinite(value):
        return found
    drawn = resample_statistic(rows, statistic, seed)
    if not np.isfinite(drawn).all() or np.ptp(drawn) <= 1e-12 * max(abs(value), 1e-300):
        return found
    low, high = np.quantile(drawn, bca_quantiles(rows, statistic, drawn, value))
    return found | {"low": float(low), "high": float(high)}


def resample_statistic(
    rows: Float[np.ndarray, "n k"], statistic: RowStatistic, seed: int
) -> Float[np.ndarray, "b"]:
    """The statistic of resamples of the rows."""
    rng, n = np.random.default_rng(seed), len(rows)
    step = max(1, NUMBERS_PER_BLOCK // rows.size)
    found = []
    for begin in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - begin)
        found.append(statistic(rows[rng.integers(n, size=(size, n))]))
    return np.concatenate(found)


def bca_quantiles(
    rows: Float[np.ndarray, "n k"], statistic: RowStatistic, drawn: np.ndarray, value: float
) -> list[float]:
    """The quantiles of the resamples that bound the interval."""
    from scipy.stats import norm

    below = (drawn < value).mean() + (drawn == value).mean() / 2
    bias = float(norm.ppf(np.clip(below, 1e-4, 1 - 1e-4)))
    left = np.array([statistic(np.delete(rows, i, axis=0)) for i in range(len(rows))])
    apart = left.mean() - left
    squares = float((apart**2).sum())
    skew = float((apart**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    ends = []
    for tail in ((1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2):
        z = bias + float(norm.ppf(tail))
        ends.append(float(norm.cdf(bias + z / (1 - skew * z))))
    return ends
