"""An attribution graph as a circuit: pruned, named, scored, with what it does not cover."""

from collections.abc import Sequence

import numpy as np
import torch

from backend.circuits.aims import Aim, chosen, likeliest
from backend.circuits.attribution_graph import BUDGET, MEMORY, Graph, attribution_graph
from backend.circuits.influence import (
    EDGE_SHARE,
    NODE_SHARE,
    completeness_score,
    influence,
    prune,
    replacement_score,
    shares,
)
from backend.circuits.records import (
    Circuit,
    Edge,
    Node,
    error_id,
    feature_id,
    logit_id,
    token_id,
)
from backend.circuits.tracer import Said
from backend.circuits.words import prompt_of
from backend.dictionaries.base import Dictionary
from backend.live import Text
from backend.lm import Lm
from feature_store.errors import InputError
from feature_store.number_ranges import describe_layers

METHOD = "attribution-graph"
MEANS = (
    "Influence: the share of the targets that paths through this node account for, in a graph "
    "whose direct effects are made positive and sum to one for each target. No sign, no unit."
)


def attribution_circuit(
    lm: Lm,
    dictionaries: Sequence[Dictionary],
    text: Text,
    *,
    answers: Sequence[int] = (),
    against: Sequence[int] = (),
    budget: int = BUDGET,
    memory: int = MEMORY,
    node_share: float = NODE_SHARE,
    edge_share: float = EDGE_SHARE,
    said: Said | None = None,
) -> Circuit:
    """The pruned attribution graph of a prompt, through those of the dictionaries that transcode.

    `answers` and `against` are token ids of the target; without answers the likeliest next tokens
    are explained together. InputError as in `attribution_graph`, and without any transcoder.
    """
    used = [one for one in dictionaries if one.hook_name != one.hook_out]
    if not used:
        raise InputError(
            "An attribution graph goes through transcoders, and none of the dictionaries is one: "
            "use the method sparse-features or trace."
        )

    def aims(logits: torch.Tensor) -> list[Aim]:
        return chosen(lm, logits, answers, against) if answers else likeliest(lm, logits)

    graph = attribution_graph(lm, used, text, aims, budget=budget, memory=memory, said=said)
    notes = _set_aside(dictionaries, used) + _linearised(answers, against)
    return to_circuit(graph, text, node_share, edge_share, notes=notes)


def to_circuit(
    graph: Graph,
    text: Text,
    node_share: float = NODE_SHARE,
    edge_share: float = EDGE_SHARE,
    *,
    notes: Sequence[str] = (),
) -> Circuit:
    """The graph's nodes and edges that carry these shares of the influence.

    Edge weights are direct effects: in logits where they end at a logit, in units of the target's
    pre-activation elsewhere.
    """
    lm = graph.replacement.lm
    share, kinds = shares(graph.effects), graph.kinds
    found = influence(share, graph.weights)
    through = signed(graph)
    kept = prune(graph.effects, graph.weights, kinds, node_share, edge_share)
    prompt = prompt_of(lm.tokenizer, text)
    nodes = _nodes(graph, found, prompt.tokens)
    numbers = np.flatnonzero(kept.nodes)
    order = sorted(numbers, key=lambda i: (i >= len(graph.places), -(nodes[i].effect or 0.0)))
    return Circuit(
        method=METHOD,
        model=lm.name,
        prompts=(prompt,),
        target=", ".join(aim.label for aim in graph.aims),
        nodes=tuple(nodes[i] for i in order),
        edges=_edges(graph, kept.edges, nodes),
        dictionaries=tuple(
            site.name for site in graph.replacement.sites if site.reading is not None
        ),
        slots=prompt.tokens,
        effect_means=MEANS,
        facts={
            "replacement_score": replacement_score(found, kinds),
            "completeness_score": completeness_score(share, found, graph.weights, kinds),
            "active_features": graph.active,
            "traced_features": graph.n_traced,
            "untraced_influence": graph.left_out,
            "nodes_before_pruning": len(graph.effects),
            "edges_before_pruning": int((graph.effects != 0).sum()),
            "predicted": {nodes[i].id: -through[i] for i in order if not kinds.logit[i]},
            "node_share": node_share,
            "edge_share": edge_share,
        },
        notes=(*_coverage(graph), *notes),
    )


def signed(graph: Graph) -> list[float]:
    """What of the weighted targets comes through each node along all paths, with its sign.

    Taking the node away takes that away, with patterns and norms held still and gates as they are.
    """
    made_up = np.array(
        [place.value if place.feature is not None else 1.0 for place in graph.places]
    )
    scale = np.concatenate([made_up, np.ones(len(graph.aims))])
    step = graph.weights.astype(np.float64)
    total = np.zeros(len(step))
    for _ in range(len(graph.replacement.sites) + 1):
        step = (step / scale) @ graph.effects
        if not step.any():
            break
        total += step
    return total.tolist()


def _nodes(graph: Graph, found: np.ndarray, tokens: Sequence[str]) -> list[Node]:
    sites = graph.replacement.sites
    last = len(tokens) - 1
    nodes = []
    for i, place in enumerate(graph.places):
        site, effect, at = sites[place.site], float(found[i]), place.position
        if place.feature is not None:
            id = feature_id(site.name, place.feature, at)
            node = Node(
                id, "feature", site.layer, at, site.name, place.feature, effect, place.value
            )
        elif site.is_tokens:
            word = int(graph.replacement.tokens[0, at])
            node = Node(token_id(at), "token", -1, at, "", word, effect, place.value, tokens[at])
        else:
            id = error_id(site.name, at)
            node = Node(id, "error", site.layer, at, site.name, None, effect, place.value)
        nodes.append(node)
    for aim in graph.aims:
        number = aim.name if isinstance(aim.name, int) else None
        id = logit_id(aim.name, last)
        depth = graph.replacement.lm.n_layers
        nodes.append(
            Node(id, "logit", depth, last, "", number, aim.weight, aim.probability, aim.label)
        )
    return nodes


def _edges(graph: Graph, kept: np.ndarray, nodes: Sequence[Node]) -> tuple[Edge, ...]:
    rows, columns = np.nonzero(kept)
    weights = graph.effects[rows, columns]
    order = np.argsort(-np.abs(weights), kind="stable")
    ends = zip(*(part[order].tolist() for part in (columns, rows, weights)), strict=True)
    return tuple(
        Edge(nodes[source].id, nodes[target].id, weight) for source, target, weight in ends
    )


def _coverage(graph: Graph) -> list[str]:
    sites = graph.replacement.sites
    bare = [site.layer for site in sites if site.reading is None and not site.is_tokens]
    notes = []
    if bare:
        notes.append(
            f"Without a transcoder: {describe_layers(bare)}. Their MLPs' outputs are error nodes "
            "whose causes are not traced."
        )
    if graph.left_out > 1e-6:
        notes.append(
            f"{graph.n_traced} of {graph.active} active features were traced, the most influential "
            f"first; {graph.left_out:.1%} of the features' influence is with others, left out."
        )
    return notes


def _set_aside(given: Sequence[Dictionary], used: Sequence[Dictionary]) -> list[str]:
    others = [one.name for one in given if one not in used]
    if not others:
        return []
    return [f"Not transcoders, so not in this graph: {', '.join(others)}."]


def _linearised(answers: Sequence[int], against: Sequence[int]) -> list[str]:
    if max(len(answers), len(against)) < 2:
        return []
    return [
        "A set of answers stands for the sum of their probabilities; its logit is followed by its "
        "derivative at this prompt."
    ]
