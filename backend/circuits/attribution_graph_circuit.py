"""Attribution graph as a circuit record: prunes the graph by influence, names its nodes, computes
its scores and notes what it does not cover."""

from collections.abc import Sequence

import numpy as np
import torch

from backend.circuits.attribution_graph import (
    EFFECT_BYTES,
    TRACED_FEATURES,
    AttributionGraph,
    build_attribution_graph,
)
from backend.circuits.graph_influence import (
    EDGE_INFLUENCE_SHARE,
    NODE_INFLUENCE_SHARE,
    compute_influence,
    graph_completeness_score,
    graph_replacement_score,
    normalize_effects,
    prune_graph,
)
from backend.circuits.logit_targets import LogitTarget, build_logit_target, select_likeliest_logits
from backend.circuits.prompt_tokens import build_circuit_prompt
from backend.circuits.records import (
    Circuit,
    CircuitEdge,
    CircuitNode,
    error_id,
    feature_id,
    logit_id,
    token_id,
)
from backend.circuits.source_tracer import TracedCountProgress
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TokenizedText
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.hook_sites import check_single_sites
from feature_store.number_ranges import describe_layers

METHOD = "attribution-graph"
EFFECT_MEANING = (
    "Influence: the share of the targets that the paths through this node account "
    "for, in a graph whose direct effects are made positive and normalized to sum "
    "to one for each target. It has no sign and no unit."
)


def find_attribution_circuit(
    lm: LanguageModel,
    dictionaries: Sequence[Dictionary],
    text: TokenizedText,
    *,
    answers: Sequence[int] = (),
    against: Sequence[int] = (),
    budget: int = TRACED_FEATURES,
    memory: int = EFFECT_BYTES,
    node_share: float = NODE_INFLUENCE_SHARE,
    edge_share: float = EDGE_INFLUENCE_SHARE,
    on_progress: TracedCountProgress | None = None,
) -> Circuit:
    """Build and prune the attribution graph of a prompt through the transcoders among
    `dictionaries`, and return it as a circuit.

    `answers` and `against` are the token ids of the target; without answers the likeliest next
    tokens are explained together. Raises InputError as `build_attribution_graph` does, and if no
    dictionary is a transcoder.
    """
    check_single_sites(dictionaries, "Attribution graphs")
    used = [one for one in dictionaries if one.is_transcoder]
    if not used:
        raise InputError(
            "An attribution graph needs transcoders, and none of the dictionaries is one. "
            "Use the method sparse-features or trace."
        )

    def select_targets(logits: torch.Tensor) -> list[LogitTarget]:
        return (
            build_logit_target(lm, logits, answers, against)
            if answers
            else select_likeliest_logits(lm, logits)
        )

    graph = build_attribution_graph(
        lm, used, text, select_targets, budget=budget, memory=memory, on_progress=on_progress
    )
    notes = _describe_unused_dictionaries(dictionaries, used) + _describe_linearisation(
        answers, against
    )
    return convert_graph_to_circuit(graph, text, node_share, edge_share, notes=notes)


def convert_graph_to_circuit(
    graph: AttributionGraph,
    text: TokenizedText,
    node_share: float = NODE_INFLUENCE_SHARE,
    edge_share: float = EDGE_INFLUENCE_SHARE,
    *,
    notes: Sequence[str] = (),
) -> Circuit:
    """Convert an attribution graph into a circuit that keeps the nodes and edges with the given
    shares of the influence.

    Edge weights are direct effects: in logits for edges into a logit, else in units of the target's
    pre-activation.
    """
    lm = graph.replacement.lm
    share, kinds = normalize_effects(graph.effects), graph.kinds
    found = compute_influence(share, graph.weights)
    through = sum_signed_paths(graph)
    kept = prune_graph(graph.effects, graph.weights, kinds, node_share, edge_share)
    prompt = build_circuit_prompt(lm.tokenizer, text)
    nodes = _build_nodes(graph, found, prompt.tokens)
    numbers = np.flatnonzero(kept.nodes)
    order = sorted(numbers, key=lambda i: (i >= len(graph.sources), -(nodes[i].effect or 0.0)))
    return Circuit(
        method=METHOD,
        model=lm.name,
        prompts=(prompt,),
        target=", ".join(target.label for target in graph.logit_targets),
        nodes=tuple(nodes[i] for i in order),
        edges=_build_edges(graph, kept.edges, nodes),
        dictionaries=tuple(
            site.name for site in graph.replacement.sites if site.activations is not None
        ),
        slots=prompt.tokens,
        effect_means=EFFECT_MEANING,
        facts={
            "replacement_score": graph_replacement_score(found, kinds),
            "completeness_score": graph_completeness_score(share, found, graph.weights, kinds),
            "active_features": graph.n_active,
            "traced_features": graph.n_traced,
            "untraced_influence": graph.untraced_share,
            "nodes_before_pruning": len(graph.effects),
            "edges_before_pruning": int((graph.effects != 0).sum()),
            "predicted": {nodes[i].id: -through[i] for i in order if not kinds.logit[i]},
            "node_share": node_share,
            "edge_share": edge_share,
        },
        notes=(*_describe_coverage(graph), *notes),
    )


