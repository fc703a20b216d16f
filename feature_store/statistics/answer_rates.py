"""Rates of right answers, with confidence intervals that hold near 0 and 1, and what follows from
two rates: balanced accuracy, F1, precision.

Windows of one document are not independent, so a class counts as fewer judgements than it has: its
effective number is n ÷ design effect (Kish 1965; Rao & Scott 1992). Limits are quantiles of Beta
distributions with that number (as Jeffreys' interval, with slightly larger pseudo-counts), so that
the interval has a width where every answer was right. The mean of two rates is approximated by one
Beta of the same mean and variance. docs/scores.md tables the coverage.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from feature_store.statistics.estimate import MIN_JUDGEMENTS, TAIL, Estimate

NEAR_COUNT, FAR_COUNT = 0.35, 0.65
"""Pseudo-counts of a limit, on its own side and on the other. Halves (Jeffreys) cover 79 % where
whole documents are right or wrong, 98 % of them right, with 20 judgements per class; these cover 97
%."""
ICC_BEFORE = 0.3
"""Prior correlation of answers within a document."""
ICC_WEIGHT = 1.0
"""Weight of the prior correlation: as much as pairs of judgements of total variance 1."""
FEW_PER_DOCUMENT, MANY_PER_DOCUMENT = 3.0, 5.0
"""Judgements per document: up to FEW_PER_DOCUMENT the prior above is used. From MANY_PER_DOCUMENT
on, a class has few documents for its judgements, and the correlation is hard to estimate."""
ICC_BEFORE_MANY = 0.4
"""Prior correlation from MANY_PER_DOCUMENT judgements per document on, with a weight that grows
with the pairs within a document; limits use the quantiles for the number of documents (Korn &
Graubard 1998). Without this, 5 judgements per document that correlate by 0.5 are covered 92 %, 8 of
them 90 %."""
ICC_ROUNDS = 4
BETA_POINTS = 200


@dataclass(frozen=True)
class ClassAnswers:
    """Answers of a judge on one class of windows (firing or silent): which were right, with their
    documents and weights."""

    hits: np.ndarray
    """Truth values [..., n]: whether the answer was right. Leading axes are repetitions."""
    documents: np.ndarray
    """Document of each answer [n]."""
    weights: np.ndarray | None = None
    """Number of windows that each answer represents [n]; None for equal weights."""

    @classmethod
    def of(
        cls,
        hits: Sequence[bool] | np.ndarray,
        documents: Sequence[int] | np.ndarray,
        weights: Sequence[float] | np.ndarray | None = None,
    ) -> "ClassAnswers":
        """Build a judge's answers on one class of windows from sequences of equal length: which
        were right, their documents and weights."""
        found = cls(
            np.asarray(hits, dtype=bool),
            np.asarray(documents),
            None if weights is None else np.asarray(weights, dtype=float),
        )
        if found.hits.shape[-1] != len(found.documents):
            raise ValueError(f"{found.hits.shape[-1]} answers of {len(found.documents)} documents")
        return found

    @property
    def n(self) -> int:
        """Number of answers in the class."""
        return len(self.documents)

    @property
    def n_documents(self) -> int:
        """Number of distinct documents with answers."""
        return len(self.document_sizes)

    def share(self) -> np.ndarray:
        """Return the weighted share of right answers on the class's windows, for each repetition
        [...]."""
        return np.average(self.hits, axis=-1, weights=self.weights)

    def effective(self, icc: np.ndarray) -> np.ndarray:
        """Return the effective number of independent answers [...], for a correlation `icc` between
        two answers of one document: (Σw)² ÷ ((1 − icc)·Σw² + icc·Σ(Σw of a document)²)."""
        weights = np.ones(self.n) if self.weights is None else self.weights
        of_document = weights @ self._members
        spread = (1 - icc) * (weights**2).sum() + icc * (of_document**2).sum()
        return weights.sum() ** 2 / spread

    @cached_property
    def document_sizes(self) -> np.ndarray:
        """Number of answers of each document [documents]."""
        return np.unique(self.documents, return_counts=True)[1]

    @cached_property
    def _members(self) -> np.ndarray:
        """Membership matrix [n, documents]: 1 where an answer belongs to a document."""
        _, of = np.unique(self.documents, return_inverse=True)
        return np.eye(of.max(initial=-1) + 1)[of]


def correlation_within(classes: Sequence[ClassAnswers]) -> np.ndarray:
    """Return the correlation between a judge's answers on two windows of one document [...],
    estimated jointly for all classes.

    It is computed from products of residuals within documents, corrected for the means being
    estimated, and shrunk towards `correlation_prior` where there is little information (no errors,
    few pairs).
    """
    parts = [_residual_products(one) for one in classes]
    before, weight = correlation_prior(classes)
    icc = np.asarray(before)
    for _ in range(ICC_ROUNDS):  # the correction depends on the result
        above = weight * before
        below = weight
        for one, (product, n_pairs, variance) in zip(classes, parts, strict=True):
            above = above + product + n_pairs * variance / one.effective(icc)
            below = below + n_pairs * variance
        icc = np.clip(above / below, 0, 1)
    return icc


def judgements_per_document(classes: Sequence[ClassAnswers]) -> float:
    """Return how many answers the document of an average answer has: Σsize² ÷ Σsize."""
    sizes = np.concatenate([one.document_sizes for one in classes])
    return float((sizes**2).sum() / max(sizes.sum(), 1))


def document_crowding(classes: Sequence[ClassAnswers]) -> float:
    """Return how crowded documents are with answers: 0 up to FEW_PER_DOCUMENT, 1 from
    MANY_PER_DOCUMENT on, and linear between."""
    return float(
        np.clip(
            (judgements_per_document(classes) - FEW_PER_DOCUMENT)
            / (MANY_PER_DOCUMENT - FEW_PER_DOCUMENT),
            0,
            1,
        )
    )


def correlation_prior(classes: Sequence[ClassAnswers]) -> tuple[float, float]:
    """Return the prior correlation of answers within a document, and its weight."""
    before = ICC_BEFORE + document_crowding(classes) * (ICC_BEFORE_MANY - ICC_BEFORE)
    pairs = (judgements_per_document(classes) - 1) / (FEW_PER_DOCUMENT - 1)
    return before, ICC_WEIGHT * max(pairs, 1.0) ** 2


def effective_sizes(classes: Sequence[ClassAnswers]) -> list[np.ndarray]:
    """Return the effective number of independent answers of each class [...], given the correlation
    of answers within a document, which is estimated from all classes.

    Where documents are crowded, the number is reduced by (t quantile of the answers ÷ t quantile of
    the documents)², in proportion to the correlation: quantiles for few documents are wider.
    """
    from scipy.special import stdtrit  # scipy.stats' t.ppf is this

    icc = correlation_within(classes)
    freedom = [
        sum(n) - len(classes) for n in zip(*((c.n, c.n_documents) for c in classes), strict=True)
    ]
    all_, documents = (stdtrit(max(n, 1), 1 - TAIL) for n in freedom)
    share = 1 - document_crowding(classes) * icc * (1 - (all_ / documents) ** 2)
    return [one.effective(icc) * share for one in classes]


def _residual_products(one: ClassAnswers) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the sum of products of the answers' residuals over ordered pairs of one document
    [...], the number of those pairs, and the variance of an answer [...]."""
    residual = one.hits - one.hits.mean(-1, keepdims=True)
    members = one._members
    square = (residual**2).sum(-1)
    product = ((residual @ members) ** 2).sum(-1) - square
    sizes = members.sum(0)
    return product, float((sizes * (sizes - 1)).sum()), square / max(one.n - 1, 1)


