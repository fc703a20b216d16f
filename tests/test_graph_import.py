"""Graph files of others: whatever they reuse, mark or overdo is told apart, kept or said."""

import copy
import json
import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.circuits.importing import is_graph_file, keep_graph
from app.cli import main
from backend.circuits import graph_file_import, graph_file_links
from backend.circuits.graph_file_import import ImportedGraph, read_graph_file
from feature_store.circuit_graphs import SubgraphSelection
from feature_store.errors import InputError
from feature_store.saved_circuits import SavedCircuits
from feature_store.store import Store
from tests.foreign_files import spoil_file

TRANSCODER, ERROR = "cross layer transcoder", "mlp reconstruction error"


def node(key: str, kind: str = TRANSCODER, layer: object = None, at: int | None = None, **more):
    first, _, position = key.split("_")
    return {
        "node_id": key,
        "feature": 1,
        "layer": first if layer is None else layer,
        "ctx_idx": int(position) if at is None else at,
        "feature_type": kind,
        "clerp": "",
        "token_prob": 0.0,
        "activation": 1.5,
        **more,
    }


def graph(**changes: Any) -> dict[str, Any]:
    """A small graph as circuit-tracer writes it."""
    nodes = [
        node("0_928_1", clerp="abbreviations"),
        node("5_17_2"),
        node("0_1_1", ERROR, layer="1", activation=None),
        node("E_3_1", "embedding"),
        node("27_55_3", "logit", layer="27", token_prob=0.4, clerp='Output "DNA" (p=0.400)'),
    ]
    links = [
        {"source": "E_3_1", "target": "0_928_1", "weight": 1.0},
        {"source": "0_928_1", "target": "5_17_2", "weight": -0.5},
        {"source": "5_17_2", "target": "27_55_3", "weight": 2.0},
        {"source": "0_1_1", "target": "27_55_3", "weight": 0.1},
    ]
    whole = {
        "metadata": {
            "slug": "s",
            "scan": "gemma",
            "transcoder_list": [],
            "prompt_tokens": ["<bos>", "DNA", " stands", " for"],
            "prompt": "DNA stands",
        },
        "qParams": {
            "pinnedIds": ["0_928_1", "27_55_3"],
            "supernodes": [["DNA words", "0_928_1", "5_17_2"]],
        },
        "nodes": nodes,
        "links": links,
    }
    return {**whole, **changes}


def read(given: object) -> ImportedGraph:
    data = json.dumps(given).encode()
    return read_graph_file(lambda: BytesIO(data))


def weights(found: ImportedGraph) -> dict[tuple[str, str], float]:
    return {(edge.source, edge.target): edge.weight for edge in found.circuit.edges}


def test_pins_supernodes_and_clerps_are_kept(tmp_path: Path) -> None:
    found = read(graph())
    assert found.marks.pins == ("gemma-0/928@1", "logit/55@3")
    assert found.marks.groups == {"DNA words": ("gemma-0/928@1", "gemma-5/17@2")}
    assert {n.id: n.label for n in found.circuit.nodes}["gemma-0/928@1"] == "abbreviations"
    store = Store.create(tmp_path / "store")
    circuits = SavedCircuits(store.catalog)
    kept = circuits.open(keep_graph(store, "", "g.json", found))
    assert kept.marks.pins == found.marks.pins and kept.marks.groups == found.marks.groups
    part = circuits.read_graph(kept.graph).select_subgraph(SubgraphSelection())
    assert {(s, t): w for s, t, w in part.edges} == weights(found)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("more", "ambiguous"),
    [
        ([], 1),  # the link from 0_1_1 is the feature's or the error term's
        ([{"source": "E_3_1", "target": "0_1_1", "weight": 3.0}], 1),  # only a feature is a target
    ],
)
def test_one_id_of_two_kinds_is_two_nodes(more: list, ambiguous: int, reverse: bool) -> None:
    given = graph()
    given["nodes"].insert(0, node("0_1_1"))
    given["links"] += more
    if reverse:
        given["nodes"].reverse()
    found = read(given)
    ids = {n.id for n in found.circuit.nodes}
    assert {"gemma-0/1@1", "gemma-1/error@1"} <= ids and len(ids) == 6
    assert len(found.circuit.edges) == len(given["links"]) - ambiguous
    assert ("token@1", "gemma-0/1@1") in weights(found) or not more
    assert "1 ambiguous links (|weights| of 0.1 in total)" in " ".join(found.circuit.notes)
    pinned = read({**given, "qParams": {"pinnedIds": ["0_1_1"], "supernodes": []}})
    assert pinned.marks.pins == ("gemma-0/1@1",)


def test_two_nodes_of_one_kind_and_id_are_refused() -> None:
    given = graph()
    given["nodes"].append(node("5_17_2"))
    with pytest.raises(
        InputError, match=r"Node 5 has the same node_id as an earlier node of its kind: '5_17_2'"
    ):
        read(given)


@pytest.mark.parametrize(
    "order",
    [
        ["links", "nodes", "metadata", "qParams"],
        ["qParams", "metadata", "nodes", "links"],
        ["nodes", "links", "qParams", "metadata"],
    ],
)
def test_the_order_of_the_parts_is_no_matter(order: list[str]) -> None:
    whole = graph()
    assert read({key: whole[key] for key in order}) == read(whole)


def test_a_list_of_scans_names_the_layers() -> None:
    given = graph()
    given["metadata"]["scan"] = [f"a/b//l{i}" for i in range(27)]
    found = read(given).circuit
    assert found.model == "a/b" and "a/b//l0/928@1" in {n.id for n in found.nodes}