def sum_signed_paths(graph: AttributionGraph) -> list[float]:
    """Return, for each node of an attribution graph, the signed amount of the weighted logit
    targets that comes through the node along all paths.

    Ablating the node removes this amount if patterns, norms and feature gates stay frozen.
    """
    made_up = np.array(
        [place.value if place.feature is not None else 1.0 for place in graph.sources]
    )
    scale = np.concatenate([made_up, np.ones(len(graph.logit_targets))])
    step = graph.weights.astype(np.float64)
    total = np.zeros(len(step))
    for _ in range(len(graph.replacement.sites) + 1):
        step = (step / scale) @ graph.effects
        if not step.any():
            break
        total += step
    return total.tolist()


def _build_nodes(
    graph: AttributionGraph, found: np.ndarray, tokens: Sequence[str]
) -> list[CircuitNode]:
    """Build a circuit node for every node of the attribution graph, with its influence as
    effect."""
    sites = graph.replacement.sites
    last = len(tokens) - 1
    nodes = []
    for i, place in enumerate(graph.sources):
        site, effect, at = sites[place.site], float(found[i]), place.position
        if place.feature is not None:
            id = feature_id(site.name, place.feature, at)
            node = CircuitNode(
                id, "feature", site.layer, at, site.name, place.feature, effect, place.value
            )
        elif site.is_tokens:
            word = int(graph.replacement.tokens[0, at])
            node = CircuitNode(
                token_id(at), "token", -1, at, "", word, effect, place.value, tokens[at]
            )
        else:
            id = error_id(site.name, at)
            node = CircuitNode(id, "error", site.layer, at, site.name, None, effect, place.value)
        nodes.append(node)
    for target in graph.logit_targets:
        number = target.name if isinstance(target.name, int) else None
        id = logit_id(target.name, last)
        depth = graph.replacement.lm.n_layers
        nodes.append(
            CircuitNode(
                id,
                "logit",
                depth,
                last,
                "",
                number,
                target.weight,
                target.probability,
                target.label,
            )
        )
    return nodes


def _build_edges(
    graph: AttributionGraph, kept: np.ndarray, nodes: Sequence[CircuitNode]
) -> tuple[CircuitEdge, ...]:
    """Build the circuit edges of the attribution graph's direct effects that pruning kept, by
    falling |weight|."""
    rows, columns = np.nonzero(kept)
    weights = graph.effects[rows, columns]
    order = np.argsort(-np.abs(weights), kind="stable")
    ends = zip(*(part[order].tolist() for part in (columns, rows, weights)), strict=True)
    return tuple(
        CircuitEdge(nodes[source].id, nodes[target].id, weight) for source, target, weight in ends
    )


def _describe_coverage(graph: AttributionGraph) -> list[str]:
    """Return notes on what the attribution graph does not cover: layers without a transcoder, and
    features that were not traced."""
    sites = graph.replacement.sites
    bare = [site.layer for site in sites if site.activations is None and not site.is_tokens]
    notes = []
    if bare:
        notes.append(
            f"Without a transcoder: {describe_layers(bare)}. The outputs of their MLPs are "
            "error nodes, whose causes are not traced."
        )
    if graph.untraced_share > 1e-6:
        notes.append(
            f"{graph.n_traced} of {graph.n_active} active features were traced, the most "
            f"influential first. The others, with {graph.untraced_share:.1%} of the features' "
            "influence, were left out."
        )
    return notes


def _describe_unused_dictionaries(
    given: Sequence[Dictionary], used: Sequence[Dictionary]
) -> list[str]:
    others = [one.name for one in given if one not in used]
    if not others:
        return []
    return [f"Not in this graph because they are not transcoders: {', '.join(others)}."]


def _describe_linearisation(answers: Sequence[int], against: Sequence[int]) -> list[str]:
    if max(len(answers), len(against)) < 2:
        return []
    return [
        "For a set of answers, the target follows the log of their summed probability "
        "by its derivative at this prompt."
    ]
