"""Correlations, explained variance and means: the bootstrap over documents, each class by itself.

What a document adds to each sum is kept, so a resample is one product of matrices. Percentiles are
taken on a scale where they are near to symmetric (Fisher's z for correlations) and spread by
t ÷ z · √(n ÷ (n − 1)), which percentile intervals of few documents lack (Hesterberg 2015).
"""

from collections.abc import Sequence

import numpy as np

from autointerp.statistics.estimate import ENOUGH, LEVEL, Estimate

RESAMPLES = 2000
TAIL = (1 - LEVEL) / 2
Numbers = Sequence[float] | np.ndarray
Labels = Sequence[int] | Sequence[str] | np.ndarray
SAME = "undefined: {} the same everywhere"


def correlation(
    said: Numbers, true: Numbers, documents: Labels, strata: Labels | None = None, seed: int = 0
) -> Estimate:
    """Pearson's r over all rows (of tokens: their concatenation), documents resampled.

    `strata` parts documents that were drawn apart (firing, silent); one document may lie in both.
    Undefined, not 0, where either side is constant.
    """
    x, y = np.asarray(said, float), np.asarray(true, float)
    sums, groups = by_document(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], -1),
                               documents, strata)  # fmt: skip
    n = len(sums)
    if n < ENOUGH:
        return Estimate.too_few(len(x), n, "documents")
    for side, name in ((x, "the judge said"), (y, "the feature was")):
        if constant(side):
            return Estimate.none(len(x), n, SAME.format(name))
    value = float(pearson(sums.sum(0)))
    z = np.arctanh(np.clip(pearson(resampled(sums, groups, seed)), -1 + 1e-9, 1 - 1e-9))
    low, high = spread(z, float(np.arctanh(np.clip(value, -1 + 1e-9, 1 - 1e-9))), n)
    # At an edge all resamples agree; Fisher's 1 ÷ √(n − 3), and no nearer to 1 than 1 ÷ n tells.
    inner = np.arctanh(np.clip(value, -1 + 1 / n, 1 - 1 / n))
    least = 0.5 / np.sqrt(n - 3)
    low, high = min(low, inner - least), max(high, inner + least)
    return Estimate(value, float(np.tanh(low)), float(np.tanh(high)), len(x), n)


def spearman(one: Numbers, other: Numbers, documents: Labels, seed: int = 0) -> Estimate:
    """Pearson's r of ranks, ties shared: how far two scores agree in order."""
    from scipy.stats import rankdata

    return correlation(rankdata(one), rankdata(other), documents, seed=seed)


def explained(
    said: Numbers, true: Numbers, documents: Labels, strata: Labels | None = None, seed: int = 0
) -> Estimate:
    """1 − Σ(true − said)² ÷ Σ(true − mean)²: 1 at best, below 0 where the mean says more."""
    x, y = np.asarray(said, float), np.asarray(true, float)
    sums, groups = by_document(np.stack([np.ones_like(y), y, y * y, (y - x) ** 2], -1),
                               documents, strata)  # fmt: skip
    n = len(sums)
    if n < ENOUGH:
        return Estimate.too_few(len(x), n, "documents")
    if constant(y):
        return Estimate.none(len(x), n, SAME.format("the feature was"))
    value = float(share_explained(sums.sum(0)))
    low, high = spread(share_explained(resampled(sums, groups, seed)), value, n)
    if low >= high:  # every document alike; perfect, most likely
        low, high = value - 3 / n, value
    return Estimate(value, min(low, value), min(max(high, value), 1.0), len(x), n)


def mean(values: Numbers, documents: Labels, seed: int = 0) -> Estimate:
    """The mean of unbounded values, documents resampled. No interval where all are equal."""
    x = np.asarray(values, float)
    sums, groups = by_document(np.stack([np.ones_like(x), x], -1), documents, None)
    n = len(sums)
    if n < ENOUGH:
        return Estimate.too_few(len(x), n, "documents")
    value = float(x.mean())
    if constant(x):
        return Estimate.none(len(x), n, f"{value:.3g} each time: an interval cannot be had")
    drawn = resampled(sums, groups, seed)
    low, high = spread(drawn[:, 1] / drawn[:, 0], value, n)
    return Estimate(value, low, high, len(x), n)


def by_document(
    terms: np.ndarray, documents: Labels, strata: Labels | None
) -> tuple[np.ndarray, np.ndarray]:
    """The sums [documents, terms] of rows [n, terms], and the stratum of each document."""
    _, of = np.unique(np.asarray(documents), return_inverse=True)
    _, part = np.unique(np.asarray(strata if strata is not None else of * 0), return_inverse=True)
    names, row = np.unique(of * (part.max(initial=0) + 1) + part, return_inverse=True)
    sums = np.zeros((len(names), terms.shape[1]))
    np.add.at(sums, row, terms)
    return sums, names % (part.max(initial=0) + 1)


def resampled(sums: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Sums of RESAMPLES draws of as many documents of each stratum [resamples, terms]."""
    dice = np.random.default_rng(seed)
    total = np.zeros((RESAMPLES, sums.shape[1]))
    for group in np.unique(groups):
        part = sums[groups == group]
        total += dice.multinomial(len(part), np.full(len(part), 1 / len(part)), RESAMPLES) @ part
    return total


def pearson(sums: np.ndarray) -> np.ndarray:
    """r from n, Σx, Σy, Σx², Σy², Σxy [..., 6]; 0 where a resample is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    size = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    return np.where(size > 0, (n * xy - x * y) / np.sqrt(np.maximum(size, 1e-300)), 0.0)


def share_explained(sums: np.ndarray) -> np.ndarray:
    """1 − error ÷ variance from n, Σy, Σy², Σ(y − x)² [..., 4]."""
    n, y, yy, error = np.moveaxis(sums, -1, 0)
    return 1 - error / np.maximum(yy - y * y / n, 1e-300)


def spread(drawn: np.ndarray, value: float, n: int) -> tuple[float, float]:
    """The percentiles of resamples, moved away from the value as few documents need."""
    from scipy.stats import norm, t

    wider = t.ppf(1 - TAIL, n - 1) / norm.ppf(1 - TAIL) * np.sqrt(n / (n - 1))
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL])
    return float(value + (low - value) * wider), float(value + (high - value) * wider)


def constant(values: np.ndarray) -> bool:
    """Whether all are equal but for rounding."""
    x = np.asarray(values)
    return bool(np.ptp(x) <= 1e-12 * max(float(np.abs(x).max()), 1e-300))
