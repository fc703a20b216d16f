"""Agreement between estimated effects and measured effects: correlations, slope and share of equal
signs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

MIN_PAIRS = 3
"""Minimum number of (estimated, measured) pairs for which agreement is computed."""
NEGLIGIBLE_SHARE = 0.01
"""Share of the largest measured effect below which the sign of an effect counts as noise."""


def estimate_agreement(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return how well the estimated effects of ablations agree with the measured ones.

    `pairs` holds (estimated, measured) effects. The result has Spearman's and Pearson's
    correlation, the slope of measured on estimated effects and the share of equal signs (`signs`),
    with the numbers of pairs used (`n`, `signs_n`). A figure is None where it is undefined: fewer
    than MIN_PAIRS pairs, or no variation in one of the two.
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
