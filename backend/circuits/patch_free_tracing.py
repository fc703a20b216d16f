"""Patch-free tracing of a circuit: from a logit, a feature or an attention score back to earlier
features, without activation patching.

Everything that writes to the residual stream is cut into features and an error term. With patterns
and norm scales frozen, a number is then a signed sum over what was written before it, and each
feature of that sum is such a number itself (after He et al. 2024, arXiv:2402.12201). Tracing takes
one forward pass, and one backward pass for each batch of features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float

from backend.circuits.attention_score import LinearizedScore, linearize_attention_score
from backend.circuits.frozen_model import FINAL_NORM
from backend.circuits.logit_targets import build_logit_target
from backend.circuits.prompt_tokens import build_circuit_prompt
from backend.circuits.records import (
    Circuit,
    CircuitEdge,
    CircuitNode,
    error_id,
    feature_id,
    head_id,
    logit_id,
    token_id,
)
from backend.circuits.replacement_model import (
    LinearReadout,
    ReplacementModel,
    fold_encoder_rows,
    layer_of_hook,
)
from backend.circuits.source_tracer import (
    SourceNode,
    SourceTracer,
    TracedCountProgress,
    TracedEffects,
)
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TokenizedText
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError, pick_by_name
from feature_store.hook_sites import check_single_sites
from feature_store.number_ranges import describe_layers
from feature_store.records import FeatureId

METHOD = "trace"
TRACED_FEATURES = 500
EFFECT_BYTES = 512 << 20
SHOWN_NODES = 100
EDGE_EFFECT_SHARE = 0.98
QUERY_KEY_PAIRS, SOURCES_PER_SIDE = 30, 200
"""Number of query-key pairs shown for an attention score, and number of sources on either side that
are paired."""
EFFECT_MEANING = (
    "The part of the start's value that comes through this node, signed and in the "
    "start's units, with attention patterns and norm scales frozen. Nodes on one "
    "path count the same part twice."
)


@dataclass(frozen=True)
class LogitStart:
    """Start of patch-free tracing at a logit: a token's logit (or the log of a set's summed
    probability), less that of others."""

    answers: tuple[int, ...]
    against: tuple[int, ...] = ()


@dataclass(frozen=True)
class FeatureStart:
    """Start of patch-free tracing at a feature: its pre-activation at a position."""

    feature: FeatureId
    position: int


@dataclass(frozen=True)
class AttentionScoreStart:
    """Start of patch-free tracing at an attention score, with its query side and its key side."""

    layer: int
    head: int
    query: int
    key: int


TraceStart = LogitStart | FeatureStart | AttentionScoreStart


@dataclass(frozen=True, eq=False)
class _PreparedStart:
    """Prepared start of patch-free tracing: its nodes, and the linear readout of each."""

    nodes: list[CircuitNode]
    readouts: list[LinearReadout]
    extra_reads: list[str]
    score: LinearizedScore | None = None


def trace_to_sources(
    lm: LanguageModel,
    dictionaries: Sequence[Dictionary],
    text: TokenizedText,
    start: TraceStart,
    *,
    known: Sequence[Dictionary] = (),
    budget: int = TRACED_FEATURES,
    memory: int = EFFECT_BYTES,
    nodes: int = SHOWN_NODES,
    edge_share: float = EDGE_EFFECT_SHARE,
    on_progress: TracedCountProgress | None = None,
) -> Circuit:
    """Trace a start (a logit, a feature or an attention score) back to its strongest source nodes
    and return the circuit with the fewest direct edges that carry `edge_share` of what passes
    between these nodes.

    `dictionaries` are cut into sources, dictionaries of the residual stream included: see
    `select_cut_dictionaries`. `known` may name the dictionary of a starting feature that is not
    cut. Raises InputError for a start that does not exist, and as `ReplacementModel` does.
    """
    tokens, counted = torch.tensor([text.token_ids]), torch.tensor([text.counted])
    prepared = _prepare_start(lm, [*known, *dictionaries], text, start)
    replacement = ReplacementModel(
        lm, tokens, counted, dictionaries, extra_reads=prepared.extra_reads
    )
    weights = np.full(len(prepared.readouts), 1.0)
    tracer = SourceTracer(
        replacement, prepared.readouts, weights, budget=budget, memory=memory, rule="signed"
    )
    found = tracer.trace_features(on_progress)
    return _build_circuit(lm, text, tracer, found, prepared, nodes, edge_share)


def select_cut_dictionaries(
    lm: LanguageModel, dictionaries: Sequence[Dictionary]
) -> list[Dictionary]:
    """Select the dictionaries that patch-free tracing cuts: those that write to the stream from
    attention or an MLP, or all if there are none.

    Dictionaries of the residual stream cut it at every layer, so that traces through them reach
    back one layer only. If two write to one hook point, the first is taken.
    """
    check_single_sites(dictionaries, "Traces")
    stream = ("hook_in", "hook_out", "ln2.hook_in")
    ends = {f"blocks.{layer}.{end}" for layer in range(lm.n_layers) for end in stream}
    branches = [one for one in dictionaries if lm.canonical(one.hook_out) not in ends]
    taken: dict[str, Dictionary] = {}
    for one in branches or dictionaries:
        taken.setdefault(lm.canonical(one.hook_out), one)
    return list(taken.values())


def _prepare_start(
    lm: LanguageModel, known: Sequence[Dictionary], text: TokenizedText, start: TraceStart
) -> _PreparedStart:
    """Prepare the start of patch-free tracing: its nodes, readouts and the hook points where they
    are read."""
    if isinstance(start, LogitStart):
        return _prepare_logit_start(lm, text, start)
    if isinstance(start, FeatureStart):
        return _prepare_feature_start(lm, {one.name: one for one in known}, text, start)
    tokens = torch.tensor([text.token_ids])
    score = linearize_attention_score(lm, tokens, start.layer, start.head, start.query, start.key)
    id = head_id(start.layer, start.head, start.query)
    looks = f"head {start.layer}.{start.head} at {start.query} attends to {start.key}"
    nodes = [
        CircuitNode(
            f"{id}:{side}",
            "head",
            start.layer,
            at,
            "",
            start.head,
            score.value,
            score.value,
            f"{looks}: {side}",
        )
        for side, at in (("query", start.query), ("key", start.key))
    ]
    block = f"blocks.{start.layer}.attn"
    reads = [f"{block}.hook_q", f"{block}.hook_k"]
    return _PreparedStart(nodes, [score.query, score.key], reads, score)


def prepare_single_start(
    lm: LanguageModel,
    known: Sequence[Dictionary],
    text: TokenizedText,
    start: LogitStart | FeatureStart,
) -> tuple[CircuitNode, LinearReadout]:
    """Return the node of a tracing start (a logit or a feature) and its linear readout. Raises
    InputError for a start that does not exist."""
    found = _prepare_start(lm, known, text, start)
    return found.nodes[0], found.readouts[0]


def _prepare_logit_start(
    lm: LanguageModel, text: TokenizedText, start: LogitStart
) -> _PreparedStart:
    tokens, last = torch.tensor([text.token_ids]), len(text.token_ids) - 1
    with torch.no_grad():
        (target,) = build_logit_target(lm, lm.logits(tokens)[0, -1], start.answers, start.against)
    token = target.name if isinstance(target.name, int) else None
    id = logit_id(target.name, last)
    node = CircuitNode(
        id, "logit", lm.n_layers, last, "", token, None, target.probability, target.label
    )
    return _PreparedStart([node], [target.linear_readout(lm, last)], [f"{FINAL_NORM}.hook_out"])


def _prepare_feature_start(
    lm: LanguageModel, known: dict[str, Dictionary], text: TokenizedText, start: FeatureStart
) -> _PreparedStart:
    d = pick_by_name("dictionary", start.feature.dictionary, known)
    if not 0 <= start.feature.index < d.d_sae:
        raise InputError(f"{d.name} has features 0 to {d.d_sae - 1}, not {start.feature.index}.")
    if not 0 <= start.position < len(text.token_ids):
        raise InputError(
            f"The prompt has positions 0 to {len(text.token_ids) - 1}, not {start.position}."
        )
    G, b = fold_encoder_rows(lm, d, torch.tensor([start.feature.index]))
    readout = LinearReadout(lm.canonical(d.hook_name), start.position, G[0], float(b[0]))
    id = feature_id(d.name, start.feature.index, start.position)
    node = CircuitNode(
        id, "feature", layer_of_hook(d.hook_out), start.position, d.name, start.feature.index
    )
    return _PreparedStart([node], [readout], [d.hook_name])


def _build_circuit(
    lm: LanguageModel,
    text: TokenizedText,
    tracer: SourceTracer,
    found: TracedEffects,
    prepared: _PreparedStart,
    most: int,
    edge_share: float,
) -> Circuit:
    """Build the circuit record of patch-free tracing from the traced effects and the nodes of the
    start."""
    prompt = build_circuit_prompt(lm.tokenizer, text)
    effects = tracer.importance()
    places = [tracer.columns.sources[i] for i in found.kept]
    nodes = [
        _build_node(tracer.replacement, place, float(effects[i]), prompt.tokens)
        for i, place in zip(found.kept.tolist(), places, strict=True)
    ]
    start_nodes = [
        replace(node, effect=value, value=value if node.value is None else node.value)
        for node, value in zip(prepared.nodes, found.values[len(nodes) :].tolist(), strict=True)
    ]
    own = {node.id for node in start_nodes}
    order = np.argsort(-np.abs([node.effect or 0.0 for node in nodes]), kind="stable")
    strong = [i for i in order.tolist() if nodes[i].effect and nodes[i].id not in own][:most]
    rows = [*strong, *range(len(nodes), len(nodes) + len(start_nodes))]
    edges = _select_edges(found, [*nodes, *start_nodes], rows, edge_share)
    direct = found.effects[len(nodes) :, : len(nodes)]
    facts = {
        "start": [node.effect for node in start_nodes],
        "bias": [
            node.effect - float(row.sum())
            for node, row in zip(start_nodes, direct, strict=True)
            if node.effect is not None
        ],
        "from_errors": [
            float(row[_error_term_mask(tracer.replacement, places)].sum()) for row in direct
        ],
        "active_features": tracer.columns.n_features,
        "traced_features": len(tracer.features),
        "untraced": found.untraced_share,
        "edge_share": edge_share,
    }
    if prepared.score is not None:
        facts["pairs"] = _strongest_query_key_pairs(tracer.replacement, prepared, found, nodes)
    return Circuit(
        method=METHOD,
        model=lm.name,
        prompts=(prompt,),
        target=start_nodes[0].label or start_nodes[0].id,
        nodes=(*(nodes[i] for i in strong), *start_nodes),
        edges=edges,
        dictionaries=tuple(s.name for s in tracer.replacement.sites if s.activations is not None),
        slots=prompt.tokens,
        effect_means=EFFECT_MEANING,
        facts=facts,
        notes=_write_notes(tracer, found, prepared, len(nodes), len(strong)),
    )


def _build_node(
    replacement: ReplacementModel, place: SourceNode, effect: float, tokens: Sequence[str]
) -> CircuitNode:
    site, at = replacement.sites[place.site], place.position
    if place.feature is not None:
        id = feature_id(site.name, place.feature, at)
        return CircuitNode(
            id, "feature", site.layer, at, site.name, place.feature, effect, place.value
        )
    if site.is_tokens:
        token = int(replacement.tokens[0, at])
        return CircuitNode(
            token_id(at), "token", -1, at, "", token, effect, place.value, tokens[at]
        )
    return CircuitNode(
        error_id(site.name, at), "error", site.layer, at, site.name, None, effect, place.value
    )


def _select_edges(
    found: TracedEffects, nodes: Sequence[CircuitNode], rows: Sequence[int], share: float
) -> tuple[CircuitEdge, ...]:
    """Return the edges of a traced circuit: direct effects, the part of the target's value that
    comes from the source."""
    inside = found.effects[np.ix_(rows, rows)]
    scale = [
        abs((nodes[i].effect or 0.0) / found.values[i]) if found.values[i] else 0.0 for i in rows
    ]
    passes = np.abs(inside) * np.nan_to_num(np.array(scale))[:, None]
    order = np.argsort(-passes, axis=None, kind="stable")
    summed = np.cumsum(passes.ravel()[order])
    if not len(summed) or summed[-1] <= 0:
        return ()
    n = int(np.searchsorted(summed, share * summed[-1] * (1 - 1e-9))) + 1
    pairs = [divmod(int(i), len(rows)) for i in order[:n]]
    edges = [
        CircuitEdge(nodes[rows[s]].id, nodes[rows[t]].id, float(inside[t, s]))
        for t, s in pairs
        if inside[t, s] != 0
    ]
    edges.sort(key=lambda edge: -abs(edge.weight))
    return tuple(edges)


def _error_term_mask(
    replacement: ReplacementModel, places: Sequence[SourceNode]
) -> Float[np.ndarray, "n"]:
    sites = replacement.sites
    return np.array([p.feature is None and not sites[p.site].is_tokens for p in places], bool)


def _strongest_query_key_pairs(
    replacement: ReplacementModel,
    prepared: _PreparedStart,
    found: TracedEffects,
    nodes: Sequence[CircuitNode],
) -> list[dict[str, object]]:
    """Return the strongest pairs of a query source and a key source that tracing an attention score
    found, by their contribution to the score. (Pairs with a bias are only in the sums of the two
    sides.)"""
    assert prepared.score is not None
    n = len(nodes)
    chosen = [np.argsort(-np.abs(row[:n]))[:SOURCES_PER_SIDE] for row in found.effects[n:]]
    score = prepared.score
    vectors = [
        _head_vectors_of_sources(replacement, readout, part, found.kept[columns])
        for readout, part, columns in (
            (score.query, score.query_slice, chosen[0]),
            (score.key, score.key_slice, chosen[1]),
        )
    ]
    products = vectors[0].T @ score.between.float().cpu().numpy() @ vectors[1]
    best = np.argsort(-np.abs(products), axis=None)[:QUERY_KEY_PAIRS]
    strongest = []
    for i in best.tolist():
        row, column = divmod(i, products.shape[1])
        query, key = nodes[int(chosen[0][row])], nodes[int(chosen[1][column])]
        strongest.append({"query": query.id, "key": key.id, "score": float(products[row, column])})
    return strongest


def _head_vectors_of_sources(
    replacement: ReplacementModel, readout: LinearReadout, part: slice, columns: np.ndarray
) -> Float[np.ndarray, "d_head m"]:
    """Return what each source that was traced from an attention score contributes to the query or
    key vector of the score's head: [d_head, source]."""
    width = len(readout.direction)
    rows = []
    for begin in range(part.start, part.stop, replacement.rows):
        axes = torch.arange(begin, min(begin + replacement.rows, part.stop))
        basis = torch.nn.functional.one_hot(axes, width).to(readout.direction)
        chosen = [replace(readout, direction=one) for one in basis]
        rows.append(
            replacement.source_contributions(chosen).detach().float().cpu().numpy()[:, columns]
        )
    return np.concatenate(rows)


def _write_notes(
    tracer: SourceTracer, found: TracedEffects, prepared: _PreparedStart, there: int, shown: int
) -> tuple[str, ...]:
    notes = []
    if prepared.score is not None:
        notes.append(
            "The query's side and the key's side each make up the whole score, with the "
            "other side fixed; effects are summed over both."
        )
    bare = [s.layer for s in tracer.replacement.sites if s.activations is None and not s.is_tokens]
    if bare:
        notes.append(
            f"No dictionary represents the MLPs of {describe_layers(bare)}: they are error "
            "nodes, whose causes are not traced. Attention without a dictionary is passed "
            "through."
        )
    if found.untraced_share > 1e-6:
        notes.append(
            f"{len(tracer.features)} of {tracer.columns.n_features} active features were "
            f"traced; the others have {found.untraced_share:.1%} of the features' contributions."
        )
    if shown < there:
        notes.append(f"The {shown} strongest of {there} nodes are shown.")
    return tuple(notes)