def rate_interval(classes: Sequence[ClassAnswers]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper 95 % limit [...] of the rate of right answers, averaged over the
    classes of windows."""
    from scipy.special import betaincinv  # scipy.stats' beta.ppf is this, at thirty times the time

    shares = [one.share() for one in classes]
    sizes = effective_sizes(classes)
    low = betaincinv(*_combined_beta(shares, sizes, NEAR_COUNT, FAR_COUNT), TAIL)
    high = betaincinv(*_combined_beta(shares, sizes, FAR_COUNT, NEAR_COUNT), 1 - TAIL)
    mean = np.mean(shares, axis=0)
    return np.where(mean <= 0, 0.0, np.minimum(low, mean)), np.where(
        mean >= 1, 1.0, np.maximum(high, mean)
    )


def _combined_beta(
    shares: Sequence[np.ndarray], sizes: Sequence[np.ndarray], hit: float, miss: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the parameters of a Beta distribution with the mean and variance of the averaged rate
    of right answers, where each class's rate has a Beta distribution."""
    mean, variance = np.asarray(0.0), np.asarray(0.0)
    for share, size in zip(shares, sizes, strict=True):
        a, b = share * size + hit, (1 - share) * size + miss
        mean = mean + a / (a + b) / len(shares)
        variance = variance + a * b / ((a + b) ** 2 * (a + b + 1)) / len(shares) ** 2
    total = mean * (1 - mean) / variance - 1
    return mean * total, (1 - mean) * total


def answer_rate(answers: ClassAnswers) -> Estimate:
    """Estimate the rate of a judge's right answers on one class of windows."""
    if answers.n < MIN_JUDGEMENTS:
        return Estimate.too_few(answers.n, answers.n_documents, found=answers.n, unit="judgements")
    low, high = rate_interval([answers])
    return Estimate(float(answers.share()), float(low), float(high), answers.n, answers.n_documents)


def balanced_accuracy(positives: ClassAnswers, negatives: ClassAnswers) -> Estimate:
    """Estimate balanced accuracy, the mean of the rates of right answers on firing and on silent
    windows; chance is 0.5."""
    if problem := _too_few_windows(positives, negatives):
        return problem
    low, high = rate_interval([positives, negatives])
    value = float(np.mean([positives.share(), negatives.share()]))
    return _two_class_estimate(value, float(low), float(high), positives, negatives)


def f1_score(positives: ClassAnswers, negatives: ClassAnswers) -> Estimate:
    """Estimate the F1 score of the answer “it fires” on the windows that were asked about, with
    their numbers per class."""
    ratio = negatives.n / max(positives.n, 1)
    return estimate_from_rates(
        lambda hit, false: 2 * hit / (1 + hit + ratio * false), positives, negatives
    )


def precision_at_density(
    positives: ClassAnswers, negatives: ClassAnswers, density: float
) -> Estimate:
    """Estimate precision from two rates of right answers: the share of windows called firing that
    fire, where `density` of all windows do.

    `negatives` must be a random sample of silent windows; with hard negatives the value would be
    meaningless.
    """
    if not 0 < density < 1:
        return Estimate.none(positives.n, positives.n_documents, "no window fires, or all do")
    odds = (1 - density) / density
    if positives.n and not positives.share() and not 1 - negatives.share():
        return Estimate.none(positives.n, positives.n_documents, "undefined: it called none firing")
    return estimate_from_rates(
        lambda hit, false: hit / np.maximum(hit + odds * false, 1e-300), positives, negatives
    )


def estimate_from_rates(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    positives: ClassAnswers,
    negatives: ClassAnswers,
) -> Estimate:
    """Estimate a score of a judge, such as F1, that is a function of two rates: it increases with
    the hit rate and decreases with the false alarm rate.

    Its limits are quantiles of the function over both rates' Beta distributions, each evaluated at
    200 even steps.
    """
    from scipy.special import betaincinv

    if problem := _too_few_windows(positives, negatives):
        return problem
    hit, false = positives.share(), 1 - negatives.share()
    sizes = effective_sizes([positives, negatives])
    steps = (np.arange(BETA_POINTS) + 0.5) / BETA_POINTS

    def drawn(share: np.ndarray, size: np.ndarray, up: float) -> np.ndarray:
        return betaincinv(share * size + up, (1 - share) * size + 1 - up, steps)

    low, high = (
        np.quantile(
            function(drawn(hit, sizes[0], up)[:, None], drawn(false, sizes[1], 1 - up)), tail
        )
        for up, tail in ((NEAR_COUNT, TAIL), (FAR_COUNT, 1 - TAIL))
    )
    value = float(function(hit, false))
    ends = [float(function(np.asarray(x), np.asarray(1 - x))) for x in (0.0, 1.0)]
    low = ends[0] if value <= ends[0] else min(float(low), value)
    high = ends[1] if value >= ends[1] else max(float(high), value)
    return _two_class_estimate(value, low, high, positives, negatives)


def independent_difference(one: Estimate, other: Estimate) -> Estimate:
    """Estimate the difference `one` − `other` of two rates or means from independent windows
    (MOVER: Zou & Donner 2008).

    Scores of two labels of one feature are based on the same windows: compare those by feature,
    with `mean_paired_difference`.
    """
    n, n_documents = min(one.n, other.n), min(one.n_documents, other.n_documents)
    ends = (one.value, one.low, one.high, other.value, other.low, other.high)
    if any(x is None for x in ends):
        return Estimate.none(n, n_documents, one.note or other.note)
    a, a_low, a_high, b, b_low, b_high = (float(x) for x in ends if x is not None)
    value = a - b
    low = value - np.hypot(a - a_low, b_high - b)
    high = value + np.hypot(a_high - a, b - b_low)
    return Estimate(value, float(low), float(high), n, n_documents)


def _too_few_windows(positives: ClassAnswers, negatives: ClassAnswers) -> Estimate | None:
    """Return an estimate without a value where one of the two classes has too few answers,
    otherwise None."""
    for one, name in ((positives, "firing windows"), (negatives, "silent windows")):
        if one.n < MIN_JUDGEMENTS:
            return Estimate.too_few(one.n, one.n_documents, found=one.n, unit=name)
    return None


def _two_class_estimate(
    value: float, low: float, high: float, positives: ClassAnswers, negatives: ClassAnswers
) -> Estimate:
    n = min(positives.n, negatives.n)
    return Estimate(value, low, high, n, min(positives.n_documents, negatives.n_documents))
