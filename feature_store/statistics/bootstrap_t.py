"""Bootstrap-t intervals of means and of ratios of means over prompts, texts or features.

A ratio of means r = Σu ÷ Σv is linearised: unit i contributes (uᵢ − r·vᵢ) ÷ Σv, and the standard
error of r follows from these contributions. Each resample gives its own r* and standard error, and
the quantiles of t* = (r* − r) ÷ se* bound the interval (Efron & Tibshirani 1993, chapter 12). A
mean is the ratio with v = 1. Skewed quantities, such as losses and effects, are covered better than
by percentiles or by Student's t; scipy has no bootstrap-t. The quantiles of t* are unstable for few
units, and undefined where resamples without any spread are common; there Student's t is used.
docs/scores.md shows the coverage.
"""

import numpy as np

from feature_store.statistics.estimate import TAIL, Estimate
from feature_store.statistics.student_t import student_t_quantile

RESAMPLES = 4_000
MIN_UNITS = 5
"""Fewest prompts, texts or features that give an interval."""
MIN_UNITS_RESAMPLED = 10
"""Fewest units whose t* is resampled; below it the interval is Student's."""
NO_SPREAD = 1e-6
"""A resample whose standard error is below this share of the sample's own has no spread."""
MAX_COUNTS = 1 << 21
"""Most resampling counts (resamples × units) held in memory at once."""


def estimate_mean(
    values: np.ndarray, seed: int = 0, strata: np.ndarray | None = None, min_units: int = MIN_UNITS
) -> Estimate:
    """Return the mean of values [n] with its bootstrap-t interval; see `estimate_ratio`."""
    return estimate_ratio(values, np.ones(len(values)), seed, strata, min_units)


def estimate_ratio(
    numerator: np.ndarray,
    denominator: np.ndarray,
    seed: int = 0,
    strata: np.ndarray | None = None,
    min_units: int = MIN_UNITS,
) -> Estimate:
    """Return Σ numerator ÷ Σ denominator, of arrays [n], with its bootstrap-t interval.

    `strata` [n] names the groups (such as prompts) within which units are resampled; without it
    all units form one group. There is no interval below `min_units` units, where all units agree,
    or where the ratio is not finite.
    """
    n, total = len(numerator), float(np.sum(denominator))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.divide(np.sum(numerator), total))
    if n < max(min_units, 2) or not np.isfinite(value):
        return Estimate(value, n=n)
    groups = np.zeros(n, dtype=int) if strata is None else np.unique(strata, return_inverse=True)[1]
    # Of centred numerators the ratio is r* − r itself, free of rounding.
    centred = numerator - value * denominator
    error = float(_measure_ratios(np.ones((1, n)), centred, denominator, groups)[1][0])
    if not error > 1e-12 * max(abs(value), 1e-300):
        return Estimate(value, n=n)
    upper, lower = _scaled_quantiles(centred, denominator, groups, seed, error)
    return Estimate(value, value - upper * error, value - lower * error, n)


def _scaled_quantiles(
    centred: np.ndarray, denominator: np.ndarray, groups: np.ndarray, seed: int, error: float
) -> tuple[float, float]:
    """Return the 97.5 % and 2.5 % quantiles of t* = (r* − r) ÷ se* over bootstrap resamples, with
    r* a resample's ratio and se* its standard error; those of Student's t for few units or little
    spread."""
    n = len(centred)
    student = student_t_quantile(max(n - int(groups.max()) - 1, 1))
    if n < MIN_UNITS_RESAMPLED:
        return student, -student
    apart, errors = _resample(centred, denominator, groups, seed)
    usable = np.isfinite(apart) & (errors > NO_SPREAD * error)
    if usable.mean() < 1 - TAIL:
        return student, -student
    upper, lower = np.quantile(apart[usable] / errors[usable], [1 - TAIL, TAIL])
    # Ties can make every t* one-sided; the estimate itself always lies in its interval.
    return max(float(upper), 0.0), min(float(lower), 0.0)


def _resample(
    numerator: np.ndarray, denominator: np.ndarray, groups: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratio and its standard error in each of RESAMPLES bootstrap resamples
    [resamples]."""
    rng, n = np.random.default_rng(seed), len(numerator)
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    step = max(1, MAX_COUNTS // n)
    parts = []
    for begin in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - begin)
        counts = np.zeros((size, n))
        for inside in members:
            even = np.full(len(inside), 1 / len(inside))
            counts[:, inside] = rng.multinomial(len(inside), even, size)
        parts.append(_measure_ratios(counts, numerator, denominator, groups))
    return np.concatenate([r for r, _ in parts]), np.concatenate([e for _, e in parts])


def _measure_ratios(
    counts: np.ndarray, numerator: np.ndarray, denominator: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ratio and linearised standard error [samples]; counts[b, i] is unit i in sample b.

    The variance adds, over groups of m units, m ÷ (m − 1) · Σ(cᵢ − c̄)², cᵢ being the linearised
    contributions; a group of one unit adds nothing.
    """
    total = counts @ denominator
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (counts @ numerator) / total
        variance = np.zeros(len(counts))
        for group in range(groups.max() + 1):
            inside = groups == group
            m, u, v, c = (
                int(inside.sum()),
                numerator[inside],
                denominator[inside],
                counts[:, inside],
            )
            if m < 2:
                continue
            squares = c @ (u * u) - 2 * ratio * (c @ (u * v)) + ratio**2 * (c @ (v * v))
            sums = c @ u - ratio * (c @ v)
            variance += m / (m - 1) * np.maximum(squares - sums**2 / m, 0.0)
        return ratio, np.sqrt(variance) / np.abs(total)
