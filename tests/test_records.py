"""Feature names, histograms and the views of a range sample."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store import activation_histogram, context_strata
from feature_store.errors import InputError
from feature_store.records import Context, FeatureFacts, FeatureId
from tests.stores import context_rows, feature_row

positive = st.floats(2.0**-40, 2.0**40, width=32)


@given(st.text(min_size=1).filter(lambda t: t == t.strip()), st.integers(0, 10**9))
def test_a_feature_is_read_from_the_right(dictionary: str, index: int) -> None:
    feature = FeatureId(dictionary, index)
    assert FeatureId.parse(str(feature)) == feature
    assert FeatureId.parse(f"  {feature}\n") == feature


@pytest.mark.parametrize(
    "text", ["", "3", "/3", "resid", "resid/", "resid/x", "resid/-1", "a/٣", "a/²"]
)
def test_what_is_no_feature_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as error:
        FeatureId.parse(text)
    assert str(error.value) == (
        f"{text!r} is not a feature. Write DICTIONARY/INDEX, for example gpt2-small/8-res-jb/1042."
    )


@given(positive)
def test_a_bin_holds_its_value_and_is_a_quarter_octave(value: float) -> None:
    number = activation_histogram.bin_number(-value)
    low, high = activation_histogram.bin_edge(number), activation_histogram.bin_edge(number + 1)
    assert low <= value < high
    assert high - low == 2.0 ** (np.frexp(value)[1] - 1) / 4


def counted(values: np.ndarray) -> tuple[list[int], int]:
    """Histogram and number of its first bin."""
    bins = [activation_histogram.bin_number(float(v)) for v in values]
    return np.bincount(np.array(bins) - min(bins)).tolist(), min(bins)


@given(st.lists(positive, min_size=1, max_size=60), positive)
def test_the_share_below_a_value_is_right_to_its_bin(values: list[float], value: float) -> None:
    counts, start = counted(np.array(values))
    found = activation_histogram.share_below(counts, start, value)
    number = activation_histogram.bin_number(value)
    low, high = activation_histogram.bin_edge(number), activation_histogram.bin_edge(number + 1)
    sizes = np.array(values)
    assert (sizes < low).mean() - 1e-9 <= found <= (sizes < high).mean() + 1e-9
    assert activation_histogram.share_below(counts, start, 2.0**60) == 1
    assert activation_histogram.share_below(counts, start, 2.0**-60) == 0


def test_an_empty_histogram_has_no_shares() -> None:
    with pytest.raises(ValueError):
        activation_histogram.share_below([0, 0], 0, 1.0)


def a_feature(sizes: np.ndarray) -> FeatureFacts:
    """Facts whose histogram of window maxima is that of `sizes`."""
    row = feature_row(
        "d", 1, context_rows(np.random.default_rng(0), "d", 1, signed=False), 0, signed=False
    )
    counts, start = counted(sizes)
    return FeatureFacts(**row | {"window_histogram": counts, "window_histogram_start": start})


def a_context(value: float, number: int = 0, weight: float | None = 1.0, **changes) -> Context:
    one = Context("range", 0, weight, "explain", 0, number, 0, 8, 0, value, [0], [value])
    return replace(one, **changes)


def test_deciles_hold_a_tenth_each_of_the_windows() -> None:
    sizes = np.random.default_rng(1).gamma(2, 1, 20_000).astype(np.float32)
    facts = a_feature(sizes)
    found = Counter(context_strata.find_decile(facts, float(v)) for v in sizes[:5000])
    assert sorted(found) == list(range(1, 11))
    assert max(abs(n / 5000 - 0.1) for n in found.values()) < 0.02


def test_views_take_range_contexts_only_and_order_them() -> None:
    sizes = np.linspace(0.1, 10, 500).astype(np.float32)
    facts = a_feature(sizes)
    contexts = [a_context(float(v) * (-1) ** i) for i, v in enumerate(sizes[::9])]
    contexts.append(a_context(10.0, stratum="top", weight=None))
    grouped = context_strata.group_by_decile(facts, contexts)
    assert list(grouped) == sorted(grouped, reverse=True)
    assert sum(map(len, grouped.values())) == len(contexts) - 1
    low = context_strata.near_zero_contexts(facts, contexts)
    assert low == sorted(grouped[1], key=lambda c: abs(c.value)) and low
    assert context_strata.activation_mass(contexts) == pytest.approx(np.abs(sizes[::9]).sum())
    with pytest.raises(ValueError, match="top context is not a random sample"):
        context_strata.context_weight(contexts[-1])


def test_a_feature_that_never_fired_has_no_deciles() -> None:
    facts = replace(a_feature(np.array([1.0])), window_histogram=None, window_histogram_start=None)
    with pytest.raises(ValueError):
        context_strata.find_decile(facts, 1.0)


def test_the_importance_draw_is_proportional_to_weight_times_square() -> None:
    """First draws over many seeds against weight · a², by chi-square."""
    contexts = [
        a_context(v, i, w)
        for i, (v, w) in enumerate(
            [(1.0, 1.0), (-2.0, 1.0), (3.0, 2.0), (1.0, 10.0), (0.5, 4.0), (4.0, 1.0)]
        )
    ]
    mass = np.array([(c.weight or 0) * c.value**2 for c in contexts])
    n, drawn = 3000, Counter[int]()
    for seed in range(n):
        drawn[context_strata.sample_by_importance(contexts, 1, seed)[0].sequence] += 1
    expected = n * mass / mass.sum()
    got = np.array([drawn[i] for i in range(len(contexts))])
    assert ((got - expected) ** 2 / expected).sum() < 20.5  # 5 degrees of freedom, p = 0.001
    assert len(context_strata.sample_by_importance(contexts, 4)) == 4
    assert context_strata.sample_by_importance(contexts, 9) == context_strata.sample_by_importance(
        list(reversed(contexts)), 9
    )
