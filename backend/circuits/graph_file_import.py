"""Import of graph files of circuit-tracer and Neuronpedia as circuits. The file is validated as a
whole before anything is stored; InputError names the entry that is wrong."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import IO, Any

import numpy as np

from backend.circuits.graph_file_checks import (
    check_finite_number,
    check_finite_or_null,
    check_json_list,
    check_json_object,
    check_value_type,
    get_required_value,
)
from backend.circuits.graph_file_export import FEATURE_TYPES, SAEFARI_KEY, SAEFARI_NODE_KEYS
from backend.circuits.graph_file_links import GraphLinks, LinkGatherer
from backend.circuits.graph_file_pins import PinsAndSupernodes, read_pins_and_supernodes
from backend.circuits.graph_influence import TINY, compute_influence
from backend.circuits.records import (
    Circuit,
    CircuitEdge,
    CircuitNode,
    CircuitPrompt,
    NodeKind,
    check_circuit,
    error_id,
    feature_id,
    logit_id,
    token_id,
)
from feature_store.errors import InputError, list_names
from feature_store.json_stream import JsonObjectStream
from feature_store.storable_text import make_storable_value, replace_lone_surrogates

METHOD = "attribution-graph"
MOST_FILE_NODES = 200_000
"""Maximum number of nodes that an imported graph file may have."""
NODES_KEPT = 10_000
"""Maximum number of nodes kept of an imported graph file, the most strongly linked ones; tokens and
logits always stay."""
KIND_OF_FEATURE_TYPE: dict[str, NodeKind] = {
    feature_type: kind for kind, feature_type in FEATURE_TYPES.items()
}
INFLUENCE_MEANING = (
    "Influence: the share of the targets that the paths through this node account "
    "for, computed from the imported links. It has no sign and no unit."
)
LOGIT_LABEL = re.compile(r'Output "(.*)" \(p=[0-9.]+\)', re.DOTALL)
NOT_A_GRAPH_FILE = "This is not a graph file in JSON"


@dataclass(frozen=True)
class ImportedGraph:
    """Content of an imported graph file: the circuit, its pins and supernodes, and its slug."""

    circuit: Circuit
    marks: PinsAndSupernodes
    slug: str
    """Name of the imported graph in its file (`metadata.slug`)."""


@dataclass
class GraphFileHeader:
    """Content of a graph file without its links: metadata, model, tokens and nodes."""

    metadata: Mapping[str, Any]
    scan: str
    tokens: list[str]
    nodes: list[CircuitNode] = field(default_factory=list)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    """node_id of the graph file -> indices into `nodes` of the nodes that have this id."""


def read_circuit_tracer(content: str | bytes) -> Circuit:
    """Import the circuit from the content of a circuit-tracer graph file. A file that Saefari
    exported gives back the exported circuit."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return read_graph_file(lambda: BytesIO(data)).circuit


def import_circuit_tracer_json(given: object) -> Circuit:
    """Import the circuit from a circuit-tracer graph file that is already parsed as JSON."""
    file = check_json_object(given, "The file")
    return read_graph_entries(
        lambda: (
            (k, iter([v]) if k == "links" and isinstance(v, list) else v) for k, v in file.items()
        )
    ).circuit


def read_graph_file(opened: Callable[[], IO[bytes]]) -> ImportedGraph:
    """Read a graph file in parts, so that files of any size can be imported.

    `opened` opens the file; it is called a second time if the links precede the nodes.
    """

    def entries() -> Iterator[tuple[str, Any]]:
        with opened() as source:
            yield from JsonObjectStream(source, NOT_A_GRAPH_FILE, {"links"}).entries()

    return read_graph_entries(entries)


def read_graph_entries(entries: Callable[[], Iterable[tuple[str, Any]]]) -> ImportedGraph:
    """Read the top-level entries of a graph file; the value of "links" is an iterator over lists of
    links."""
    found: dict[str, Any] = {}
    head, links = None, None
    for key, value in entries():
        found[key] = None if key == "links" and isinstance(value, Iterator) else value
        if head is None and {"metadata", "nodes"} <= found.keys():
            head = read_graph_header(found)
        if key == "links" and head is not None:
            links = gather_links(head, value)
    head = head or read_graph_header(found)
    if links is None:
        get_required_value(found, "links", "The file")
        links = next(gather_links(head, value) for key, value in entries() if key == "links")
    marks = read_pins_and_supernodes(found.get("qParams"), head.nodes, head.numbers)
    circuit = build_imported_circuit(head, links, marks.notes)
    slug = replace_lone_surrogates(str(head.metadata.get("slug", "")))
    return ImportedGraph(circuit, marks.restrict_to(circuit.nodes), slug)


