"""Influence of the nodes of an attribution graph on its targets, pruning by influence, and the
replacement and completeness scores.

Rows are targets and columns are their sources, as in circuit-tracer. The absolute effects of a row,
divided by their sum, are the shares that its sources account for (Ameisen et al. 2025). Influence
sums the products of these shares over all paths to the targets.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from feature_store.errors import InputError

TINY = 1e-10
NODE_INFLUENCE_SHARE = 0.8
EDGE_INFLUENCE_SHARE = 0.98
"""Shares of the influence that the pruning of nodes and of edges keeps by default."""

EffectMatrix = Float[np.ndarray, "n n"]
NodeVector = Float[np.ndarray, "n"]
NodeMask = Bool[np.ndarray, "n"]


class NodeKindMasks(NamedTuple):
    """Masks of the kinds of nodes in a graph; every node has exactly one kind."""

    feature: NodeMask
    error: NodeMask
    token: NodeMask
    logit: NodeMask


class PrunedGraph(NamedTuple):
    """Masks of the nodes and edges that remain when a graph is pruned by influence."""

    nodes: NodeMask
    edges: Bool[np.ndarray, "n n"]


def normalize_effects(effects: EffectMatrix) -> EffectMatrix:
    """Divide the |effects| of each target by their sum, as the computation of influence needs them;
    a row without effects stays 0."""
    size = np.abs(effects)
    return size / np.maximum(size.sum(1, keepdims=True), TINY)


def compute_influence(share: EffectMatrix, weights: NodeVector) -> NodeVector:
    """Compute the influence of each node, weights · (share + share² + …): the sum over all paths
    from the node to the weighted targets.

    Raises InputError for a graph with a cycle, in which the sum does not end.
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
    """Prune a graph to the fewest nodes and edges that carry the given shares of the influence.

    Tokens and logits always stay. Edges are ranked on the graph of the nodes that stay; features
    without a source or a target are dropped, and so are error terms without a target.
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
    """Remove from a pruned graph the features without a source or a target and the error terms
    without a target, until none is left.

    A second call changes nothing.
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
    """Return the mask of the fewest entries whose sum is at least `share` of the total
    influence."""
    order = np.argsort(-score, kind="stable")
    summed = np.cumsum(score[order])
    if not len(score) or summed[-1] <= 0:
        return np.zeros(len(score), bool)
    n = int(np.searchsorted(summed, share * summed[-1] * (1 - 1e-9))) + 1
    kept = np.zeros(len(score), bool)
    kept[order[:n]] = True
    return kept & (score > 0)


def graph_replacement_score(found: NodeVector, kinds: NodeKindMasks) -> float | None:
    """Return the replacement score of a graph: the share of end-to-end influence that starts at
    tokens rather than at error terms."""
    tokens, errors = float(found[kinds.token].sum()), float(found[kinds.error].sum())
    return tokens / (tokens + errors) if tokens + errors > 0 else None


def graph_completeness_score(
    share: EffectMatrix, found: NodeVector, weights: NodeVector, kinds: NodeKindMasks
) -> float | None:
    """Return the completeness score of a graph: the share of the nodes' inputs that does not come
    from error terms, weighted by influence.

    Nodes without sources (tokens, error terms) count as complete, as in circuit-tracer.
    """
    weight = found + weights
    missed = share[:, kinds.error].sum(1)
    return float(((1 - missed) * weight).sum() / weight.sum()) if weight.sum() > 0 else None