@pytest.mark.parametrize(
    ("asked", "pins", "groups", "note"),
    [
        (None, (), {}, ""),
        ({"supernodes": [["", "5_17_2"], ["x"]]}, (), {"group": ("gemma-5/17@2",)}, ""),
        (
            {"supernodes": [["x", "5_17_2"], ["x", "0_928_1"]]},
            (),
            {"x": ("gemma-5/17@2",), "x (2)": ("gemma-0/928@1",)},
            "",
        ),
        (
            {"supernodes": [["x", "5_17_2"], ["y", "5_17_2"]]},
            (),
            {"x": ("gemma-5/17@2",)},
            "1 nodes are in several supernodes",
        ),
        (
            {"pinnedIds": ["9_9_9", "E_3_1", "E_3_1"]},
            ("token@1",),
            {},
            "1 pins or supernode members",
        ),
    ],
)
def test_marks_are_kept_or_counted(asked: object, pins: tuple, groups: dict, note: str) -> None:
    found = read(graph(qParams=asked))
    assert (found.marks.pins, found.marks.groups) == (pins, groups)
    assert note in " ".join(found.circuit.notes)


@pytest.mark.parametrize(
    "asked",
    [
        3,
        [],
        {"pinnedIds": "x"},
        {"pinnedIds": [1]},
        {"supernodes": 3},
        {"supernodes": [[]]},
        {"supernodes": [["x", 3]]},
    ],
)
def test_malformed_marks_are_refused(asked: object) -> None:
    with pytest.raises(InputError, match="pinnedIds must be a list of node_ids"):
        read(graph(qParams=asked))


def large(n_features: int, seed: int = 0) -> dict[str, Any]:
    """A graph with a link between every two features of successive layers."""
    rng = np.random.default_rng(seed)
    given = graph()
    keys = [f"{i % 5}_{100 + i}_{1 + i % 3}" for i in range(n_features)]
    given["nodes"] += [node(key) for key in keys]
    given["links"] = [
        {"source": a, "target": b, "weight": round(float(rng.normal()) ** 3, 9)}
        for a in keys
        for b in [*keys, "27_55_3"]
        if b == "27_55_3" or int(a[0]) < int(b[0])
    ]
    return given


def test_of_too_many_links_the_heaviest_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    given = large(40)
    whole = read(given)
    monkeypatch.setattr(graph_file_links.LinkGatherer.__init__, "__defaults__", (50,))
    found = read(given)
    assert found.circuit.edges == whole.circuit.edges[:50]
    assert [n.effect for n in found.circuit.nodes] == [n.effect for n in whole.circuit.nodes]
    left, total = len(given["links"]) - 50, len(given["links"])
    share = sum(abs(e.weight) for e in found.circuit.edges) / sum(
        abs(link["weight"]) for link in given["links"]
    )
    (note,) = [one for one in found.circuit.notes if "links" in one]
    assert note.startswith(f"{left} of {total} links, the weakest, were left out")
    assert f"carry {share:.1%} of all |weights|. Influence was computed from all" in note


def test_of_too_many_nodes_the_most_linked_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    given = large(40)
    monkeypatch.setattr(graph_file_import, "NODES_KEPT", 12)
    monkeypatch.setattr(graph_file_links, "DENSE_NODES", 10)
    found = read(given)
    kinds = [n.kind for n in found.circuit.nodes]
    assert len(kinds) == 12 and {"token", "logit"} <= set(kinds)
    assert {n.effect for n in found.circuit.nodes} == {None}
    said = " ".join(found.circuit.notes)
    assert "33 of 45 nodes, those with the weakest links, were left out" in said
    assert "too many for the influence" in said and "Influence was computed" not in said
    ids = {n.id for n in found.circuit.nodes}
    assert all(e.source in ids and e.target in ids for e in found.circuit.edges)


def test_every_malformed_graph_is_refused_or_read(tmp_path: Path) -> None:
    """Each value of a good file by each bad one: a circuit without odd numbers, or a sentence."""
    path = tmp_path / "graph.json"
    refused = read_ = 0
    for what in spoil_file(path, graph()):
        try:
            found = read_graph_file(lambda: path.open("rb"))
        except IsADirectoryError:
            assert what == "a folder"
        except InputError as error:
            refused += 1
            assert len(str(error)) < 1000 or "<script>" in str(error), what
        else:
            read_ += 1
            numbers = [edge.weight for edge in found.circuit.edges]
            assert all(map(math.isfinite, numbers)), what
            json.dumps(found.circuit.to_json(), allow_nan=False, ensure_ascii=False).encode()
    assert refused > 300 and read_ > 100


def test_the_command_imports_a_graph_and_says_what_stayed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.create(tmp_path / "store")
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(graph()))
    assert is_graph_file(path) and not is_graph_file(tmp_path)
    assert main(["import", str(path), "--store", str(store.path)]) == 0
    said = capsys.readouterr().out
    assert (
        "5 nodes, 4 links, 2 pins, 1 group." in said
        and "Imported from another tool: neither" in said
    )
    assert main(["import", str(path), "--store", str(store.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["groups"] == 1 and SavedCircuits(store.catalog).open(facts["experiment"])
    broken = copy.deepcopy(graph())
    broken["links"][0]["weight"] = "big"
    path.write_text(json.dumps(broken))
    assert main(["import", str(path), "--store", str(store.path)]) == 2
    assert "graph.json was not imported: Link 0: weight is not a finite" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["graph_plain", "graph_collision_78", "graph_scan_list"])
def test_the_cases_are_read(cases: Path, name: str) -> None:
    found = read_graph_file(lambda: (cases / name / "graph.json").open("rb"))
    assert len(found.circuit.nodes) == 5 + (name == "graph_collision_78")
    assert len(found.marks.pins) == 2 and len(found.marks.groups["DNA words"]) == 2
    assert any("ambiguous" in note for note in found.circuit.notes) == ("collision" in name)