def read_graph_header(found: Mapping[str, Any]) -> GraphFileHeader:
    """Read and validate the metadata and nodes of a graph file."""
    metadata = check_json_object(get_required_value(found, "metadata", "The file"), "metadata")
    metadata = make_storable_value(metadata, replace_lone_surrogates)
    listed = check_json_list(
        get_required_value(metadata, "prompt_tokens", "metadata"), "prompt_tokens"
    )
    tokens = [check_value_type(one, str, f"prompt_tokens[{i}]") for i, one in enumerate(listed)]
    scan, names = read_model_and_dictionaries(metadata)
    head = GraphFileHeader(metadata, scan, tokens)
    for i, row in enumerate(
        check_json_list(get_required_value(found, "nodes", "The file"), "nodes", MOST_FILE_NODES)
    ):
        key, node = _read_node(check_json_object(row, f"Node {i}"), i, tokens, names)
        same = head.numbers.setdefault(key, [])
        if node.kind in {head.nodes[other].kind for other in same}:
            raise InputError(
                f"Node {i} has the same node_id as an earlier node of its kind: {key!r}."
            )
        same.append(len(head.nodes))
        head.nodes.append(node)
    return head


def read_model_and_dictionaries(metadata: Mapping[str, Any]) -> tuple[str, list[str] | str]:
    """Return the model's name of a graph file, and its dictionary names: a list by layer, or a
    prefix for layer numbers.

    `metadata.scan` names what was scanned: one set of transcoders, or a list with one for each
    layer.
    """
    scan = get_required_value(metadata, "scan", "metadata")
    listed = check_json_list(metadata.get("transcoder_list") or [], "transcoder_list")
    named = [check_value_type(one, str, "transcoder_list") for one in listed]
    if isinstance(scan, list):
        several = [check_value_type(one, str, f"metadata.scan[{i}]") for i, one in enumerate(scan)]
        sets = list(dict.fromkeys(one.partition("//")[0] for one in several))
        return ", ".join(sets), named or several or ""
    scan = check_value_type(scan, str, "metadata.scan")
    return scan, named or scan


def gather_links(head: GraphFileHeader, batches: object) -> LinkGatherer:
    """Read all batches of links of a graph file and return the gatherer that keeps the heaviest."""
    if not isinstance(batches, Iterator):
        check_json_list(batches, "links")
        raise AssertionError
    links = LinkGatherer(head.nodes, head.numbers)
    for batch in batches:
        links.add(batch)
    return links


def build_imported_circuit(
    head: GraphFileHeader, gathered: LinkGatherer, notes: list[str]
) -> Circuit:
    """Build the circuit from the imported nodes and links that are kept, with notes on what was
    left out."""
    ours = SAEFARI_KEY in head.metadata
    nodes = head.nodes if ours else rank_nodes_by_influence(head.nodes, gathered, notes)
    if len(nodes) > NODES_KEPT:
        nodes = keep_strongest_nodes(head.nodes, nodes, gathered.strength)
        notes.append(
            f"{len(head.nodes) - len(nodes):,} of {len(head.nodes):,} nodes, those with the "
            "weakest links, were left out."
        )
    links = gathered.heaviest()
    ids = {node.id for node in nodes}
    inside = np.array([node.id in ids for node in head.nodes], bool)
    if len(links.weight):
        links = links.take(inside[links.source] & inside[links.target])
    left = gathered.seen - len(gathered.ambiguous) - len(links.weight)
    if left:
        share = np.abs(links.weight).sum() / max(gathered.strength.sum() / 2, TINY)
        notes.append(
            f"{left:,} of {gathered.seen:,} links, the weakest, were left out; the imported "
            f"links carry {share:.1%} of all |weights|."
            + " Influence was computed from all of them."
            * (gathered.effects is not None)
        )
    if gathered.ambiguous:
        notes.append(
            f"{len(gathered.ambiguous):,} ambiguous links (|weights| of "
            f"{np.abs(gathered.ambiguous).sum():.3g} in total) were left out: they name a "
            "node_id that two nodes share."
        )
    edges = build_edges(head.nodes, links)
    found = (
        _restore_saefari_circuit(head, nodes, edges, notes)
        if ours
        else _build_foreign_circuit(head, nodes, edges, notes)
    )
    check_circuit(found)
    return found


def build_edges(nodes: list[CircuitNode], links: GraphLinks) -> list[CircuitEdge]:
    """Convert the links of an imported graph file to the edges of a circuit."""
    ids = [node.id for node in nodes]
    return [
        CircuitEdge(ids[source], ids[target], weight, None if share != share else share)
        for source, target, weight, share in zip(*(c.tolist() for c in links), strict=True)
    ]


