"""What matters in a graph of direct effects: influence on the targets, pruning, and two scores.

Rows are targets and columns their sources, as in circuit-tracer; the effects of a row, made
positive and to sum to one, say how much of the target each source accounts for (Ameisen et al.
2025). Influence sums the products of these shares over all paths to the targets.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from feature_store.errors import InputError

TINY = 1e-10
NODE_SHARE = 0.8
EDGE_SHARE = 0.98
"""Of the influence that pruning keeps."""

Matrix = Float[np.ndarray, "n n"]
Vector = Float[np.ndarray, "n"]
Mask = Bool[np.ndarray, "n"]


class Kinds(NamedTuple):
    """Which nodes are what; every node is one of these."""

    feature: Mask
    error: Mask
    token: Mask
    logit: Mask


class Pruned(NamedTuple):
    """What pruning keeps."""

    nodes: Mask
    edges: Bool[np.ndarray, "n n"]


def shares(effects: Matrix) -> Matrix:
    """|effect| over the sum of its row; 0 in a row without effects."""
    size = np.abs(effects)
    return size / np.maximum(size.sum(1, keepdims=True), TINY)


def influence(share: Matrix, weights: Vector) -> Vector:
    """weights · (share + share² + …): for each node the sum over all paths to the weighted nodes.

    InputError for a graph with a cycle, whose paths have no end.
    """
    step, total = weights.astype(np.float64) @ share, np.zeros(len(weights))
    for _ in range(len(weights)):
        if not step.any():
            return total
        total += step
        step = step @ share
    if step.any():
        raise InputError("The graph has a cycle, so the influence of its nodes is not defined.")
    return total


def prune(
    effects: Matrix,
    weights: Vector,
    kinds: Kinds,
    node_share: float = NODE_SHARE,
    edge_share: float = EDGE_SHARE,
) -> Pruned:
    """The fewest nodes and edges that carry these shares of all influence.

    Tokens and logits always stay. Edges are judged on the graph of the nodes that stay; features
    left without a source or without a target go, and error terms without a target.
    """
    found = influence(shares(effects), weights)
    nodes = _most(found, node_share) | kinds.token | kinds.logit
    inside = effects * nodes[:, None] * nodes
    share = shares(inside)
    score = share * (influence(share, weights) + weights)[:, None]
    edges = _most(score.ravel(), edge_share).reshape(score.shape) & (inside != 0)
    return connected(nodes, edges, kinds)


def connected(nodes: Mask, edges: Bool[np.ndarray, "n n"], kinds: Kinds) -> Pruned:
    """Without nodes that lead nowhere and features that come from nowhere, again and again.

    Doing it twice changes nothing more.
    """
    while True:
        edges = edges & nodes[:, None] & nodes
        leads, comes = edges.any(0), edges.any(1)
        stays = nodes & (
            kinds.token | kinds.logit | (kinds.error & leads) | (kinds.feature & leads & comes)
        )
        if (stays == nodes).all():
            return Pruned(nodes, edges)
        nodes = stays


def _most(score: Vector, share: float) -> Mask:
    """The fewest entries whose sum is at least `share` of the whole."""
    order = np.argsort(-score, kind="stable")
    summed = np.cumsum(score[order])
    if not len(score) or summed[-1] <= 0:
        return np.zeros(len(score), bool)
    n = int(np.searchsorted(summed, share * summed[-1] * (1 - 1e-9))) + 1
    kept = np.zeros(len(score), bool)
    kept[order[:n]] = True
    return kept & (score > 0)


def replacement_score(found: Vector, kinds: Kinds) -> float | None:
    """The share of end-to-end influence that begins at tokens rather than at error terms."""
    tokens, errors = float(found[kinds.token].sum()), float(found[kinds.error].sum())
    return tokens / (tokens + errors) if tokens + errors > 0 else None


def completeness_score(share: Matrix, found: Vector, weights: Vector, kinds: Kinds) -> float | None:
    """The share of what goes into nodes that is not an error term's, weighted by influence.

    Nodes without sources (tokens, error terms) count as complete, as in circuit-tracer.
    """
    weight = found + weights
    missed = share[:, kinds.error].sum(1)
    return float(((1 - missed) * weight).sum() / weight.sum()) if weight.sum() > 0 else None
