"""Dense dictionaries get fewer windows of the pool, chosen by nothing but their order."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.harvest import silent_pool
from backend.harvest.silent_pool import COLUMN_DTYPES, SilentPool
from backend.harvest.window_grid import WindowGrid, order_silent_windows
from feature_store import coactivation, window_pool
from feature_store.harvest_reader import HarvestFile
from tests.harvests import Rig

ORDER = np.array([7, 2, 9, 4, 11, 0, 5, 3], dtype=np.int32)


def rows(windows: list[int]) -> dict[str, np.ndarray]:
    """One activation in each of `windows`, all different."""
    n = np.arange(len(windows))
    found = {"window": np.array(windows), "position": n, "feature": n % 3, "value": n + 1.0}
    return {name: values.astype(COLUMN_DTYPES[name]) for name, values in found.items()}


@given(
    st.lists(st.sampled_from(ORDER.tolist()), max_size=60),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 20),
    st.randoms(),
)
def test_the_windows_kept_are_the_first_that_fit_whatever_the_order(
    windows: list[int], triples: int, least: int, slack: int, dice
) -> None:
    counts = [windows.count(w) for w in ORDER.tolist()]
    fits = max(least, sum(total <= triples for total in np.cumsum(counts).tolist()))
    want = sorted(ORDER[:fits].tolist())
    parts = [rows(windows)]
    order = list(range(len(windows)))
    dice.shuffle(order)
    parts.append({name: values[order] for name, values in parts[0].items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silent_pool, "MAX_ACTIVATIONS", triples)
        patch.setattr(silent_pool, "MIN_WINDOWS", least)
        patch.setattr(silent_pool, "SLACK_ACTIVATIONS", slack)
        for columns in parts:
            whole, other = SilentPool(ORDER), SilentPool(ORDER)
            half = len(windows) // 2
            whole.add({name: values[:half] for name, values in columns.items()})
            other.add({name: values[half:] for name, values in columns.items()})
            state = other.state()
            whole.merge(state, state.pop("counts"))
            assert whole.windows.tolist() == want
            got = whole.columns()
            kept = np.isin(columns["window"], want)
            assert sorted(got["value"]) == sorted(columns["value"][kept])


def test_memory_of_a_dense_dictionary_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two million activations, of which forty thousand fit."""
    monkeypatch.setattr(silent_pool, "MAX_ACTIVATIONS", 40_000)
    monkeypatch.setattr(silent_pool, "SLACK_ACTIVATIONS", 10_000)
    one = SilentPool(np.arange(400, dtype=np.int32))
    columns = [rows([number] * 5000) for number in range(400)]
    tracemalloc.start()
    for window in columns:
        one.add(window)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(one.windows) == silent_pool.MIN_WINDOWS and len(one.columns()["value"]) == 320_000
    assert peak < 3 * 16 * (320_000 + 15_000)


def test_splits_take_turns_and_the_pool_is_the_same_as_ever() -> None:
    n = 60
    dice = np.random.default_rng(0)
    ones = np.ones(n, dtype=int)
    windows = WindowGrid(8, ones, ones, 8 * ones, ones, dice.integers(0, 2, n), ones, np.arange(3))
    order = order_silent_windows(windows, 20, 5)
    assert windows.split[order].tolist() == [0, 1] * 10
    assert len(set(order.tolist())) == 20


@pytest.fixture(scope="module")
def cut(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> HarvestFile:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silent_pool, "MAX_ACTIVATIONS", 300)
        patch.setattr(silent_pool, "MIN_WINDOWS", 4)
        return HarvestFile(rig.harvest(tmp_path_factory.mktemp("cut")))


def test_a_harvest_keeps_few_windows_of_dense_dictionaries_and_all_in_them(
    cut: HarvestFile, harvested: Path
) -> None:
    full = HarvestFile(harvested)
    sizes = set()
    for name in full.dictionaries:
        before = {w.window: w for w in full.silent_windows(name)}
        after = cut.silent_windows(name)
        assert len(after) >= 4
        assert all(w == before[w.window] for w in after)
        assert sum(len(w.features) for w in after) <= 300 or len(after) == 4
        sizes.add(len(after))
    assert len(sizes) > 1  # the dictionaries here differ in density


def test_dictionaries_are_compared_on_the_windows_that_both_have(cut: HarvestFile) -> None:
    pools = {name: window_pool.read_pool(cut, name) for name in cut.dictionaries}
    small, large = sorted(pools.values(), key=lambda one: one.n_tokens)[:: len(pools) - 1]
    assert small.n_tokens < large.n_tokens
    x, y = window_pool.align_pools([small, large])
    assert [w[:2] for w in x.windows] == [w[:2] for w in y.windows]
    assert x.n_tokens == y.n_tokens == small.n_tokens
    dense = np.zeros((2, x.n_tokens, max(x.d_sae, y.d_sae)))
    for one, acts in zip((x, y), dense, strict=True):
        acts[one.token, one.feature] = one.value
    for mine, theirs in ((small, large), (large, small)):
        a, b = (dense[0], dense[1]) if mine is small else (dense[1], dense[0])
        feature = int(np.bincount(small.feature).argmax())
        for match in window_pool.find_correlated_features(mine, feature, theirs, 3):
            want = np.corrcoef(a[:, feature], b[:, match.feature])[0, 1]
            assert match.correlation == pytest.approx(want, abs=1e-9)
            got = coactivation.activation_correlation(mine, feature, theirs, match.feature)
            assert got == pytest.approx(want, abs=1e-9)
