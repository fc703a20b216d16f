"""Circuits in the catalog: kept whole, opened by id, marked; and parts of their graphs."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest

from backend.circuits.records import (
    Circuit,
    CircuitEdge,
    CircuitNode,
    CircuitPrompt,
    error_id,
    feature_id,
    token_id,
)
from feature_store.catalog import Catalog
from feature_store.circuit_graphs import GROUP_PREFIX, MAX_EDGES, CircuitGraph, SubgraphSelection
from feature_store.errors import InputError
from feature_store.experiments import Experiments
from feature_store.saved_circuits import CircuitMarks, SavedCircuits

RUN = {
    "harvest": "tiny-0001",
    "model": "tiny",
    "model_hash": "00",
    "dictionaries": {"resid": "11"},
    "request": {"method": "sparse-features"},
    "versions": {},
}


def node(layer: int, feature: int, effect: float, position: int | None = 1) -> CircuitNode:
    return CircuitNode(
        feature_id("resid", feature, position),
        "feature",
        layer,
        position,
        "resid",
        feature,
        effect,
        1.0,
    )


A, B, C, D = node(0, 0, 4.0), node(0, 1, -3.0), node(1, 2, 2.0), node(2, 3, 1.0)
WRONG = CircuitNode(error_id("resid", 1), "error", 1, 1, "resid", effect=0.1, value=2.0)
TOKEN = CircuitNode(token_id(0), "token", -1, 0, label=" the", feature=1)
EDGES = (
    CircuitEdge(A.id, C.id, 3.0),
    CircuitEdge(B.id, C.id, -2.0),
    CircuitEdge(C.id, D.id, 1.5),
    CircuitEdge(A.id, D.id, 0.5),
    CircuitEdge(WRONG.id, D.id, 0.25),
    CircuitEdge(TOKEN.id, A.id, 0.125),
)
CIRCUIT = Circuit(
    "sparse-features",
    "tiny",
    (CircuitPrompt(" the dog", (" the", " dog")),),
    "x",
    (A, B, C, D, WRONG, TOKEN),
    EDGES,
    "zero",
    ("resid",),
)


@pytest.fixture
def circuits(tmp_path: Path) -> SavedCircuits:
    return SavedCircuits(Catalog(tmp_path / "catalog.duckdb"))


@pytest.fixture
def graph(circuits: SavedCircuits) -> CircuitGraph:
    given = CIRCUIT.to_json()
    return circuits.read_graph(circuits.save_graph(given["nodes"], given["edges"]))


def test_what_is_kept_is_what_was_given(circuits: SavedCircuits) -> None:
    name = circuits.save(CIRCUIT.to_json(), **RUN)
    kept = circuits.open(name)
    part = circuits.read_graph(kept.graph).select_subgraph(SubgraphSelection())
    nodes = [
        {k: v for k, v in vars(n).items() if k not in ("in_circuit", "group")} for n in part.nodes
    ]
    edges = [{"source": s, "target": t, "weight": w} for s, t, w in part.edges]
    whole = {**kept.experiment.result["circuit"], "nodes": nodes, "edges": edges}
    assert Circuit.from_json(whole) == CIRCUIT


def test_edges_keep_their_stability(circuits: SavedCircuits) -> None:
    held = replace(CIRCUIT, edges=(replace(EDGES[0], stability=0.75), *EDGES[1:])).to_json()
    graph = circuits.read_graph(circuits.save_graph(held["nodes"], held["edges"]))
    assert graph.stability == {(A.id, C.id): 0.75}


def test_the_same_circuit_is_kept_once(circuits: SavedCircuits) -> None:
    one, two = (circuits.save(CIRCUIT.to_json(), **RUN) for _ in range(2))
    assert one == two
    with circuits.catalog.read_transaction() as db:
        assert db.execute("SELECT count(*) FROM circuit_node").fetchone() == (6,)


def test_marks_are_what_was_said_last(circuits: SavedCircuits) -> None:
    name = circuits.save(CIRCUIT.to_json(), **RUN)
    assert circuits.read_marks(name) == CircuitMarks()
    for pins in ([A.id], [A.id, B.id], [A.id, B.id]):
        circuits.write_mark(name, "pins", pins)
    circuits.write_mark(name, "groups", {"names": [C.id, D.id]})
    assert circuits.open(name).marks == CircuitMarks((A.id, B.id), (), {"names": (C.id, D.id)})
    with circuits.catalog.read_transaction() as db:
        assert db.execute("SELECT count(*) FROM circuit_word").fetchone() == (3,)


def test_another_kind_of_run_is_no_circuit(circuits: SavedCircuits) -> None:
    name = Experiments(circuits.catalog).save("steer", result={}, **RUN)
    with pytest.raises(InputError, match="is not a circuit: its kind is steer"):
        circuits.open(name)


def test_a_graph_that_is_gone_says_so(circuits: SavedCircuits) -> None:
    with pytest.raises(InputError, match="Run the circuit again"):
        circuits.read_graph("nothing")


def test_the_strongest_nodes_and_every_error(graph: CircuitGraph) -> None:
    part = graph.select_subgraph(SubgraphSelection(max_nodes=2))
    assert [n.id for n in part.ablatable_nodes] == [A.id, B.id]
    assert {n.id for n in part.nodes} == {A.id, B.id, WRONG.id, TOKEN.id}
    assert part.edges == [(TOKEN.id, A.id, 0.125)]


def test_what_is_traced_is_strong_though_it_stands_last() -> None:
    """A trace's start comes behind its sources; nodes without an effect count as strong."""
    start, unknown = (
        node(3, 9, 8.0),
        CircuitNode(feature_id("resid", 8, 1), "feature", 2, 1, "resid", 8),
    )
    part = made([A, B, start, unknown], []).select_subgraph(SubgraphSelection(max_nodes=2))
    assert [n.id for n in part.ablatable_nodes] == [unknown.id, start.id]