def keep_strongest_nodes(
    nodes: list[CircuitNode], ranked: list[CircuitNode], strength: np.ndarray
) -> list[CircuitNode]:
    """Return the NODES_KEPT imported nodes in the order of `ranked`: all tokens and logits, then
    the most strongly linked others."""
    always = {i for i, node in enumerate(nodes) if node.kind in ("token", "logit")}
    order = [i for i in np.argsort(-strength, kind="stable").tolist() if i not in always]
    chosen = always | set(order[: max(0, NODES_KEPT - len(always))])
    ids = {nodes[i].id for i in chosen}
    return [node for node in ranked if node.id in ids]


def rank_nodes_by_influence(
    nodes: list[CircuitNode], gathered: LinkGatherer, notes: list[str]
) -> list[CircuitNode]:
    """Return the imported nodes with their influence, computed from the file's links, in falling
    order; logits come last."""
    effects = gathered.effects
    if effects is None:
        notes.append(f"{len(nodes):,} nodes are too many for the influence to be computed.")
        order = np.argsort(-gathered.strength, kind="stable").tolist()
        return sorted((nodes[i] for i in order), key=lambda node: node.kind == "logit")
    logits = [i for i, node in enumerate(nodes) if node.kind == "logit"]
    whole = sum(nodes[i].value or 0.0 for i in logits)
    weights = np.zeros(len(nodes))
    for i in logits:
        weights[i] = (nodes[i].value or 0.0) / whole if whole else 1 / len(logits)
    np.abs(effects, out=effects)
    effects /= np.maximum(
        effects.sum(1, keepdims=True), TINY
    )  # in place: a copy would double the memory
    found = compute_influence(effects, weights) + weights
    ranked = [replace(node, effect=float(one)) for node, one in zip(nodes, found, strict=True)]
    ranked.sort(key=lambda node: (node.kind == "logit", -(node.effect or 0.0)))
    return ranked


def _read_node(
    row: Mapping[str, Any], i: int, tokens: list[str], names: list[str] | str
) -> tuple[str, CircuitNode]:
    """Read and validate one node of a graph file; return its node_id and the circuit node."""
    where = f"Node {i}"
    key = check_value_type(get_required_value(row, "node_id", where), str, f"{where}: node_id")
    row = make_storable_value(row, replace_lone_surrogates)
    feature_type = check_value_type(
        get_required_value(row, "feature_type", where), str, f"{where}: feature_type"
    )
    if feature_type not in KIND_OF_FEATURE_TYPE:
        raise InputError(
            f"{where} ({key!r}) has the unknown feature_type {feature_type!r}. "
            f"{list_names(list(KIND_OF_FEATURE_TYPE))}"
        )
    kind = KIND_OF_FEATURE_TYPE[feature_type]
    position = check_value_type(get_required_value(row, "ctx_idx", where), int, f"{where}: ctx_idx")
    if not 0 <= position < len(tokens):
        raise InputError(
            f"{where} ({key!r}) is at position {position}, but the prompt has {len(tokens)} tokens."
        )
    layer = _read_layer(row, kind, where)
    if SAEFARI_KEY in row:
        own = check_json_object(row[SAEFARI_KEY], f"{where}: {SAEFARI_KEY}")
        return key, _read_saefari_node(own, kind, layer, position, key, where)
    feature = _read_feature_number(key, kind, layer, position, where)
    value = row.get("token_prob") if kind == "logit" else row.get("activation")
    value = None if value is None else check_finite_number(value, f"{where}: its value")
    label = _read_label(row, kind, tokens[position], where)
    dictionary = _dictionary_of_layer(names, layer) if kind in ("feature", "error") else ""
    id = _build_node_id(kind, dictionary, feature, position)
    stored = None if kind == "error" else feature
    return key, CircuitNode(id, kind, layer, position, dictionary, stored, None, value, label)


