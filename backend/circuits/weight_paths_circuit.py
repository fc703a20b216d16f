"""Weight paths as a circuit record: the strongest paths of a prompt merged into one graph, with
their facts."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from backend.circuits.patch_free_tracing import FeatureStart, LogitStart
from backend.circuits.prompt_tokens import build_circuit_prompt, token_texts
from backend.circuits.records import Circuit, CircuitEdge, CircuitNode
from backend.circuits.weight_connections import find_de_embedding_tokens
from backend.circuits.weight_paths import (
    BEAM_WIDTH,
    STEPS_PER_PLACE,
    DepthProgress,
    WeightPath,
    find_greedy_paths,
)
from backend.dictionaries.base import Dictionary
from backend.engine_protocol import TokenizedText
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.hook_sites import check_single_sites

METHOD = "weights"
SHOWN_PATHS = 100
DE_EMBEDDING_TOKENS = 10
EFFECT_MEANING = (
    "The part of the start's value that comes along the shown paths which begin at "
    "this node, in the start's units, with attention patterns and norm scales "
    "frozen."
)


def build_weight_paths_circuit(
    lm: LanguageModel,
    dictionaries: Sequence[Dictionary],
    text: TokenizedText,
    start: FeatureStart | LogitStart,
    *,
    steps: int = STEPS_PER_PLACE,
    beam: int = BEAM_WIDTH,
    most: int = SHOWN_PATHS,
    on_progress: DepthProgress | None = None,
) -> Circuit:
    """Find the strongest weight paths through the transcoders among `dictionaries` and merge them
    into a circuit; a starting feature's de-embedding is one of its facts. Raises InputError as
    `find_greedy_paths` does."""
    check_single_sites(dictionaries, "Weight paths")
    used = [one for one in dictionaries if one.is_transcoder]
    if not used:
        raise InputError(
            "Weight paths need transcoders, and none of the dictionaries is one. Use the "
            "method trace."
        )
    paths = find_greedy_paths(
        lm, used, text, start, known=dictionaries, steps=steps, beam=beam, on_progress=on_progress
    )
    shown = paths[:most]
    unused = [one.name for one in dictionaries if one not in used]
    prompt = build_circuit_prompt(lm.tokenizer, text)
    nodes, edges = _merge_paths(shown)
    facts: dict[str, object] = {
        "paths": [{"nodes": [n.id for n in path.nodes], "value": path.value} for path in shown],
        "paths_found": len(paths),
    }
    if isinstance(start, FeatureStart):
        facts["de_embedding"] = _read_de_embedding(lm, dictionaries, start)
    return Circuit(
        method=METHOD,
        model=lm.name,
        prompts=(prompt,),
        target=shown[0].nodes[-1].label or shown[0].nodes[-1].id if shown else "",
        nodes=nodes,
        edges=edges,
        dictionaries=tuple(one.name for one in used),
        slots=prompt.tokens,
        effect_means=EFFECT_MEANING,
        facts=facts,
        notes=(
            f"The {len(shown)} strongest of {len(paths)} paths found; a greedy search does "
            "not find all paths.",
            *(
                [f"On no path because they are not transcoders: {', '.join(unused)}."]
                if unused
                else []
            ),
        ),
    )


def _merge_paths(
    shown: Sequence[WeightPath],
) -> tuple[tuple[CircuitNode, ...], tuple[CircuitEdge, ...]]:
    """Merge weight paths into nodes and edges. The weight of an edge is the sum of the paths that
    begin with it."""
    nodes: dict[str, CircuitNode] = {}
    effects: dict[str, float] = {}
    carried: dict[tuple[str, str], float] = {}
    for path in shown:
        nodes |= {node.id: node for node in path.nodes}
        source, after = path.nodes[0].id, path.nodes[1].id
        effects[source] = effects.get(source, 0.0) + path.value
        carried[source, after] = carried.get((source, after), 0.0) + path.value
    for path in shown:  # a shown path needs all of its edges
        for one, other in pairwise(path.nodes):
            carried.setdefault((one.id, other.id), 0.0)
    ends = {path.nodes[-1].id for path in shown}
    ranked = [
        node if node.id in ends else replace(node, effect=effects.get(node.id))
        for node in nodes.values()
    ]
    ranked.sort(key=lambda node: (node.id in ends, -abs(node.effect or 0.0)))
    edges = [CircuitEdge(*ids, weight) for ids, weight in carried.items()]
    return tuple(ranked), tuple(sorted(edges, key=lambda edge: -abs(edge.weight)))


def _read_de_embedding(
    lm: LanguageModel, dictionaries: Sequence[Dictionary], start: FeatureStart
) -> dict[str, list[dict[str, object]]]:
    d = next(one for one in dictionaries if one.name == start.feature.dictionary)
    found = find_de_embedding_tokens(lm, d, start.feature.index, DE_EMBEDDING_TOKENS)
    tokens = {}
    for name, ids, values in (
        ("up", found.up, found.up_value),
        ("down", found.down, found.down_value),
    ):
        words = token_texts(lm.tokenizer, ids.tolist())
        tokens[name] = [
            {"token": word, "value": value}
            for word, value in zip(words, values.tolist(), strict=True)
        ]
    return tokens
