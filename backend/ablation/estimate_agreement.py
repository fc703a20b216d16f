"""How well estimates agree with what was measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np

MIN_PAIRS = 3
"""Pairs below which nothing is said."""
NEGLIGIBLE_SHARE = 0.01
"""Of the largest measured effect: below it a sign is noise."""


def estimate_agreement(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Spearman, Pearson, slope of measured on predicted, agreement of signs, each with its n.

    None where they are not defined: too few pairs, or one side does not vary.
    """
    n = len(pairs)
    found: dict[str, Any] = dict.fromkeys(("spearman", "pearson", "slope", "signs"))
    found |= {"n": n, "signs_n": 0}
    if n < MIN_PAIRS:
        return found
    from scipy.stats import rankdata

    predicted, measured = np.array(pairs, dtype=np.float64).T
    if np.ptp(predicted) > 0 and np.ptp(measured) > 0:
        both = np.cov(predicted, measured)
        found["pearson"] = float(np.corrcoef(predicted, measured)[0, 1])
        found["spearman"] = float(np.corrcoef(rankdata(predicted), rankdata(measured))[0, 1])
        found["slope"] = float(both[0, 1] / both[0, 0])
    clear = np.abs(measured) > NEGLIGIBLE_SHARE * np.abs(measured).max()
    if clear.any():
        found["signs_n"] = int(clear.sum())
        found["signs"] = float((np.sign(predicted) == np.sign(measured))[clear].mean())
    return found
