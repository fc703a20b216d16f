"""Laws of the confidence intervals in feature_store/statistics: edges, symmetry, coverage."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.statistics.bootstrap_t import estimate_mean, estimate_ratio
from feature_store.statistics.estimate import Estimate
from feature_store.statistics.proportion_intervals import (
    estimate_paired_difference,
    estimate_share,
    newcombe_interval,
    wilson_interval,
)
from feature_store.statistics.student_t import estimate_student_mean

Draw = Callable[[np.random.Generator], tuple[Estimate, float]]


def covers(found: Estimate, true: float) -> bool:
    assert found.low is not None and found.high is not None
    return found.low <= true <= found.high


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    k, n = counts
    low, high = wilson_interval(k, n)
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= low <= k / n <= high <= 1 and low < high
    each = wilson_interval(np.array([k, 0]), n)
    assert (each[0][0], each[1][0]) == (low, high)


def test_newcombes_interval_is_his() -> None:
    """56 of 70 against 48 of 80: the example of Newcombe 1998, table II, method 10."""
    low, high = newcombe_interval(np.array([56]), 70, np.array([48]), 80)
    assert (low[0], high[0]) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_a_share_has_an_interval_where_all_are_right() -> None:
    sure = np.ones(50, dtype=bool)
    found = estimate_share(sure)
    assert found.low == pytest.approx(50 / (50 + 1.959964**2)) and found.high == 1
    same = estimate_paired_difference(sure, sure)
    assert same.low is not None and same.high is not None
    assert same.low < 0 == same.value < same.high


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_change_back_is_the_change_reversed(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T
    there, back = estimate_paired_difference(a, b), estimate_paired_difference(b, a)
    assert there.value == pytest.approx(-back.number)
    assert there.low == pytest.approx(-float(back.high or 0), abs=1e-12)


def test_there_is_no_interval_where_there_can_be_none() -> None:
    for values in (np.ones(30), np.array([1.0, 2.0, 3.0, 4.0])):
        found = estimate_mean(values)
        assert found.value == values.mean() and found.low is None and found.high is None
    assert estimate_mean(np.arange(5.0)).low is not None
    assert estimate_mean(np.arange(2.0), min_units=2).low is not None
    nothing = estimate_ratio(np.arange(6.0), np.zeros(6))
    assert nothing.low is None and not np.isfinite(nothing.number)


def test_one_odd_value_among_many_has_students_interval() -> None:
    """A third of the resamples lack it and have no spread, so their t* is undefined."""
    found = estimate_mean(np.array([0.0] * 19 + [1.0]))
    assert found.low == pytest.approx(0.05 - 2.093 * 0.05, abs=1e-4)
    few = estimate_mean(np.arange(5.0))
    assert few.high == pytest.approx(2 + 2.776 * np.sqrt(2.5 / 5), abs=1e-3)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(-5, 5, allow_subnormal=False), min_size=5, max_size=40),
    st.floats(-10, 10),
    st.sampled_from([0.5, 2.0, 3.0]),
)
def test_the_interval_moves_with_the_values(values: list[float], by: float, scale: float) -> None:
    """Adding a constant moves it; a factor stretches it; it holds the mean."""
    rows = np.round(np.array(values), 3)
    one = estimate_mean(rows)
    if one.low is None or one.high is None or np.ptp(rows) < 1e-3:
        return
    other = estimate_mean(rows * scale + by)
    assert one.low <= one.number <= one.high
    assert other.low == pytest.approx(one.low * scale + by, abs=1e-6)
    assert other.high == pytest.approx(one.high * scale + by, abs=1e-6)


def test_a_ratio_by_hand() -> None:
    clean, ablated = np.array([4.0, 2.0, 6.0, 4.0, 4.0]), np.array([1.0, 2.0, 0.0, 1.0, 1.0])
    found = estimate_ratio(clean - ablated, clean)
    assert found.value == pytest.approx(1 - 5 / 20) and found.n == 5
    assert estimate_ratio(3 * clean, clean).low is None  # every unit has the same ratio


def test_strata_leave_out_what_lies_between_them() -> None:
    """Two prompts that differ by 10: only the spread within them counts."""
    rng = np.random.default_rng(0)
    prompt = np.repeat([0, 1], 20)
    values = rng.normal(size=40) + 10 * prompt
    apart, together = estimate_mean(values, strata=prompt), estimate_mean(values)
    assert apart.value == together.value
    assert width(apart) < 0.3 * width(together)


def width(found: Estimate) -> float:
    assert found.low is not None and found.high is not None
    return found.high - found.low


def normal(n: int) -> Draw:
    return lambda rng: (estimate_mean(rng.normal(size=n)), 0.0)


def exponential(n: int) -> Draw:
    return lambda rng: (estimate_mean(rng.exponential(size=n)), 1.0)


def scores(n: int) -> Draw:
    """Shares near their upper limit, as scores of features are."""
    return lambda rng: (estimate_mean(rng.beta(8, 1, size=n)), 8 / 9)


def ratio(n: int) -> Draw:
    """Σu ÷ Σv with u = v·w, w of mean 0.7, and v positive and skewed."""

    def draw(rng: np.random.Generator) -> tuple[Estimate, float]:
        v = rng.gamma(4, size=n)
        return estimate_ratio(v * rng.normal(0.7, 0.4, size=n), v), 0.7

    return draw


def within_prompts(n: int) -> Draw:
    """Five prompts of n ÷ 5 continuations, with means of their own."""
    prompt = np.arange(n) % 5
    return lambda rng: (
        estimate_mean(rng.exponential(size=n) + prompt, strata=prompt),
        1 + float(prompt.mean()),
    )


def student(n: int) -> Draw:
    return lambda rng: (estimate_student_mean(rng.normal(size=n)), 0.0)


def share(n: int) -> Draw:
    return lambda rng: (estimate_share(rng.random(n) < 0.9), 0.9)


GRID = {
    f"{make.__name__} {n}": make(n)
    for make in (normal, exponential, scores, ratio, within_prompts, student, share)
    for n in (20, 50, 100)
}


@pytest.mark.parametrize("name", ["normal 20", "exponential 50", "ratio 20", "share 50"])
def test_intervals_cover(name: str) -> None:
    """At least 182 of 200: a true coverage of 95 % falls below that once in 200 such tests."""
    rng = np.random.default_rng(7)
    assert sum(covers(*GRID[name](rng)) for _ in range(200)) >= 182


@pytest.mark.slow
@pytest.mark.parametrize("name", GRID)
def test_intervals_cover_over_the_grid(name: str) -> None:
    """Between 93 % and 98.5 % of 2,000 runs, whose own standard error is 0.5 %."""
    rng = np.random.default_rng(11)
    share_covered = np.mean([covers(*GRID[name](rng)) for _ in range(2000)])
    assert 0.93 - 0.005 <= share_covered <= 0.985 + 0.003, share_covered
