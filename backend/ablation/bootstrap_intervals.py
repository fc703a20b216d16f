"""Bootstrap confidence intervals over prompts, bias-corrected and accelerated (BCa; Efron 1987)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

RowStatistic = Callable[[Float[np.ndarray, "... n k"]], Float[np.ndarray, "..."]]
"""Statistic of rows: maps [..., n, k] to [...]."""
RESAMPLES = 4_000
"""Number of bootstrap resamples."""
MIN_ROWS = 5
"""Minimum number of rows for a bootstrap interval; with fewer the resamples say too little."""
CONFIDENCE_LEVEL = 0.95
"""Confidence level of the bootstrap intervals."""
NUMBERS_PER_BLOCK = 1 << 21
"""Maximum number of values in one block of resamples, which bounds memory."""


def first_column_mean(rows: Float[np.ndarray, "... n k"]) -> Float[np.ndarray, "..."]:
    """Return the mean of the first column over rows: the default statistic of a bootstrap
    estimate.
    """
    return rows[..., 0].mean(-1)


def relative_reduction(rows: Float[np.ndarray, "... n k"]) -> Float[np.ndarray, "..."]:
    """Return 1 − mean of the second column ÷ mean of the first: the ratio of means over rows whose
    bootstrap interval is reported for a removed share.
    """
    return 1 - rows[..., 1].mean(-1) / rows[..., 0].mean(-1)


def bootstrap_estimate(
    rows: Float[np.ndarray, "n k"], statistic: RowStatistic = first_column_mean, seed: int = 0
) -> dict[str, Any]:
    """Return a statistic of rows as `value` with its 95 % BCa bootstrap interval `low` to `high`,
    and `n`.

    The interval is None with fewer than MIN_ROWS rows, and where all resamples agree.
    """
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
    """Return the statistic of RESAMPLES bootstrap resamples of the rows, shape [resamples]."""
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
    """Return the two quantiles of the bootstrap resamples that bound the BCa interval."""
    from scipy.stats import norm

    # Bias correction z0; clipped, since resamples all on one side would make it infinite.
    below = (drawn < value).mean() + (drawn == value).mean() / 2
    bias = float(norm.ppf(np.clip(below, 1e-4, 1 - 1e-4)))
    # Acceleration from the skewness of the jackknife values.
    left = np.array([statistic(np.delete(rows, i, axis=0)) for i in range(len(rows))])
    apart = left.mean() - left
    squares = float((apart**2).sum())
    skew = float((apart**3).sum()) / (6 * squares**1.5) if squares > 0 else 0.0
    ends = []
    for tail in ((1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2):
        z = bias + float(norm.ppf(tail))
        ends.append(float(norm.cdf(bias + z / (1 - skew * z))))
    return ends
