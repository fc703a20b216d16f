"""Sums, moments, runs and pair counts on made-up triples, against numpy on the dense array."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend.harvest import segments
from backend.harvest.activation_spool import ActivationSpool, SpoolRecords, map_spool_words
from backend.harvest.activation_sums import (
    HEADROOM_OCTAVES,
    N_OCTAVES,
    ActivationSums,
    highest_histogram_octave,
)
from backend.harvest.feature_statistics import FeatureSums, activation_moments
from backend.harvest.segments import expand_segments, segment_max, segment_sum
from feature_store.activation_histogram import bin_edge

CPU = torch.device("cpu")


def sums_of(values: np.ndarray) -> FeatureSums:
    """The sums of one feature whose active values are these."""
    size = values.astype(np.float32).astype(np.float64)
    powers = np.array([[(size**k).sum()] for k in range(1, 5)])
    n = np.array([len(values)])
    return FeatureSums(n, n, n, powers, np.array([size.max(initial=0)]), n[:, None], n[:, None])


@pytest.mark.parametrize(("mean", "spread"), [(1, 1), (30, 3), (1e-3, 1e-3), (1000, 5)])
def test_moments_equal_numpys(mean: float, spread: float) -> None:
    values = np.random.default_rng(0).gamma(2, spread, 5000) + mean
    exact = values.astype(np.float32).astype(np.longdouble)
    z = (exact - exact.mean()) / exact.std()
    found = {k: v[0] for k, v in activation_moments(sums_of(values)).items()}
    want = (exact.mean(), exact.std(), (z**3).mean(), (z**4).mean())
    assert list(found.values()) == pytest.approx([float(w) for w in want], rel=1e-6)


@pytest.mark.parametrize("values", [[], [2.5], [3.0] * 7, [1000.0, 1000.1, 1000.2]])
def test_what_is_not_defined_is_absent(values: list[float]) -> None:
    found = {k: v[0] for k, v in activation_moments(sums_of(np.array(values))).items()}
    assert np.isnan(found["skew"]) and np.isnan(found["kurtosis"])
    assert np.isnan(found["mean_act"]) == np.isnan(found["std_act"]) == (not values)
    if values:
        assert found["std_act"] == pytest.approx(np.std(values), rel=1e-3, abs=1e-6)


@given(st.floats(2.0**-60, 2.0**60, width=32))
def test_bins_hold_their_values_and_the_ends_take_the_rest(value: float) -> None:
    statistics = ActivationSums(1, highest_histogram_octave(1.0), CPU)
    number = int(statistics.bins(torch.tensor([value]))) + statistics.first_bin
    low, high = bin_edge(statistics.first_bin), bin_edge(statistics.first_bin + N_OCTAVES * 4)
    assert high == 2.0 ** (HEADROOM_OCTAVES + 1)
    if low <= value < high:
        assert bin_edge(number) <= value < bin_edge(number + 1)
    else:
        assert bin_edge(number) == low or bin_edge(number + 1) == high


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_segments_by_numpy_and_by_torch_agree(lengths: list[int], dice) -> None:
    values = torch.tensor([dice.uniform(-9, 9) for _ in range(sum(lengths))])
    start = torch.tensor(np.cumsum(lengths) - lengths)
    parts = list(values.split(lengths))
    assert segment_max(values, start).tolist() == [float(part.max()) for part in parts]
    assert (
        segments.reduce_on_device(values, start, "max").tolist()
        == segment_max(values, start).tolist()
    )
    assert segment_sum(values, start).tolist() == pytest.approx(
        [float(part.sum()) for part in parts], abs=1e-5
    )


def test_no_segments_have_no_maxima() -> None:
    none = torch.empty(0, dtype=torch.int64)
    assert len(segment_max(torch.empty(0), none)) == len(segment_sum(torch.empty(0), none)) == 0
    assert [len(part) for part in expand_segments(none, none)] == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=10))
def test_expand_lists_every_index(pairs: list[tuple[int, int]]) -> None:
    start, end = (
        torch.tensor(c, dtype=torch.int64)
        for c in ([a for a, _ in pairs], [a + n for a, n in pairs])
    )
    index, owner = expand_segments(start, end)
    assert index.tolist() == [i for a, n in pairs for i in range(a, a + n)]
    assert owner.tolist() == [k for k, (_, n) in enumerate(pairs) for _ in range(n)]


def test_records_come_back_from_several_spools(tmp_path: Path) -> None:
    dice, want, words, offsets = np.random.default_rng(0), [], [], []
    for number in range(3):
        spool = ActivationSpool(tmp_path / f"{number}")
        base = sum(len(part) for part in words)
        for _ in range(2):
            count = dice.integers(0, 4, 5)
            peak, start = dice.integers(0, 99, (2, 5))
            positions, values = dice.integers(0, 99, count.sum()), dice.random(count.sum())
            offsets.append(base + spool.append(count, peak, start, positions, values))
            edges = np.cumsum(count)[:-1]
            pairs = zip(np.split(positions, edges), np.split(values, edges), strict=True)
            want += [(p, s, *pair) for p, s, pair in zip(peak, start, pairs, strict=True)]
        words.append(map_spool_words(spool.path, spool.sync()))
        spool.close()
    order = dice.permutation(len(want))
    count, peak, start, positions, values = SpoolRecords(words).read(np.concatenate(offsets)[order])
    edges = np.cumsum(count)[:-1]
    for i, j in enumerate(order):
        assert (peak[i], start[i]) == want[j][:2]
        np.testing.assert_array_equal(np.split(positions, edges)[i], want[j][2])
        np.testing.assert_array_equal(np.split(values, edges)[i], want[j][3].astype(np.float32))


def test_a_spool_forgets_what_lies_beyond_its_checkpoint(tmp_path: Path) -> None:
    one = (np.array([1]), np.array([5]), np.array([2]), np.array([5]), np.array([0.5]))
    spool = ActivationSpool(tmp_path / "spool")
    spool.append(*one)
    kept = spool.sync()
    spool.append(*one)
    spool.close()
    again = ActivationSpool(tmp_path / "spool", kept)
    assert again.append(*one).tolist() == [kept]
    assert again.sync() * 4 == (tmp_path / "spool").stat().st_size
    again.close()
