"""Influence and pruning on graphs small enough to be worked by hand, or path by path."""

import itertools

import numpy as np
import pytest

from backend.circuits.graph_influence import (
    NodeKindMasks,
    compute_influence,
    graph_completeness_score,
    graph_replacement_score,
    normalize_effects,
    prune_graph,
    remove_unconnected_nodes,
)
from feature_store.errors import InputError


def kinds_of(letters: str) -> NodeKindMasks:
    """One letter a node: f(eature), e(rror), t(oken), l(ogit)."""
    return NodeKindMasks(*(np.array([letter == one for one in letters]) for letter in "fetl"))


def random_graph(n: int = 7, seed: int = 0) -> np.ndarray:
    """Direct effects of a DAG in which later nodes have earlier sources; tokens come first."""
    rng = np.random.default_rng(seed)
    return np.tril(rng.normal(size=(n, n)), -1) * (rng.random((n, n)) < 0.7)


def test_influence_is_the_sum_over_paths() -> None:
    share, n = normalize_effects(random_graph()), 7
    weights = np.zeros(n)
    weights[-1] = 1.0
    expected = np.zeros(n)
    for length in range(1, n):
        for sources in itertools.combinations(range(n - 1), length):
            path = (n - 1, *reversed(sources))
            expected[path[-1]] += np.prod([share[at] for at in itertools.pairwise(path)])
    np.testing.assert_allclose(compute_influence(share, weights), expected, atol=1e-12)


def test_a_graph_by_hand() -> None:
    """token -> feature -> logit with 3 of 4 parts, error -> logit with the rest."""
    effects = np.zeros((4, 4))
    effects[1, 0] = -2.0
    effects[3, 1], effects[3, 2] = 3.0, -1.0
    kinds, weights = kinds_of("tfel"), np.array([0, 0, 0, 1.0])
    found = compute_influence(normalize_effects(effects), weights)
    assert found.tolist() == [0.75, 0.75, 0.25, 0.0]
    assert graph_replacement_score(found, kinds) == 0.75
    # The logit has influence 1 and a quarter of it from an error; all else is complete.
    assert (
        graph_completeness_score(normalize_effects(effects), found, weights, kinds)
        == 1 - 0.25 / 2.75
    )


def test_a_cycle_is_refused() -> None:
    loop = np.array([[0.0, 1.0, 0], [1.0, 0.0, 0], [0, 1.0, 0]])
    with pytest.raises(InputError, match="cycle"):
        compute_influence(loop, np.array([0.0, 0.0, 1.0]))


def test_pruning_keeps_more_for_more() -> None:
    effects, kinds = random_graph(12, 3), kinds_of("tttffffefffl")
    effects[kinds.token | kinds.error] = 0
    weights = kinds.logit.astype(float)
    before = None
    for share in (0.3, 0.6, 0.9, 1.0):
        kept = prune_graph(effects, weights, kinds, share, 1.0)
        assert kept.nodes[kinds.token].all() and kept.nodes[kinds.logit].all()
        assert before is None or not (before & ~kept.nodes).any()
        before = kept.nodes


def test_what_is_left_hangs_together_and_stays() -> None:
    effects, kinds = random_graph(12, 5), kinds_of("tttffffefffl")
    effects[kinds.token | kinds.error] = 0
    kept = prune_graph(effects, kinds.logit.astype(float), kinds, 0.7, 0.8)
    again = remove_unconnected_nodes(kept.nodes, kept.edges, kinds)
    assert (again.nodes == kept.nodes).all() and (again.edges == kept.edges).all()
    features = np.flatnonzero(kept.nodes & kinds.feature)
    assert len(features)
    assert kept.edges[:, features].any(0).all() and kept.edges[features].any(1).all()
    whole = prune_graph(effects * kept.edges, kinds.logit.astype(float), kinds, 1.0, 1.0)
    assert (whole.edges == kept.edges).all()


def test_a_feature_without_sources_goes_and_takes_its_own_with_it() -> None:
    """Feature 1 has no source; 2 has only 1; neither stays."""
    edges = np.zeros((4, 4), bool)
    edges[2, 1] = edges[3, 2] = edges[3, 0] = True
    kept = remove_unconnected_nodes(np.ones(4, bool), edges, kinds_of("tffl"))
    assert kept.nodes.tolist() == [True, False, False, True]
    assert kept.edges.sum() == 1
