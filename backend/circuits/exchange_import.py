"""Graph files of circuit-tracer (and Neuronpedia) as circuits: checked whole before anything is
taken. InputError says which entry is wrong, and nothing is imported then."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backend.circuits.exchange import NODE_KEYS, OWN, TYPES
from backend.circuits.influence import influence, shares
from backend.circuits.records import (
    Circuit,
    Edge,
    Kind,
    Node,
    Prompt,
    error_id,
    feature_id,
    logit_id,
    token_id,
)
from feature_store.errors import InputError, listing
from feature_store.strict_json import parse_json

METHOD = "attribution-graph"
MOST_NODES = 50_000
MOST_LINKS = 2_000_000
KINDS: dict[str, Kind] = {told: kind for kind, told in TYPES.items()}
MEANS = (
    "Influence: the share of the targets that paths through this node account for, computed from "
    "the imported links. No sign, no unit."
)
OUTPUT = re.compile(r'Output "(.*)" \(p=[0-9.]+\)', re.DOTALL)
BIGGEST = 4_000
"""Nodes up to which influence is computed, with a dense matrix of 128 MB."""


def read_circuit_tracer(content: str | bytes) -> Circuit:
    """A graph file's content. Files of ours give back the circuit that was exported."""
    return from_circuit_tracer(parse_json(content, "This is not a graph file in JSON"))


def from_circuit_tracer(given: object) -> Circuit:
    """The same for parsed JSON."""
    file = _object(given, "The file")
    metadata = _object(_need(file, "metadata", "The file"), "metadata")
    tokens: list[str] = [
        _typed(one, str, f"prompt_tokens[{i}]")
        for i, one in enumerate(
            _list(_need(metadata, "prompt_tokens", "metadata"), "prompt_tokens")
        )
    ]
    scan = _typed(_need(metadata, "scan", "metadata"), str, "metadata.scan")
    rows = _list(_need(file, "nodes", "The file"), "nodes", MOST_NODES)
    names = _names(metadata, scan)
    nodes: dict[str, Node] = {}
    for i, row in enumerate(rows):
        key, node = _node(_object(row, f"Node {i}"), i, tokens, names)
        if key in nodes:
            raise InputError(f"Node {i} has the node_id {key!r}, which an earlier node has.")
        nodes[key] = node
    edges = _edges(_list(_need(file, "links", "The file"), "links", MOST_LINKS), nodes)
    if OWN in metadata:
        return _ours(_object(metadata[OWN], f"metadata.{OWN}"), nodes, edges)
    return _theirs(metadata, scan, tokens, list(nodes.values()), edges)


def _names(metadata: Mapping[str, Any], scan: str) -> list[str] | str:
    """The dictionaries' names by layer; a prefix for layer numbers where there is no list."""
    listed = metadata.get("transcoder_list") or []
    named = [_typed(one, str, "transcoder_list") for one in _list(listed, "transcoder_list")]
    return named or scan


def _node(
    row: Mapping[str, Any], i: int, tokens: list[str], names: list[str] | str
) -> tuple[str, Node]:
    where = f"Node {i}"
    key = _typed(_need(row, "node_id", where), str, f"{where}: node_id")
    told = _typed(_need(row, "feature_type", where), str, f"{where}: feature_type")
    if told not in KINDS:
        raise InputError(
            f"{where} ({key!r}) has the feature_type {told!r}, which is not known here. "
            f"{listing(list(KINDS))}"
        )
    kind = KINDS[told]
    position = _typed(_need(row, "ctx_idx", where), int, f"{where}: ctx_idx")
    if not 0 <= position < len(tokens):
        raise InputError(
            f"{where} ({key!r}) stands at position {position}; the prompt has {len(tokens)} tokens."
        )
    layer = _layer(row, kind, where)
    if OWN in row:
        own = _object(row[OWN], f"{where}: {OWN}")
        return key, _own_node(own, kind, layer, position, key, where)
    feature = _number(key, kind, layer, position, where)
    value = row.get("token_prob") if kind == "logit" else row.get("activation")
    value = None if value is None else _finite(value, f"{where}: its value")
    label = _label(row, kind, tokens[position], where)
    dictionary = _dictionary(names, layer) if kind in ("feature", "error") else ""
    id = _id(kind, dictionary, feature, position)
    stored = None if kind == "error" else feature
    return key, Node(id, kind, layer, position, dictionary, stored, None, value, label)


