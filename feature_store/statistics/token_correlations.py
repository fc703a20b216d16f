"""Correlations, explained variance and means over tokens, with documents as independent units.

The statistic is computed again without each document (a stratified jackknife), on a scale on which
it is nearly symmetric: Fisher's z for r, log(1 − R²). Activations have long tails, so a few
documents dominate; the t quantile's degrees of freedom are those of the documents' contributions
(Satterthwaite): (Σd²)² ÷ Σd⁴, less 1. The bootstrap over documents covers only 70–80 % here.
"""

from collections.abc import Callable, Sequence

import numpy as np

from feature_store.statistics.estimate import MIN_JUDGEMENTS, TAIL, Estimate

CORRELATION_EDGE = 1e-9
NumberArray = Sequence[float] | np.ndarray
DocumentLabels = Sequence[int] | Sequence[str] | np.ndarray
CONSTANT_NOTE = "undefined: {} the same everywhere"


def pearson_correlation(
    said: NumberArray,
    true: NumberArray,
    documents: DocumentLabels,
    strata: DocumentLabels | None = None,
) -> Estimate:
    """Estimate Pearson's correlation r over all rows (for tokens: their concatenation).

    `strata` separates documents that were sampled separately (firing, silent); one document may be
    in both. Undefined, not 0, where either side is constant.
    """
    x, y = np.asarray(said, float), np.asarray(true, float)
    terms = [np.ones_like(x), x, y, x * x, y * y, x * y]
    sums, groups = sum_by_document(np.stack(terms, -1), documents, strata)
    n = len(sums)
    if n < MIN_JUDGEMENTS:
        return Estimate.too_few(len(x), n, found=n, unit="documents")
    for side, name in ((x, "the judge said"), (y, "the feature was")):
        if is_constant(side):
            return Estimate.none(len(x), n, CONSTANT_NOTE.format(name))
    value = float(pearson_from_sums(sums.sum(0)))
    low, high = jackknife_interval(fisher_z, sums, groups)
    # Near ±1 documents may all agree: never closer to it than 1 ÷ n, nor narrower than half of
    # Fisher's own 1 ÷ √(n − 3).
    inner, least = np.arctanh(np.clip(value, -1 + 1 / n, 1 - 1 / n)), 0.5 / np.sqrt(n - 3)
    low, high = np.tanh(min(low, inner - least)), np.tanh(max(high, inner + least))
    return Estimate(value, float(low), float(high), len(x), n)


def spearman_correlation(
    one: NumberArray, other: NumberArray, documents: DocumentLabels
) -> Estimate:
    """Estimate Spearman's rank correlation, with ties averaged: how far two scores agree in
    order."""
    from scipy.stats import rankdata

    return pearson_correlation(rankdata(one), rankdata(other), documents)


def explained_variance(
    said: NumberArray,
    true: NumberArray,
    documents: DocumentLabels,
    strata: DocumentLabels | None = None,
) -> Estimate:
    """Estimate explained variance over tokens, 1 − Σ(true − predicted)² ÷ Σ(true − mean)²: at most
    1, below 0 where the mean predicts better."""
    x, y = np.asarray(said, float), np.asarray(true, float)
    terms = [np.ones_like(y), y, y * y, (y - x) ** 2]
    sums, groups = sum_by_document(np.stack(terms, -1), documents, strata)
    n = len(sums)
    if n < MIN_JUDGEMENTS:
        return Estimate.too_few(len(x), n, found=n, unit="documents")
    if is_constant(y):
        return Estimate.none(len(x), n, CONSTANT_NOTE.format("the feature was"))
    left = np.exp(log_unexplained_share(sums.sum(0)))
    high, low = (1 - np.exp(end) for end in jackknife_interval(log_unexplained_share, sums, groups))
    if left <= CORRELATION_EDGE:  # perfect on all of n documents
        low, high = 1 - 3 / n, 1.0
    return Estimate(float(1 - left), float(low), float(high), len(x), n)


def mean_by_document(values: NumberArray, documents: DocumentLabels) -> Estimate:
    """Estimate the mean of unbounded values over tokens, with documents as units; there is no
    interval where all values are equal."""
    x = np.asarray(values, float)
    sums, groups = sum_by_document(np.stack([np.ones_like(x), x], -1), documents, None)
    n = len(sums)
    if n < MIN_JUDGEMENTS:
        return Estimate.too_few(len(x), n, found=n, unit="documents")
    value = float(x.mean())
    if is_constant(x):
        return Estimate.none(len(x), n, f"{value:.3g} each time: an interval cannot be had")
    low, high = jackknife_interval(lambda s: s[..., 1] / s[..., 0], sums, groups)
    return Estimate(value, low, high, len(x), n)


def sum_by_document(
    terms: np.ndarray, documents: DocumentLabels, strata: DocumentLabels | None
) -> tuple[np.ndarray, np.ndarray]:
    """Add up rows [n, terms], one row per token, within each document and stratum; return the sums
    [documents, terms] and the stratum of each sum."""
    _, of = np.unique(np.asarray(documents), return_inverse=True)
    _, part = np.unique(np.asarray(strata if strata is not None else of * 0), return_inverse=True)
    parts = part.max(initial=0) + 1
    names, row = np.unique(of * parts + part, return_inverse=True)
    sums = np.zeros((len(names), terms.shape[1]))
    np.add.at(sums, row, terms)
    return sums, names % parts


def jackknife_interval(
    statistic: Callable[[np.ndarray], np.ndarray], sums: np.ndarray, groups: np.ndarray
) -> tuple[float, float]:
    """Return the 95 % limits of a correlation or mean by the jackknife, which leaves out one
    document at a time. `statistic` computes it from summed terms [..., terms]; both limits equal
    the value where all documents agree."""
    from scipy.stats import t

    value, without = float(statistic(sums.sum(0))), statistic(sums.sum(0) - sums)
    apart = np.zeros(len(sums))
    for group in np.unique(groups):
        inside = groups == group
        size = int(inside.sum())
        apart[inside] = (without[inside] - without[inside].mean()) * np.sqrt(1 - 1 / max(size, 2))
    square = float((apart**2).sum())
    if square <= 0:
        return value, value
    freedom = max(square**2 / float((apart**4).sum()) - 1, 2.0)
    half = float(t.ppf(1 - TAIL, freedom)) * np.sqrt(square)
    return value - half, value + half


def fisher_z(sums: np.ndarray) -> np.ndarray:
    """Return Fisher's z of the correlation r, from the sums of `pearson_from_sums`."""
    return np.arctanh(np.clip(pearson_from_sums(sums), -1 + CORRELATION_EDGE, 1 - CORRELATION_EDGE))


def pearson_from_sums(sums: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation r from the sums n, Σx, Σy, Σx², Σy², Σxy [..., 6]; 0 where a
    side is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    size = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    return np.where(size > 0, (n * xy - x * y) / np.sqrt(np.where(size > 0, size, 1)), 0.0)


def log_unexplained_share(sums: np.ndarray) -> np.ndarray:
    """Return the logarithm of the unexplained share of variance over tokens (error ÷ variance),
    from n, Σy, Σy², Σ(y − x)² [..., 4]."""
    n, y, yy, error = np.moveaxis(sums, -1, 0)
    return np.log(np.maximum(error, 1e-300) / np.maximum(yy - y * y / n, 1e-300))


def is_constant(values: np.ndarray) -> bool:
    """Return whether all values of one side of a correlation are equal up to rounding."""
    return bool(np.ptp(values) <= 1e-12 * max(float(np.abs(values).max()), 1e-300))
