"""Graph files: ours come back the same, circuit-tracer's are read, malformed ones are refused."""

import copy
import json
from io import StringIO

import pytest

from backend.circuits.graph_file_export import cantor_pairing, export_circuit_tracer, export_graphml
from backend.circuits.graph_file_import import import_circuit_tracer_json, read_circuit_tracer
from backend.circuits.records import (
    Circuit,
    CircuitEdge,
    CircuitNode,
    CircuitPrompt,
    error_id,
    feature_id,
    head_id,
    logit_id,
    token_id,
)
from feature_store.errors import InputError

TOKENS = ("<s>", " the", " ca\x00t", ' "ran"')


def circuit(**changes) -> Circuit:
    nodes = (
        CircuitNode(feature_id("t0", 5, 2), "feature", 0, 2, "t0", 5, 0.6, 3.5),
        CircuitNode(feature_id("u0", 5, 2), "feature", 0, 2, "u0", 5, 0.5, 2.5),
        CircuitNode(error_id("t0", 1), "error", 0, 1, "t0", None, 0.25, 9.0),
        CircuitNode(token_id(2), "token", -1, 2, "", 17, 0.4, 1.0, TOKENS[2]),
        CircuitNode(logit_id(31, 3), "logit", 2, 3, "", 31, 1.0, 0.75, ' "dog"'),
    )
    edges = (
        CircuitEdge(nodes[0].id, nodes[4].id, 2.0),
        CircuitEdge(nodes[2].id, nodes[4].id, -1.5),
        CircuitEdge(nodes[3].id, nodes[0].id, 1.0),
    )
    given = {
        "method": "attribution-graph",
        "model": "tiny",
        "prompts": (CircuitPrompt('the cat "ran"', TOKENS, (0, 4, 17, 9)),),
        "target": ' "dog"',
        "nodes": nodes,
        "edges": edges,
        "dictionaries": ("t0", "u0"),
        "slots": TOKENS,
        "effect_means": "Influence.",
        "facts": {"replacement_score": 0.5, "node_share": 0.8},
        "notes": ("A note.",),
    }
    return Circuit(**{**given, **changes})


def foreign() -> dict:
    """A file as circuit-tracer writes it, without anything of ours."""
    file = export_circuit_tracer(circuit(), "mine")
    del file["metadata"]["saefari"]
    file["metadata"]["transcoder_list"] = []
    file["nodes"] = [one for one in file["nodes"] if "u0" not in one["node_id"]]
    for one in file["nodes"]:
        del one["saefari"]
        one["node_id"] = one["node_id"].removesuffix("_t0")
    for link in file["links"]:
        link["source"] = link["source"].removesuffix("_t0")
        link["target"] = link["target"].removesuffix("_t0")
    return file


def test_an_export_comes_back_the_same() -> None:
    text = json.dumps(export_circuit_tracer(circuit(), "mine"))
    assert read_circuit_tracer(text) == circuit()
    assert read_circuit_tracer(text.encode()) == circuit()


def test_an_export_has_what_circuit_tracer_writes() -> None:
    file = foreign()
    assert set(file) == {"metadata", "qParams", "nodes", "links"}
    assert set(file["qParams"]) == {"pinnedIds", "supernodes", "linkType", "clickedId", "sg_pos"}
    by_type = {one["feature_type"]: one for one in file["nodes"]}
    feature, logit = by_type["cross layer transcoder"], by_type["logit"]
    assert feature["node_id"] == "0_5_2" and feature["jsNodeId"] == "0_5-0"
    assert feature["feature"] == cantor_pairing(0, 5) == 20 and feature["layer"] == "0"
    assert by_type["embedding"]["node_id"] == "E_17_2"
    assert by_type["mlp reconstruction error"]["node_id"] == "0_-1_1"
    assert (logit["node_id"], logit["layer"]) == ("3_31_3", "3")
    assert logit["is_target_logit"] and logit["clerp"] == 'Output " "dog"" (p=0.750)'
    assert {"source": "0_5_2", "target": "3_31_3", "weight": 2.0} in file["links"]


