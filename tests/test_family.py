"""Parents and children by hand, and against the dense matrix of a tiny harvest."""

from pathlib import Path

import numpy as np
import pytest

from feature_store import coactivation, window_pool
from feature_store.harvest_reader import HarvestFile
from feature_store.window_pool import WindowPool


def made(*fires: set[int], n: int = 100) -> WindowPool:
    """A pool from the tokens on which each feature fires."""
    token = np.array([t for one in fires for t in sorted(one)])
    feature = np.array([f for f, one in enumerate(fires) for _ in one])
    return WindowPool(n, token, feature, np.ones(len(token)), len(fires))


def test_a_feature_that_mostly_fires_inside_another_is_its_child() -> None:
    animal, dog, verb = set(range(40)), {*range(9), 50}, set(range(60, 90))
    one = made(animal, dog, verb)
    (parent,), none = coactivation.find_relatives(one, 1, 5)
    assert (
        parent.feature,
        parent.p_parent_given_child,
        parent.p_child_given_parent,
        parent.n_child,
    ) == (0, 0.9, 9 / 40, 10)
    assert none == [] and parent.low < 0.9 < parent.high
    nobody, (child,) = coactivation.find_relatives(one, 0, 5)
    assert nobody == [] and child.feature == 1 and child.p_parent_given_child == 0.9


def test_neither_twins_nor_dense_features_are_family() -> None:
    twins = set(range(20))
    everywhere = set(range(95))
    one = made(twins, twins, everywhere)
    assert coactivation.find_relatives(one, 0, 5) == ([], [])


def test_kinship_is_mutual_on_a_harvest(harvested: Path) -> None:
    """A is a parent of B exactly where B is a child of A."""
    file = HarvestFile(harvested)
    one = window_pool.read_pool(file, "relu")
    both = [coactivation.find_relatives(one, f, one.d_sae) for f in range(one.d_sae)]
    up = {(f, r.feature) for f, (parents, _) in enumerate(both) for r in parents}
    down = {(r.feature, f) for f, (_, children) in enumerate(both) for r in children}
    assert up == down


def test_phi_and_r_are_those_of_dense_activations(harvested: Path) -> None:
    file = HarvestFile(harvested)
    one, other = window_pool.read_pool(file, "relu"), window_pool.read_pool(file, "top")
    a, b = (int(np.bincount(which.feature).argmax()) for which in (one, other))
    x, y = np.zeros((2, one.n_tokens))
    x[one.activations_of(a)[0]], y[other.activations_of(b)[0]] = (
        one.activations_of(a)[1],
        other.activations_of(b)[1],
    )
    found = coactivation.count_coactivations(one, a, other, b)
    assert found.together == int(((x != 0) & (y != 0)).sum())
    assert found.phi == pytest.approx(np.corrcoef(x != 0, y != 0)[0, 1])
    assert coactivation.activation_correlation(one, a, other, b) == pytest.approx(
        np.corrcoef(x, y)[0, 1]
    )
    assert coactivation.count_coactivations(one, a, one, a).phi == pytest.approx(1)