def _read_saefari_node(
    own: Mapping[str, Any], kind: NodeKind, layer: int, position: int, key: str, where: str
) -> CircuitNode:
    """Read one node of a graph file that Saefari exported, from the fields under the key
    `saefari`."""
    for name in SAEFARI_NODE_KEYS:
        get_required_value(own, name, f"{where}: {SAEFARI_KEY}")
    parts = key.split("_")
    number = int(parts[1]) if len(parts) > 2 and re.fullmatch(r"-?\d+", parts[1]) else -1
    return CircuitNode(
        id=check_value_type(own["id"], str, f"{where}: {SAEFARI_KEY}.id"),
        kind=kind,
        layer=layer,
        position=position,
        dictionary=check_value_type(own["dictionary"], str, f"{where}: {SAEFARI_KEY}.dictionary"),
        feature=None if number < 0 else number,
        effect=check_finite_or_null(own["effect"], f"{where}: {SAEFARI_KEY}.effect"),
        value=check_finite_or_null(own["value"], f"{where}: {SAEFARI_KEY}.value"),
        label=check_value_type(own["label"], str, f"{where}: {SAEFARI_KEY}.label"),
        exact=check_finite_or_null(own.get("exact"), f"{where}: {SAEFARI_KEY}.exact"),
    )


def _read_layer(row: Mapping[str, Any], kind: NodeKind, where: str) -> int:
    layer_text = str(get_required_value(row, "layer", where))
    if kind == "token":
        if layer_text != "E":
            raise InputError(
                f"{where} is an embedding, so its layer must be 'E', not {layer_text!r}."
            )
        return -1
    if not re.fullmatch(r"\d{1,5}", layer_text):
        raise InputError(
            f"{where} has the layer {layer_text!r}, which is not the number of a layer."
        )
    return int(layer_text) - (kind == "logit")


def _read_feature_number(key: str, kind: NodeKind, layer: int, position: int, where: str) -> int:
    """Return the middle number of a graph file's node_id `layer_feature_position`, after a check
    that its other parts agree with the node."""
    first = {"token": "E", "logit": str(layer + 1)}.get(kind, str(layer))
    found = re.fullmatch(r"(E|\d+)_(-?\d+)_(\d+)", key)
    if found is None or (kind == "feature" and int(found[2]) < 0):
        raise InputError(
            f"{where} has the node_id {key!r}; the expected form is layer_feature_position."
        )
    # circuit-tracer of 2025 gave error nodes the ids layer_position_0 or 0_layer_position.
    agrees = kind == "error" or (found[1] == first and int(found[3]) == position)
    if not agrees:
        raise InputError(
            f"{where} has the node_id {key!r}, but its fields say layer {first} and "
            f"position {position}."
        )
    return int(found[2])


def _read_label(row: Mapping[str, Any], kind: NodeKind, token: str, where: str) -> str:
    label = check_value_type(row.get("clerp", "") or "", str, f"{where}: clerp")
    if kind == "token":
        return token
    output = LOGIT_LABEL.fullmatch(label) if kind == "logit" else None
    return output[1] if output else label


def _dictionary_of_layer(names: list[str] | str, layer: int) -> str:
    if isinstance(names, str):
        return f"{names}-{layer}"
    return names[layer] if layer < len(names) else f"layer-{layer}"


def _build_node_id(kind: NodeKind, dictionary: str, feature: int, position: int) -> str:
    if kind == "feature":
        return feature_id(dictionary, feature, position)
    if kind == "error":
        return error_id(dictionary, position)
    return token_id(position) if kind == "token" else logit_id(feature, position)


def _restore_saefari_circuit(
    head: GraphFileHeader, nodes: list[CircuitNode], edges: list[CircuitEdge], notes: list[str]
) -> Circuit:
    """Restore the circuit of a graph file that Saefari exported, from the metadata under the key
    `saefari`."""
    about = check_json_object(head.metadata[SAEFARI_KEY], f"metadata.{SAEFARI_KEY}")
    found = Circuit.from_json({**about, "nodes": [], "edges": []})
    return replace(found, nodes=tuple(nodes), edges=tuple(edges), notes=(*found.notes, *notes))


def _build_foreign_circuit(
    head: GraphFileHeader, nodes: list[CircuitNode], edges: list[CircuitEdge], notes: list[str]
) -> Circuit:
    """Build the circuit of a graph file that another tool wrote."""
    text = check_value_type(head.metadata.get("prompt", ""), str, "metadata.prompt")
    return Circuit(
        method=METHOD,
        model=head.scan,
        prompts=(CircuitPrompt(text, tuple(head.tokens)),),
        target=", ".join(node.label for node in head.nodes if node.kind == "logit"),
        nodes=tuple(nodes),
        edges=tuple(edges),
        dictionaries=tuple(dict.fromkeys(n.dictionary for n in nodes if n.kind == "feature")),
        slots=tuple(head.tokens),
        effect_means=INFLUENCE_MEANING,
        facts={"imported": str(head.metadata.get("slug", ""))},
        notes=(
            "Imported from another tool: neither its effects nor its faithfulness were "
            "measured here.",
            *notes,
        ),
    )