def _own_node(
    own: Mapping[str, Any], kind: Kind, layer: int, position: int, key: str, where: str
) -> Node:
    for name in NODE_KEYS:
        _need(own, name, f"{where}: {OWN}")
    parts = key.split("_")
    number = int(parts[1]) if len(parts) > 2 and re.fullmatch(r"-?\d+", parts[1]) else -1
    return Node(
        id=_typed(own["id"], str, f"{where}: {OWN}.id"),
        kind=kind,
        layer=layer,
        position=position,
        dictionary=_typed(own["dictionary"], str, f"{where}: {OWN}.dictionary"),
        feature=None if number < 0 else number,
        effect=_maybe(own["effect"], f"{where}: {OWN}.effect"),
        value=_maybe(own["value"], f"{where}: {OWN}.value"),
        label=_typed(own["label"], str, f"{where}: {OWN}.label"),
        exact=_maybe(own.get("exact"), f"{where}: {OWN}.exact"),
    )


def _layer(row: Mapping[str, Any], kind: Kind, where: str) -> int:
    told = str(_need(row, "layer", where))
    if kind == "token":
        if told != "E":
            raise InputError(f"{where} is an embedding, and its layer is {told!r} instead of 'E'.")
        return -1
    if not re.fullmatch(r"\d{1,5}", told):
        raise InputError(f"{where} has the layer {told!r}, which is no layer's number.")
    return int(told) - (kind == "logit")


def _number(key: str, kind: Kind, layer: int, position: int, where: str) -> int:
    """The middle of `layer_feature_position`, once the others agree with what the node says."""
    first = {"token": "E", "logit": str(layer + 1)}.get(kind, str(layer))
    found = re.fullmatch(r"(E|\d+)_(-?\d+)_(\d+)", key)
    if found is None or (kind == "feature" and int(found[2]) < 0):
        raise InputError(f"{where} has the node_id {key!r}; layer_feature_position is read.")
    # circuit-tracer of 2025 named error nodes layer_position_0 or 0_layer_position.
    agrees = kind == "error" or (found[1] == first and int(found[3]) == position)
    if not agrees:
        raise InputError(
            f"{where} has the node_id {key!r}, but says layer {first} and position {position}."
        )
    return int(found[2])


def _label(row: Mapping[str, Any], kind: Kind, token: str, where: str) -> str:
    told = _typed(row.get("clerp", "") or "", str, f"{where}: clerp")
    if kind == "token":
        return token
    output = OUTPUT.fullmatch(told) if kind == "logit" else None
    return output[1] if output else told


def _dictionary(names: list[str] | str, layer: int) -> str:
    if isinstance(names, str):
        return f"{names}-{layer}"
    return names[layer] if layer < len(names) else f"layer-{layer}"


def _id(kind: Kind, dictionary: str, feature: int, position: int) -> str:
    if kind == "feature":
        return feature_id(dictionary, feature, position)
    if kind == "error":
        return error_id(dictionary, position)
    return token_id(position) if kind == "token" else logit_id(feature, position)


def _edges(rows: Sequence[Any], nodes: Mapping[str, Node]) -> list[Edge]:
    edges = []
    for i, row in enumerate(rows):
        link = _object(row, f"Link {i}")
        ends = []
        for name in ("source", "target"):
            end = _typed(_need(link, name, f"Link {i}"), str, f"Link {i}: {name}")
            if end not in nodes:
                raise InputError(f"Link {i} names the node {end!r}, which is not in the file.")
            ends.append(nodes[end].id)
        weight = _finite(_need(link, "weight", f"Link {i}"), f"Link {i}: weight")
        share = _maybe((link.get(OWN) or {}).get("stability"), f"Link {i}: stability")
        edges.append(Edge(ends[0], ends[1], weight, share))
    return sorted(edges, key=lambda edge: -abs(edge.weight))


