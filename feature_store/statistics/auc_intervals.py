"""The area under the ROC curve (AUC), with a confidence interval that has a width even where the
classes are separated completely.

Its variance is that of the shares of the other class that each window exceeds (DeLong et al. 1988),
summed by document (Obuchowski 1997). Limits are those of a Beta of that variance. Where fewer than
RARE_ERRORS windows are ranked wrongly, the variance misses errors not yet seen, and the AUC counts
for no more judgements than the smaller class has documents.
"""

from collections.abc import Sequence

import numpy as np

from feature_store.statistics.answer_rates import FAR_COUNT, NEAR_COUNT
from feature_store.statistics.estimate import MIN_JUDGEMENTS, TAIL, Estimate

RARE_ERRORS = 3.0
NumberArray = Sequence[float] | np.ndarray


def roc_auc(
    positives: NumberArray,
    negatives: NumberArray,
    positive_documents: Sequence[int] | np.ndarray,
    negative_documents: Sequence[int] | np.ndarray,
) -> Estimate:
    """Estimate the AUC: the probability that a firing window gets a higher value than a silent one,
    counting ties as one half.

    Values that are all equal give no AUC (undefined, not 0.5).
    """
    from scipy.stats import beta

    x, y = np.asarray(positives, float), np.asarray(negatives, float)
    of_x, of_y = np.asarray(positive_documents), np.asarray(negative_documents)
    n, documents = min(len(x), len(y)), min(len(np.unique(of_x)), len(np.unique(of_y)))
    if n < MIN_JUDGEMENTS:
        return Estimate.too_few(n, documents, found=n, unit="windows of the smaller class")
    if np.ptp(np.concatenate([x, y])) == 0:
        return Estimate.none(n, documents, "undefined: every window got the same value")
    above, below = win_shares(x, y)
    value = float(above.mean())
    variance = clustered_variance(above, of_x) + clustered_variance(below, of_y)
    size = value * (1 - value) / variance if variance > 0 else float(documents)
    wrong = min(value, 1 - value) * n
    if wrong < RARE_ERRORS:
        size = min(size, float(documents) * (1 + wrong))
    low = beta.ppf(TAIL, value * size + NEAR_COUNT, (1 - value) * size + FAR_COUNT)
    high = beta.ppf(1 - TAIL, value * size + FAR_COUNT, (1 - value) * size + NEAR_COUNT)
    low = 0.0 if value <= 0 else min(float(low), value)
    return Estimate(value, low, 1.0 if value >= 1 else max(float(high), value), n, documents)


def win_shares(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for the AUC the share of `y` that each element of `x` exceeds [x], and the share of
    `x` that exceeds each element of `y` [y]."""
    sorted_x, sorted_y = np.sort(x), np.sort(y)
    above = np.searchsorted(sorted_y, x, "left") + np.searchsorted(sorted_y, x, "right")
    below = np.searchsorted(sorted_x, y, "left") + np.searchsorted(sorted_x, y, "right")
    return above / (2 * len(y)), 1 - below / (2 * len(x))


def clustered_variance(values: np.ndarray, documents: np.ndarray) -> float:
    """Return the variance of the mean of values for the AUC, with the values of one document
    treated as one cluster."""
    _, of = np.unique(documents, return_inverse=True)
    sums = np.bincount(of, values - values.mean())
    n = len(sums)
    return float((sums**2).sum()) / len(values) ** 2 * n / max(n - 1, 1)
