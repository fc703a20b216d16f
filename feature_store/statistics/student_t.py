"""Student's t: its quantile, and the confidence interval of a mean that it gives."""

from functools import cache

import numpy as np

from feature_store.statistics.estimate import TAIL, Estimate


@cache
def student_t_quantile(degrees: float) -> float:
    """Return the 97.5 % quantile of Student's t with `degrees` degrees of freedom."""
    from scipy.special import stdtrit  # scipy.stats' t.ppf, without the import of all of stats

    return float(stdtrit(degrees, 1 - TAIL))


def estimate_student_mean(values: np.ndarray) -> Estimate:
    """Return the mean of values [n] with Student's interval; no interval below two values."""
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return Estimate(mean, n=n)
    half = student_t_quantile(n - 1) * float(np.std(values, ddof=1)) / np.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)
