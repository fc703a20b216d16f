"""Intervals against simulation and exact cases: coverage, edges, and what has no value."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from feature_store import statistics
from feature_store.statistics import ClassAnswers, Estimate
from feature_store.statistics.answer_rates import rate_interval
from feature_store.statistics.bootstrap_t import estimate_mean

TRUTHS, SIZES = (0.5, 0.7, 0.9, 0.98), (20, 50, 100)
CLUSTERS = [(1, 0.0), (3, 0.0), (3, 0.3), (3, 0.6), (3, 1.0)]
"""Judgements a document, and the correlation of two of one document."""
CROWDED = [(5, 0.0), (5, 0.3), (5, 0.5), (8, 0.3), (8, 0.5)]
"""The same where documents are crowded: intervals must cover, and may be wide."""


def answers(
    dice: np.random.Generator, truth: float, n: int, size: int, icc: float, shape: tuple = ()
) -> ClassAnswers:
    """`n` answers [*shape, n], right at the rate `truth`, documents of `size`."""
    documents = np.arange(n) // size
    rates = np.full((*shape, documents.max() + 1), truth)
    if icc == 1:
        rates = (dice.random(rates.shape) < truth).astype(float)
    elif icc:
        rates = dice.beta(truth * (1 / icc - 1), (1 - truth) * (1 / icc - 1), rates.shape)
    return ClassAnswers.of(dice.random((*shape, n)) < rates[..., documents], documents)


def exact_width(truth: float, n: float) -> float:
    """Mean width of the exact (Clopper–Pearson) interval of `n` independent answers in one class:
    that of an oracle which knows the design effect and that both classes are alike."""
    n = round(n)
    k = np.arange(n + 1)
    low = np.where(k > 0, beta.ppf(0.025, k, n - k + 1), 0)
    high = np.where(k < n, beta.ppf(0.975, k + 1, n - k), 1)
    return float((binom.pmf(k, n, truth) * (high - low)).sum())


@pytest.mark.parametrize("draws", [4000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("size", "icc"), CLUSTERS)
def test_the_grid_of_balanced_accuracy(size: int, icc: float, draws: int) -> None:
    dice = np.random.default_rng(3)
    for n in SIZES:
        for truth in TRUTHS:
            classes = [answers(dice, truth, n, size, icc, (draws,)) for _ in range(2)]
            low, high = rate_interval(classes)
            covered = ((low <= truth) & (truth <= high)).mean()
            sizes = np.bincount(np.arange(n) // size)
            alone = n / (1 + ((sizes**2).sum() / n - 1) * icc)
            width = (high - low).mean() / exact_width(truth, 2 * alone)
            assert 0.93 <= covered <= 0.985 and width <= 1.4, (n, truth, covered, width)
            assert (low < high).all()


@pytest.mark.parametrize(
    ("draws", "least"), [(3000, 0.92), pytest.param(20_000, 0.93, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("size", "icc"), CROWDED)
def test_intervals_cover_where_documents_have_many_judgements(
    size: int, icc: float, draws: int, least: float
) -> None:
    """From four documents a class on; up to twice as wide as an oracle's that knows that the
    judgements of a document are independent."""
    dice = np.random.default_rng(3)
    for n in (n for n in SIZES if n >= 4 * size):
        for truth in TRUTHS:
            classes = [answers(dice, truth, n, size, icc, (draws,)) for _ in range(2)]
            low, high = rate_interval(classes)
            covered = ((low <= truth) & (truth <= high)).mean()
            alone = n / (1 + ((np.bincount(np.arange(n) // size) ** 2).sum() / n - 1) * icc)
            width = (high - low).mean() / exact_width(truth, 2 * alone)
            assert least <= covered <= 0.99 and width <= 2.1, (n, truth, covered, width)


def coverage(draw: Callable[[], Estimate], truth: float, times: int = 400) -> float:
    found = [draw() for _ in range(times)]
    assert all(e.low is not None and e.high is not None and e.low < e.high for e in found)
    return float(np.mean([e.low <= truth <= e.high for e in found]))  # type: ignore[operator]


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("size", [1, 3])
def test_auc_covers_the_area_of_two_normal_distributions(truth: float, size: int) -> None:
    dice, of = np.random.default_rng(0), np.arange(40) // size

    def noise() -> np.ndarray:
        return np.sqrt(0.4) * dice.normal(size=40) + np.sqrt(0.6) * dice.normal(size=40)[of]

    def draw() -> Estimate:
        return statistics.roc_auc(noise() + norm.ppf(truth) * np.sqrt(2), noise(), of, of)

    assert 0.92 <= coverage(draw, truth) <= 1.0


def test_auc_counts_ties_as_one_half_and_says_no_more_than_it_has_seen() -> None:
    ids = np.arange(20)
    tied = statistics.roc_auc([1.0] * 20, [1.0] * 10 + [0.0] * 10, ids, ids)
    assert tied.value == 0.75
    clean = statistics.roc_auc(ids + 100.0, ids, ids, ids)
    assert clean.value == clean.high == 1 and clean.low is not None and 0.8 < clean.low < 0.95
    flat = statistics.roc_auc([0.5] * 20, [0.5] * 20, ids, ids)
    assert flat.value is None and "undefined" in flat.note
    assert statistics.roc_auc(-ids, ids + 1.0, ids, ids).value == 0


@pytest.mark.parametrize("truth", [0.0, 0.5, 0.95])
def test_correlation_over_tokens_covers_with_documents_as_units(truth: float) -> None:
    dice, documents = np.random.default_rng(0), np.repeat(np.arange(40), 32)
    firing = documents < 20

    def tokens(n: int) -> np.ndarray:
        return dice.gamma(3, 1, n) * (dice.random(n) < 0.1) * np.resize(firing, n)

    deviation = tokens(1280 * 300).std()

    def draw() -> Estimate:
        true = tokens(1280)
        said = truth * true + np.sqrt(1 - truth**2) * deviation * dice.normal(size=1280)
        return statistics.pearson_correlation(said, true, documents, firing)

    assert 0.92 <= coverage(draw, truth) <= 1.0


def test_a_constant_judge_has_no_correlation_and_a_perfect_one_has_a_width() -> None:
    dice = np.random.default_rng(0)
    true, documents = dice.random(400), np.repeat(np.arange(40), 10)
    same = statistics.pearson_correlation(np.full(400, 3.3), true, documents)
    assert same.value is None and same.note == "undefined: the judge said the same everywhere"
    for found in (
        statistics.pearson_correlation(true * 2 + 1, true, documents),
        statistics.explained_variance(true, true, documents),
    ):
        assert found.value == pytest.approx(1)
        assert found.low is not None and 0.85 < found.low < 1
    assert statistics.pearson_correlation(-true, true, documents).value == pytest.approx(-1)
    assert statistics.spearman_correlation(
        np.exp(9 * true), true, documents
    ).value == pytest.approx(1)
    about = statistics.explained_variance(np.full(400, true.mean()), true, documents).value
    assert about == pytest.approx(0)


@pytest.mark.parametrize(
    "measure",
    [statistics.balanced_accuracy, statistics.f1_score, lambda a, b: statistics.answer_rate(a)],
)
def test_edges_have_a_width_and_too_few_have_no_value(measure: Callable[..., Estimate]) -> None:
    for hit in (True, False):
        one = ClassAnswers.of([hit] * 20, range(20))
        found = measure(one, one)
        assert found.value == hit and found.low is not None and found.high is not None
        assert 0.05 < found.high - found.low < 0.45
        assert found.n == found.n_documents == 20
    few = ClassAnswers.of([True] * 19, range(19))
    found = measure(few, few)
    assert (
        found.value is None
        and found.low is None
        and found.note.startswith("too few ")
        and ": 19, and" in found.note
    )


def test_rates_by_hand() -> None:
    """16 of 20 firing windows and 35 of 50 silent ones right."""
    firing = ClassAnswers.of([True] * 16 + [False] * 4, range(20))
    silent = ClassAnswers.of([True] * 35 + [False] * 15, range(50))
    assert statistics.balanced_accuracy(firing, silent).value == pytest.approx(0.75)
    assert statistics.f1_score(firing, silent).value == pytest.approx(2 * 16 / (2 * 16 + 15 + 4))
    precise = statistics.precision_at_density(firing, silent, density=0.01)
    assert precise.value == pytest.approx(0.01 * 0.8 / (0.01 * 0.8 + 0.99 * 0.3))
    assert precise.low is not None and precise.high is not None
    assert precise.low < precise.value < precise.high < 0.06
    none = statistics.precision_at_density(
        ClassAnswers.of([False] * 20, range(20)), ClassAnswers.of([True] * 20, range(20)), 0.1
    )
    assert none.value is None and "called none" in none.note


def test_weights_and_documents_take_from_the_effective_number() -> None:
    plain = ClassAnswers.of([True] * 30, range(30))
    assert plain.effective(np.asarray(0.5)) == pytest.approx(30)
    weighted = ClassAnswers.of([True] * 30, range(30), [10.0] * 3 + [1.0] * 27)
    assert weighted.effective(np.asarray(0.5)) == pytest.approx(57**2 / 327)
    grouped = ClassAnswers.of([True] * 30, np.arange(30) // 3)
    assert grouped.effective(np.asarray(1.0)) == pytest.approx(10)
    assert grouped.effective(np.asarray(0.0)) == pytest.approx(30)
    uneven = ClassAnswers.of([True, False] * 15, range(30), [3.0, 1.0] * 15)
    assert statistics.answer_rate(uneven).value == pytest.approx(0.75)


def test_a_difference_is_as_wide_as_both_and_keeps_what_is_not_defined() -> None:
    one, other = Estimate(0.9, 0.8, 0.96, 40, 30), Estimate(0.6, 0.5, 0.7, 50, 20)
    found = statistics.independent_difference(one, other)
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - np.hypot(0.1, 0.1))
    assert found.high == pytest.approx(0.3 + np.hypot(0.06, 0.1))
    assert (found.n, found.n_documents) == (40, 20)
    nothing = Estimate.none(3, 3, "too few judgements: 3, and 20 are needed")
    assert statistics.independent_difference(one, nothing).note == nothing.note


def test_job_means_cover_and_pairs_are_by_feature() -> None:
    dice = np.random.default_rng(0)
    assert (
        0.92
        <= coverage(lambda: statistics.mean_over_features(dice.beta(8, 3, 40)), 8 / 11)
        <= 0.985
    )
    one = {i: 0.5 + i / 100 for i in range(30)} | {99: 1.0, 98: None}
    other = {i: 0.4 + i / 100 for i in range(30)} | {98: 0.2}
    found = statistics.mean_paired_difference(one, other)  # type: ignore[arg-type]
    assert found.value == pytest.approx(0.1) and found.n == 30
    assert found.low is not None and found.high is not None and found.low < 0.1 < found.high
    constant = statistics.mean_over_features([0.5] * 100)
    assert (constant.low, constant.high) == pytest.approx((0.485, 0.515))
    assert statistics.mean_over_features([0.9] * 19 + [None] * 50).value is None


def test_the_mean_of_many_features_has_the_interval_that_resampling_gives() -> None:
    values = np.random.default_rng(0).beta(5, 2, 4000)
    quick = statistics.mean_over_features(values)
    slow = estimate_mean(values)
    assert (quick.value, quick.n) == (pytest.approx(values.mean()), 4000)
    assert (quick.low, quick.high) == pytest.approx((slow.low, slow.high), abs=5e-4)
