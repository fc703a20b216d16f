"""Circuits in the catalog: a run is an experiment, its graph lies in tables of its own.

A graph is named by its content: the same graph is kept once, and never changes. What people mark
in it (pins, hidden nodes, groups) is said beside the run, so that it has a history.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb
import pyarrow as pa

from feature_store.catalog import Catalog, utc_now
from feature_store.circuit_graphs import CircuitGraph
from feature_store.errors import InputError
from feature_store.experiments import Experiment, Experiments
from feature_store.strict_json import dump_json, parse_json

MarkKind = Literal["pins", "hidden", "groups"]
DIGEST_LENGTH = 16
NODE_SCHEMA = pa.schema(
    [
        ("graph", pa.string()),
        ("node", pa.int32()),
        ("id", pa.string()),
        ("kind", pa.string()),
        ("layer", pa.int32()),
        ("position", pa.int32()),
        ("dictionary", pa.string()),
        ("feature", pa.int32()),
        ("effect", pa.float64()),
        ("value", pa.float64()),
        ("label", pa.string()),
        ("exact", pa.float64()),
    ]
)
EDGE_SCHEMA = pa.schema(
    [
        ("graph", pa.string()),
        ("source", pa.int32()),
        ("target", pa.int32()),
        ("weight", pa.float64()),
        ("stability", pa.float64()),
    ]
)


@dataclass(frozen=True)
class CircuitMarks:
    """What people marked in a circuit: ids of nodes."""

    pins: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name → its nodes; a node is in one group at most."""


@dataclass(frozen=True)
class SavedCircuit:
    """A circuit: its run, whose `result` is the circuit's record without nodes and edges."""

    experiment: Experiment
    graph: str
    """The name of its graph."""
    marks: CircuitMarks


class SavedCircuits:
    """The circuits of a store. Every method is one or two transactions of the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def keep(self, circuit: Mapping[str, Any], **run: Any) -> str:
        """Keep a circuit, as `Circuit.to_json` writes it; its id.

        `run`: what else `Experiments.keep` takes: harvest, model, model_hash, dictionaries,
        request and versions.
        """
        record = {name: one for name, one in circuit.items() if name not in ("nodes", "edges")}
        name = self.put(circuit["nodes"], circuit["edges"])
        result = {
            "circuit": record,
            "graph": name,
            "nodes": len(circuit["nodes"]),
            "edges": len(circuit["edges"]),
        }
        return Experiments(self.catalog).keep("circuit", result=result, **run)

    def put(self, nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]) -> str:
        """Keep a graph, if it is not kept yet; its name."""
        name = hash_graph(nodes, edges)
        place = {node["id"]: i for i, node in enumerate(nodes)}
        rows = [{**node, "graph": name, "node": i} for i, node in enumerate(nodes)]
        lines = [
            {
                "graph": name,
                "source": place[edge["source"]],
                "target": place[edge["target"]],
                "weight": edge["weight"],
                "stability": edge.get("stability"),
            }
            for edge in edges
        ]
        with self.catalog.transaction() as db:
            if not db.execute("SELECT 1 FROM circuit_node WHERE graph = ?", [name]).fetchone():
                for table, found in (
                    ("circuit_node", pa.Table.from_pylist(rows, NODE_SCHEMA)),
                    ("circuit_edge", pa.Table.from_pylist(lines, EDGE_SCHEMA)),
                ):
                    db.register("fresh", found)
                    db.execute(f"INSERT INTO {table} SELECT * FROM fresh")
                    db.unregister("fresh")
        return name

    def open(self, experiment: str) -> SavedCircuit:
        """A circuit by its id; InputError when there is none, or when it is another kind of run."""
        found = Experiments(self.catalog).open(experiment)
        if found.kind != "circuit" or "graph" not in found.result:
            raise InputError(f"Experiment {experiment} is no circuit but a run of {found.kind}.")
        return SavedCircuit(found, str(found.result["graph"]), self.marks(experiment))

    def graph(self, name: str) -> CircuitGraph:
        """The graph of that name; it never changes."""
        with self.catalog.reading() as db:
            nodes = db.sql(
                "SELECT * EXCLUDE graph FROM circuit_node WHERE graph = ? ORDER BY node",
                params=[name],
            ).to_arrow_table()
            edges = db.sql(
                "SELECT * EXCLUDE graph FROM circuit_edge WHERE graph = ? "
                "ORDER BY abs(weight) DESC, source, target",
                params=[name],
            ).to_arrow_table()
        if not nodes.num_rows:
            raise InputError("This circuit's graph is not in this store any more. Run it again.")
        return CircuitGraph(nodes, edges)

    def marks(self, experiment: str) -> CircuitMarks:
        """What is marked in a circuit now."""
        with self.catalog.reading() as db:
            said = {
                kind: read_latest_mark(db, experiment, kind)
                for kind in ("pins", "hidden", "groups")
            }
        return CircuitMarks(
            tuple(said["pins"] or ()),
            tuple(said["hidden"] or ()),
            {name: tuple(ids) for name, ids in (said["groups"] or {}).items()},
        )

    def mark(self, experiment: str, kind: MarkKind, value: object) -> None:
        """Pins and hidden nodes: ids; groups: name → ids. What is so already is not said twice."""
        with self.catalog.transaction() as db:
            if read_latest_mark(db, experiment, kind) != parse_json(dump_json(value)):
                db.execute(
                    "INSERT INTO circuit_word (experiment, kind, value, created) "
                    "VALUES (?, ?, ?, ?)",
                    [experiment, kind, dump_json(value), utc_now()],
                )


def hash_graph(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]) -> str:
    """A graph's name: a hash of all that it holds."""
    whole = dump_json([list(nodes), list(edges)], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:DIGEST_LENGTH]


def read_latest_mark(db: duckdb.DuckDBPyConnection, experiment: str, kind: str) -> Any:
    """What was said last of a circuit; None when nothing."""
    row = db.execute(
        "SELECT arg_max(value, word) FROM circuit_word WHERE experiment = ? AND kind = ?",
        [experiment, kind],
    ).fetchone()
    return parse_json(row[0]) if row and row[0] else None
