"""Saved circuits: a circuit is kept in the catalog as an experiment, its graph in separate tables
of nodes and edges.

A graph's name is a hash of its content, so the same graph is stored once and never changes. The
marks that people make (pinned nodes, hidden nodes, groups) are stored separately with their
history.
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
    """Marks that people made in a saved circuit: the ids of pinned, hidden and grouped nodes."""

    pins: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Group name -> ids of its nodes; a node is in at most one group."""


@dataclass(frozen=True)
class SavedCircuit:
    """Saved circuit: an experiment whose `result` holds the circuit without its nodes and edges."""

    experiment: Experiment
    graph: str
    """Name of the circuit's graph: the hash of its nodes and edges."""
    marks: CircuitMarks


class SavedCircuits:
    """The saved circuits of a store. Every method is one or two transactions of the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def save(self, circuit: Mapping[str, Any], **run: Any) -> str:
        """Save a circuit, given as `Circuit.to_json` writes it, and return its experiment id.

        `run` holds the other arguments of `Experiments.save`: harvest, model, model_hash,
        dictionaries, request and versions.
        """
        record = {name: one for name, one in circuit.items() if name not in ("nodes", "edges")}
        name = self.save_graph(circuit["nodes"], circuit["edges"])
        result = {
            "circuit": record,
            "graph": name,
            "nodes": len(circuit["nodes"]),
            "edges": len(circuit["edges"]),
        }
        return Experiments(self.catalog).save("circuit", result=result, **run)

    def save_graph(
        self, nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]
    ) -> str:
        """Save the nodes and edges of a circuit's graph, unless they are saved already; return
        its name."""
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
        """Read a saved circuit by its experiment id.

        Raises InputError if there is no such experiment or if it is not a circuit.
        """
        found = Experiments(self.catalog).open(experiment)
        if found.kind != "circuit" or "graph" not in found.result:
            raise InputError(f"Experiment {experiment} is not a circuit: its kind is {found.kind}.")
        return SavedCircuit(found, str(found.result["graph"]), self.read_marks(experiment))

    def read_graph(self, name: str) -> CircuitGraph:
        """Read the graph of a saved circuit by its name; a graph never changes."""
        with self.catalog.read_transaction() as db:
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
            raise InputError(
                "This circuit's graph is no longer in this store. Run the circuit again."
            )
        return CircuitGraph(nodes, edges)

    def read_marks(self, experiment: str) -> CircuitMarks:
        """Read the current marks of a saved circuit."""
        with self.catalog.read_transaction() as db:
            said = {
                kind: read_latest_mark(db, experiment, kind)
                for kind in ("pins", "hidden", "groups")
            }
        return CircuitMarks(
            tuple(said["pins"] or ()),
            tuple(said["hidden"] or ()),
            {name: tuple(ids) for name, ids in (said["groups"] or {}).items()},
        )

    def write_mark(self, experiment: str, kind: MarkKind, value: object) -> None:
        """Write people's marks of a saved circuit: node ids for `pins` and `hidden`, group name ->
        node ids for `groups`.

        Marks that equal the current ones are not written again.
        """
        with self.catalog.transaction() as db:
            if read_latest_mark(db, experiment, kind) != parse_json(dump_json(value)):
                db.execute(
                    "INSERT INTO circuit_word (experiment, kind, value, created) "
                    "VALUES (?, ?, ?, ?)",
                    [experiment, kind, dump_json(value), utc_now()],
                )


def hash_graph(nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]]) -> str:
    """Return a circuit graph's name: the first 16 hexadecimal digits of the SHA-256 of its nodes
    and edges."""
    content = dump_json([list(nodes), list(edges)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_LENGTH]


def read_latest_mark(db: duckdb.DuckDBPyConnection, experiment: str, kind: str) -> Any:
    """Read the newest marks of one kind (pins, hidden or groups) of a saved circuit; None if
    there are none."""
    row = db.execute(
        "SELECT arg_max(value, word) FROM circuit_word WHERE experiment = ? AND kind = ?",
        [experiment, kind],
    ).fetchone()
    return parse_json(row[0]) if row and row[0] else None