def _ours(about: Mapping[str, Any], nodes: Mapping[str, Node], edges: list[Edge]) -> Circuit:
    whole = Circuit.from_json({**about, "nodes": [], "edges": []}).to_json()
    rest = Circuit("", "", (), "", tuple(nodes.values()), tuple(edges)).to_json()
    return Circuit.from_json({**whole, "nodes": rest["nodes"], "edges": rest["edges"]})


def _theirs(
    metadata: Mapping[str, Any],
    scan: str,
    tokens: list[str],
    nodes: list[Node],
    edges: list[Edge],
) -> Circuit:
    ranked, notes = _ranked(nodes, edges)
    text = metadata.get("prompt", "")
    prompt = Prompt(_typed(text, str, "metadata.prompt"), tuple(tokens))
    found = Circuit(
        method=METHOD,
        model=scan,
        prompts=(prompt,),
        target=", ".join(node.label for node in nodes if node.kind == "logit"),
        nodes=tuple(ranked),
        edges=tuple(edges),
        dictionaries=tuple(dict.fromkeys(n.dictionary for n in ranked if n.kind == "feature")),
        slots=tuple(tokens),
        effect_means=MEANS,
        facts={"imported": str(metadata.get("slug", ""))},
        notes=(
            "Imported: neither its effects nor its faithfulness have been measured here.",
            *notes,
        ),
    )
    return Circuit.from_json(found.to_json())  # doubled ids and the like


def _ranked(nodes: list[Node], edges: list[Edge]) -> tuple[list[Node], list[str]]:
    """Nodes with their influence in the graph as imported, the strongest first."""
    logits = [node for node in nodes if node.kind == "logit"]
    others = [node for node in nodes if node.kind != "logit"]
    if len(nodes) > BIGGEST:
        return [*others, *logits], [f"More than {BIGGEST} nodes: their influence is not computed."]
    at = {node.id: i for i, node in enumerate(nodes)}
    effects = np.zeros((len(nodes), len(nodes)))
    for edge in edges:
        effects[at[edge.target], at[edge.source]] += edge.weight
    whole = sum(node.value or 0.0 for node in logits)
    weights = np.zeros(len(nodes))
    for node in logits:
        weights[at[node.id]] = (node.value or 0.0) / whole if whole else 1 / len(logits)
    found = influence(shares(effects), weights)
    told = [
        Node(**{**vars(n), "effect": float(found[at[n.id]] + weights[at[n.id]])}) for n in nodes
    ]
    told.sort(key=lambda node: (node.kind == "logit", -(node.effect or 0.0)))
    return told, []


def _need(row: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise InputError(f"{where} has no {name!r}.")
    return row[name]


def _object(given: object, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError(f"{where} is not a JSON object but a {type(given).__name__}.")
    return given


def _list(given: object, name: str, most: int | None = None) -> list[Any]:
    if not isinstance(given, list):
        raise InputError(f"{name} is not a list but a {type(given).__name__}.")
    if most is not None and len(given) > most:
        raise InputError(f"{name} has {len(given):,} entries; at most {most:,} are read.")
    return given


def _typed(given: Any, kind: type, where: str) -> Any:
    if not isinstance(given, kind) or isinstance(given, bool):
        raise InputError(f"{where} is not of type {kind.__name__} but {type(given).__name__}.")
    return given


def _finite(given: object, where: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise InputError(f"{where} is no finite number: {given!r}.")
    return float(given)


def _maybe(given: object, where: str) -> float | None:
    return None if given is None else _finite(given, where)
