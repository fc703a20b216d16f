"""Export of circuits to graph files of other tools: circuit-tracer's JSON (which Neuronpedia reads)
and GraphML.

circuit-tracer's format has features, error terms, tokens and logits, each at one position.
Everything else is written under the key `saefari`, which other readers ignore, so that an exported
file can be imported as the same circuit.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from typing import Any

from backend.circuits.records import FAITHFULNESS_FIELDS, Circuit, CircuitNode, NodeKind
from feature_store.errors import InputError

SAEFARI_KEY = "saefari"
FEATURE_TYPES: dict[NodeKind, str] = {
    "feature": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "token": "embedding",
    "logit": "logit",
}
"""Kind of circuit node -> `feature_type` in circuit-tracer's graph file."""
SCHEMA_VERSION = 1
SAEFARI_NODE_KEYS = ("id", "dictionary", "effect", "value", "label")


def export_circuit_tracer(
    circuit: Circuit, slug: str, labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Export a circuit as a circuit-tracer graph file: a dict for JSON with metadata, qParams,
    nodes and links.

    `labels` are feature labels by node id. Raises InputError for a circuit that the format cannot
    hold.
    """
    _check_exportable(circuit)
    plain = circuit.to_json()
    ids = _node_ids(circuit)
    reached = _cumulative_effect_share(circuit)
    nodes = [_build_file_node(one, ids, reached, circuit, labels or {}) for one in circuit.nodes]
    about = {key: value for key, value in plain.items() if key not in ("nodes", "edges")}
    return {
        "metadata": {
            "slug": slug,
            "scan": circuit.model,
            "transcoder_list": list(circuit.dictionaries),
            "prompt_tokens": list(circuit.slots),
            "prompt": circuit.prompts[0].text if circuit.prompts else "",
            "node_threshold": circuit.facts.get("node_share"),
            "schema_version": SCHEMA_VERSION,
            SAEFARI_KEY: about,
        },
        "qParams": {
            "pinnedIds": [],
            "supernodes": [],
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": nodes,
        "links": [
            {"source": ids[edge.source], "target": ids[edge.target], "weight": edge.weight}
            | ({} if edge.stability is None else {SAEFARI_KEY: {"stability": edge.stability}})
            for edge in circuit.edges
        ],
    }


def export_graphml(circuit: Circuit) -> str:
    """Export a circuit as GraphML text for Gephi, yEd and others, with every field of nodes and
    edges as an attribute. Characters that XML forbids become U+FFFD."""
    ET.register_namespace("", GRAPHML_NAMESPACE)
    root = ET.Element(f"{{{GRAPHML_NAMESPACE}}}graphml")
    for name, kind in NODE_FIELDS.items():
        _declare_graphml_key(root, f"n_{name}", "node", name, kind)
    for name in ("weight", "stability"):
        _declare_graphml_key(root, f"e_{name}", "edge", name, "double")
    figures = {
        name: figure
        for name in FAITHFULNESS_FIELDS
        if (figure := getattr(circuit, name)) is not None
    }
    for name in figures:
        for part, kind in FIGURE_PARTS.items():
            _declare_graphml_key(root, f"g_{name}_{part}", "graph", f"{name}_{part}", kind)
    graph = ET.SubElement(root, f"{{{GRAPHML_NAMESPACE}}}graph", edgedefault="directed")
    for name, figure in figures.items():
        for part in FIGURE_PARTS:
            holder = figure if hasattr(figure, part) else figure.null
            _write_graphml_value(graph, f"g_{name}_{part}", getattr(holder, part))
    for node in circuit.nodes:
        element = ET.SubElement(
            graph, f"{{{GRAPHML_NAMESPACE}}}node", id=_replace_forbidden_characters(node.id)
        )
        for name in NODE_FIELDS:
            value = getattr(node, name)
            if value is not None:
                _write_graphml_value(element, f"n_{name}", value)
    for edge in circuit.edges:
        ends = {
            "source": _replace_forbidden_characters(edge.source),
            "target": _replace_forbidden_characters(edge.target),
        }
        element = ET.SubElement(graph, f"{{{GRAPHML_NAMESPACE}}}edge", ends)
        _write_graphml_value(element, "e_weight", edge.weight)
        if edge.stability is not None:
            _write_graphml_value(element, "e_stability", edge.stability)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


GRAPHML_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
NODE_FIELDS = {
    "kind": "string",
    "layer": "long",
    "position": "long",
    "dictionary": "string",
    "feature": "long",
    "effect": "double",
    "value": "double",
    "label": "string",
    "exact": "double",
}
FIGURE_PARTS = {
    "value": "double",
    "nodes": "long",
    "errors": "string",
    "percentile_95": "double",
    "draws": "long",
    "better_than_random": "boolean",
}
"""Fields of a circuit's faithfulness and its null that are exported as attributes of the GraphML
graph, with their types."""
FORBIDDEN_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def cantor_pairing(layer: int, feature: int) -> int:
    """Return Cantor's pairing number of layer and feature, by which circuit-tracer graph files
    number features."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def _check_exportable(circuit: Circuit) -> None:
    """Raise InputError if circuit-tracer's graph file format cannot hold one of the circuit's
    nodes."""
    for node in circuit.nodes:
        if node.kind not in FEATURE_TYPES:
            raise InputError(
                f"circuit-tracer's format cannot hold the node {node.id!r} of kind {node.kind}. "
                "Export as GraphML."
            )
        if node.position is None:
            raise InputError(
                "circuit-tracer's format needs a position for every node, and this circuit "
                f"sums over positions at {node.id!r}. Export as GraphML, or find the circuit "
                "with separate positions."
            )


def _node_ids(circuit: Circuit) -> dict[str, str]:
    """Map our node ids to those of circuit-tracer graph files: layer_feature_position, or
    E_token_position for tokens."""
    plain = {node.id: _node_id(node) for node in circuit.nodes}
    counts = Counter(plain.values())
    # Two dictionaries of one layer can share a feature index: their names make the ids unique.
    suffixes = {node.id: node.dictionary or node.id for node in circuit.nodes}
    return {id: one if counts[one] == 1 else f"{one}_{suffixes[id]}" for id, one in plain.items()}


def _node_id(node: CircuitNode) -> str:
    middle = -1 if node.feature is None else node.feature
    first = {"token": "E", "logit": str(node.layer + 1)}.get(node.kind, str(node.layer))
    return f"{first}_{middle}_{node.position}"


def _cumulative_effect_share(circuit: Circuit) -> dict[str, float]:
    """Return for each node the share of all |effects| that it and the stronger nodes have: the
    `influence` of circuit-tracer's graph files, the slider value at which the node appears."""
    ranked = [one for one in circuit.nodes if one.kind != "logit" and one.effect is not None]
    ranked.sort(key=lambda node: -abs(node.effect or 0.0))
    whole = sum(abs(node.effect or 0.0) for node in ranked)
    found, summed = {}, 0.0
    for node in ranked:
        summed += abs(node.effect or 0.0)
        found[node.id] = summed / whole if whole else 1.0
    return found


def _build_file_node(
    node: CircuitNode,
    ids: Mapping[str, str],
    reached: Mapping[str, float],
    circuit: Circuit,
    labels: Mapping[str, str],
) -> dict[str, Any]:
    """Build the entry of one node in a circuit-tracer graph file."""
    logit = node.kind == "logit"
    first = next((one.id for one in circuit.nodes if one.kind == "logit"), None)
    given: dict[str, Any] = {
        "node_id": ids[node.id],
        "feature": _feature_number(node),
        "layer": "E" if node.kind == "token" else str(node.layer + logit),
        "ctx_idx": node.position,
        "feature_type": FEATURE_TYPES[node.kind],
        "token_prob": (node.value or 0.0) if logit else 0.0,
        "is_target_logit": node.id == first,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": _js_node_id(node),
        "clerp": _label_node(node, labels),
        "influence": reached.get(node.id),
        "activation": node.value if node.kind == "feature" else None,
    }
    own = {key: getattr(node, key) for key in SAEFARI_NODE_KEYS}
    if node.exact is not None:
        own["exact"] = node.exact
    return {**given, SAEFARI_KEY: own}


def _feature_number(node: CircuitNode) -> int:
    if node.kind == "feature":
        return cantor_pairing(node.layer, node.feature or 0)
    if node.kind == "token":
        return node.position or 0
    return -1 if node.feature is None else node.feature


def _js_node_id(node: CircuitNode) -> str:
    middle = -1 if node.feature is None else node.feature
    if node.kind == "feature":
        return f"{node.layer}_{middle}-0"
    first = {"token": "E", "logit": "L"}.get(node.kind, str(node.layer))
    return f"{first}_{middle}-{node.position}"


def _label_node(node: CircuitNode, labels: Mapping[str, str]) -> str:
    if node.kind == "logit":
        return f'Output "{node.label}" (p={node.value or 0.0:.3f})'
    return labels.get(node.id, node.label)


def _declare_graphml_key(root: ET.Element, id: str, of: str, name: str, kind: str) -> None:
    ET.SubElement(
        root,
        f"{{{GRAPHML_NAMESPACE}}}key",
        {"id": id, "for": of, "attr.name": name, "attr.type": kind},
    )


def _write_graphml_value(element: ET.Element, key: str, value: str | int | float) -> None:
    found = ET.SubElement(element, f"{{{GRAPHML_NAMESPACE}}}data", key=key)
    if isinstance(value, bool):
        found.text = str(value).lower()
    else:
        found.text = (
            repr(value) if isinstance(value, float) else _replace_forbidden_characters(str(value))
        )


def _replace_forbidden_characters(text: str) -> str:
    return FORBIDDEN_IN_XML.sub("\ufffd", text)
