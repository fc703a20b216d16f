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
NODE_INFLUENCE_SHARE = 0.8
EDGE_INFLUENCE_SHARE = 0.98
"""Of the influence that pruning keeps."""

EffectMatrix = Float[np.ndarray, "n n"]
NodeVector = Float[np.ndarray, "n"]
NodeMask = Bool[np.ndarray, "n"]


class NodeKindMasks(NamedTuple):
    """Which nodes are what; every node is one of these."""

    feature: NodeMask
    error: NodeMask
    token: NodeMask
    logit: NodeMask


class PrunedGraph(NamedTuple):
    """What pruning keeps."""

    nodes: NodeMask
    edges: Bool[np.ndarray, "n n"]


def normalize_effects(effects: EffectMatrix) -> EffectMatrix:
    """|effect| over the sum of its row; 0 in a row without effects."""
    size = np.abs(effects)
    return size / np.maximum(size.sum(1, keepdims=True), TINY)


def compute_influence(share: EffectMatrix, weights: NodeVector) -> NodeVector:
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


def prune_graph(
    effects: EffectMatrix,
    weights: NodeVector,
    kinds: NodeKindMasks,
    node_share: float = NODE_INFLUENCE_SHARE,
    edge_share: float = EDGE_INFLUENCE_SHARE,
) -> PrunedGraph:
    """The fewest nodes and edges that carry these shares of all influence.

    Tokens and logits always stay. Edges are judged on the graph of the nodes that stay; features
    left without a source or without a target go, and error terms without a target.
    """
    found = compute_influence(normalize_effects(effects), weights)
    nodes = _select_largest(found, node_share) | kinds.token | kinds.logit
    inside = effects * nodes[:, None] * nodes
    share = normalize_effects(inside)
    score = share * (compute_influence(share, weights) + weights)[:, None]
    edges = _select_largest(score.ravel(), edge_share).reshape(score.shape) & (inside != 0)
    return remove_unconnected_nodes(nodes, edges, kinds)


def remove_unconnected_nodes(
    nodes: NodeMask, edges: Bool[np.ndarray, "n n"], kinds: NodeKindMasks
) -> PrunedGraph:
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
            return PrunedGraph(nodes, edges)
        nodes = stays


def _select_largest(score: NodeVector, share: float) -> NodeMask:
    """The fewest entries whose sum is at least `share` of the whole."""
    order = np.argsort(-score, kind="stable")
    summed = np.cumsum(score[order])
    if not len(score) or summed[-1] <= 0:
        return np.zeros(len(score), bool)
    n = int(np.searchsorted(summed, share * summed[-1] * (1 - 1e-9))) + 1
    kept = np.zeros(len(score), bool)
    kept[order[:n]] = True
    return kept & (score > 0)


def graph_replacement_score(found: NodeVector, kinds: NodeKindMasks) -> float | None:
    """The share of end-to-end influence that begins at tokens rather than at error terms."""
    tokens, errors = float(found[kinds.token].sum()), float(found[kinds.error].sum())
    return tokens / (tokens + errors) if tokens + errors > 0 else None


def graph_completeness_score(
    share: EffectMatrix, found: NodeVector, weights: NodeVector, kinds: NodeKindMasks
) -> float | None:
    """The share of what goes into nodes that is not an error term's, weighted by influence.

    Nodes without sources (tokens, error terms) count as complete, as in circuit-tracer.
    """
    weight = found + weights
    missed = share[:, kinds.error].sum(1)
    return float(((1 - missed) * weight).sum() / weight.sum()) if weight.sum() > 0 else None