def test_pinned_nodes_stay_and_hidden_ones_go(graph: CircuitGraph) -> None:
    part = graph.select_subgraph(
        SubgraphSelection(max_nodes=1, always_shown=[D.id], hidden=[A.id, TOKEN.id])
    )
    assert [n.id for n in part.ablatable_nodes] == [B.id, D.id]
    assert part.edges == []


@pytest.mark.parametrize(("share", "n"), [(0.0, 0), (0.4, 1), (0.41, 2), (1.0, 6)])
def test_edges_until_their_share(graph: CircuitGraph, share: float, n: int) -> None:
    """Σ|weight| is 7.375, of which the strongest edge has 0.407."""
    found = graph.select_subgraph(SubgraphSelection(edge_share=share)).edges
    assert found == [(e.source, e.target, e.weight) for e in EDGES[:n]]


def test_edges_that_hold_in_too_few_draws_go_before_shares_are_taken() -> None:
    """Of the rest the strongest that carry the share; an edge of which nothing is known stays."""
    shares = (0.3, 0.8, 0.9, None)
    edges = [replace(e, stability=share) for e, share in zip(EDGES[:4], shares, strict=True)]
    graph = made([A, B, C, D, WRONG, TOKEN], edges)
    for least, kept in ((0.0, edges), (0.8, edges[1:]), (0.85, edges[2:]), (1.0, edges[3:])):
        part = graph.select_subgraph(SubgraphSelection(min_stability=least))
        assert part.edges == [(e.source, e.target, e.weight) for e in kept]
    half = graph.select_subgraph(SubgraphSelection(edge_share=0.01, min_stability=0.8)).edges
    assert half == [(edges[1].source, edges[1].target, edges[1].weight)]


def test_a_group_sums_its_edges(graph: CircuitGraph) -> None:
    part = graph.select_subgraph(SubgraphSelection(groups={"inputs": [A.id, B.id]}))
    assert {n.id for n in part.nodes if n.group == "inputs"} == {A.id, B.id}
    assert (GROUP_PREFIX + "inputs", C.id, 1.0) in part.edges
    assert (GROUP_PREFIX + "inputs", D.id, 0.5) in part.edges


def test_up_and_down(graph: CircuitGraph) -> None:
    assert set(graph.connected_nodes(C.id, "up")) == {A.id, B.id, C.id, TOKEN.id}
    assert set(graph.connected_nodes(C.id, "down")) == {C.id, D.id}
    assert graph.neighbours(C.id, "up", 1) == [(A.id, 3.0)]


def test_the_strongest_path_by_brute_force() -> None:
    """On random small graphs, against every path there is."""
    for seed in range(20):
        dice = random.Random(seed)
        nodes = [node(i, i, 9.0 - i) for i in range(6)]
        pairs = [p for p in itertools.combinations(range(6), 2) if dice.random() < 0.6]
        weight = {p: dice.uniform(-2, 2) for p in pairs}
        graph = made(
            nodes, [CircuitEdge(nodes[a].id, nodes[b].id, w) for (a, b), w in weight.items()]
        )
        into = [sum(abs(w) for (_, b), w in weight.items() if b == to) for to in range(6)]
        best, found = 0.0, []
        for n in range(5):
            for middle in itertools.combinations(range(1, 5), n):
                steps = list(itertools.pairwise((0, *middle, 5)))
                if all(step in weight for step in steps):
                    strength = 1.0
                    for step in steps:
                        strength *= abs(weight[step]) / into[step[1]]
                    if strength > best:
                        best, found = strength, [nodes[i].id for i in (0, *middle, 5)]
        assert graph.strongest_path(nodes[0].id, nodes[5].id) == found
        assert graph.strongest_path(nodes[5].id, nodes[0].id) == found


def made(nodes: list[CircuitNode], edges: list[CircuitEdge]) -> CircuitGraph:
    import pyarrow as pa

    place = {one.id: i for i, one in enumerate(nodes)}
    rows = [{**vars(one), "node": i} for i, one in enumerate(nodes)]
    lines = {
        "source": [place[e.source] for e in edges],
        "target": [place[e.target] for e in edges],
        "weight": [e.weight for e in edges],
        "stability": [e.stability for e in edges],
    }
    types = {
        "source": pa.int32(),
        "target": pa.int32(),
        "weight": pa.float64(),
        "stability": pa.float64(),
    }
    return CircuitGraph(
        pa.Table.from_pylist(rows),
        pa.table({name: pa.array(column, types[name]) for name, column in lines.items()}),
    )


def test_a_node_that_is_not_there(graph: CircuitGraph) -> None:
    with pytest.raises(InputError, match="no node 'resid/99@1'"):
        graph.strongest_path(A.id, "resid/99@1")


def test_a_picture_holds_so_many_edges() -> None:
    nodes = [node(i, i, 9.0) for i in range(220)]
    edges = [CircuitEdge(a.id, b.id, 1.0) for a, b in itertools.combinations(nodes, 2)]
    assert len(edges) > MAX_EDGES
    assert len(made(nodes, edges).select_subgraph(SubgraphSelection()).edges) == MAX_EDGES