def test_influence_is_the_share_at_which_a_node_comes_in() -> None:
    file = export_circuit_tracer(circuit(), "mine")
    found = sorted(one["influence"] for one in file["nodes"] if one["influence"] is not None)
    assert found == pytest.approx([0.6 / 1.75, 1.1 / 1.75, 1.5 / 1.75, 1.0])


def test_a_foreign_file_is_read_and_its_influence_computed() -> None:
    found = import_circuit_tracer_json(foreign())
    by_id = {node.id: node for node in found.nodes}
    assert by_id["tiny-0/5@2"].effect == pytest.approx(2 / 3.5)
    assert by_id["tiny-0/5@2"].value == 3.5
    assert by_id["tiny-0/error@1"].effect == pytest.approx(1.5 / 3.5)
    assert by_id["token@2"].label == TOKENS[2]
    assert by_id["logit/31@3"].label == ' "dog"'
    assert found.edges[0] == CircuitEdge("tiny-0/5@2", "logit/31@3", 2.0)
    assert "Imported" in found.notes[0]


def broken(path: list, value: object) -> dict:
    """The foreign file with one entry replaced; `...` deletes it."""
    file = copy.deepcopy(foreign())
    owner = file
    for key in path[:-1]:
        owner = owner[key]
    if value is ...:
        del owner[path[-1]]
    else:
        owner[path[-1]] = value
    return file


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["metadata"], ..., "has no 'metadata'"),
        (["nodes"], {}, "nodes must be a list, not dict"),
        (["links"], ..., "has no 'links'"),
        (["metadata", "prompt_tokens", 1], 3, r"prompt_tokens\[1\] must be of type str"),
        (["nodes", 0], 7, "Node 0 must be a JSON object"),
        (["nodes", 0, "feature_type"], "lorsa", "unknown feature_type 'lorsa'"),
        (["nodes", 0, "ctx_idx"], 40, "is at position 40, but the prompt has 4 tokens"),
        (["nodes", 0, "ctx_idx"], True, "ctx_idx must be of type int, not bool"),
        (["nodes", 0, "ctx_idx"], 1, "say layer 0 and position 1"),
        (["nodes", 0, "layer"], "x", "layer 'x'"),
        (["nodes", 0, "node_id"], "five", "expected form is layer_feature_position"),
        (["nodes", 3, "node_id"], "0_5_2", "Node 3 has the node_id '0_5_2', but its fields say"),
        (["nodes", 0, "activation"], float("nan"), "not a finite number"),
        (["links", 0, "source"], "9_9_9", "Link 0 names the node '9_9_9'"),
        (["links", 0, "weight"], "big", "Link 0: weight is not a finite number"),
        (["links", 0, "weight"], ..., "Link 0 has no 'weight'"),
        (["links", 0, "source"], "3_31_3", "cycle"),
    ],
)
def test_a_malformed_file_names_the_fault(path: list, value: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        import_circuit_tracer_json(broken(path, value))


@pytest.mark.parametrize("text", ["", "[", "[1]", '"x"', "[" * 100_000])
def test_what_is_no_graph_file_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_circuit_tracer(text)


def test_what_the_format_cannot_hold_is_not_written() -> None:
    head = CircuitNode(head_id(1, 2, 3), "head", 1, 3)
    summed = CircuitNode(feature_id("t0", 1, None), "feature", 0, None, "t0", 1)
    for node, says in ((head, "kind head"), (summed, "sums over positions")):
        with pytest.raises(InputError, match=says):
            export_circuit_tracer(circuit(nodes=(node,), edges=()), "mine")


def test_graphml_is_read_by_others() -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.read_graphml(StringIO(export_graphml(circuit())))
    assert set(graph) == {node.id for node in circuit().nodes}
    assert graph.nodes["t0/5@2"]["value"] == 3.5 and graph.nodes["token@2"]["label"] == " ca\ufffdt"
    assert graph.edges["t0/5@2", "logit/31@3"]["weight"] == 2.0
