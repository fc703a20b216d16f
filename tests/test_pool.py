"""Matches between dictionaries: the pool's correlations are those of the dense activations."""

from pathlib import Path

import numpy as np
import pytest

from feature_store import window_pool
from feature_store.harvest_reader import HarvestFile


def dense(one: window_pool.WindowPool) -> np.ndarray:
    """[token feature]."""
    acts = np.zeros((one.n_tokens, one.d_sae))
    acts[one.token, one.feature] = one.value
    return acts


@pytest.fixture(scope="module")
def pools(harvested: Path) -> list[window_pool.WindowPool]:
    file = HarvestFile(harvested)
    return [window_pool.read_pool(file, name) for name in file.dictionaries]


def test_the_pool_holds_every_activation_of_its_windows(harvested: Path) -> None:
    file = HarvestFile(harvested)
    for name in file.dictionaries:
        windows = file.silent_windows(name)
        one = window_pool.read_pool(file, name)
        assert one.n_tokens == sum(w.length for w in windows)
        assert len(one.value) == sum(len(w.activations) for w in windows)
        assert sorted(one.value) == pytest.approx(sorted(a for w in windows for a in w.activations))
        assert one.token.min() >= 0 and one.token.max() < one.n_tokens


def test_correlations_are_those_of_the_dense_activations(
    pools: list[window_pool.WindowPool],
) -> None:
    mine, other = pools[0], pools[1]
    x, y = dense(mine), dense(other)
    feature = int(np.bincount(mine.feature).argmax())
    found = window_pool.find_correlated_features(mine, feature, other, 5)
    assert found
    for match in found:
        want = np.corrcoef(x[:, feature], y[:, match.feature])[0, 1]
        assert match.correlation == pytest.approx(want, abs=1e-9)
        assert match.together == int(((x[:, feature] != 0) & (y[:, match.feature] != 0)).sum())
    assert [m.correlation for m in found] == sorted((m.correlation for m in found), reverse=True)


def test_a_feature_matches_itself_best(pools: list[window_pool.WindowPool]) -> None:
    for one in pools:
        feature = int(np.bincount(one.feature).argmax())
        best = window_pool.find_correlated_features(one, feature, one, 1)
        assert best[0].feature == feature and best[0].correlation == pytest.approx(1)


def test_a_feature_that_is_silent_there_matches_nothing(
    pools: list[window_pool.WindowPool],
) -> None:
    empty = window_pool.WindowPool(10, np.array([], int), np.array([], int), np.array([], float), 3)
    assert window_pool.find_correlated_features(empty, 0, empty, 3) == []
