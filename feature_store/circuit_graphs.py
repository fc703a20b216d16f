"""Circuit graphs in memory, queried by SQL: the strongest nodes and edges, the ancestors of a
node, the strongest path between two nodes."""

import heapq
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import duckdb
import pyarrow as pa

from feature_store.errors import InputError

MAX_NODES, MAX_EDGES = 2_000, 20_000
"""Maximum numbers of nodes and edges in a subgraph that is drawn."""
GROUP_PREFIX = "group:"
"""Prefix of the id of a group of nodes in a drawn circuit graph."""
NODE_QUERY = """
    WITH ranked AS (
        SELECT *, row_number() OVER (
            PARTITION BY kind IN ('token', 'logit')
            ORDER BY abs(effect) DESC NULLS FIRST, node) AS rank
        FROM node WHERE NOT list_contains($hidden, id)
    ), judged AS (
        SELECT *, kind IN ('token', 'logit') OR rank <= $most
            OR list_contains($kept, id) AS inside
        FROM ranked
    )
    SELECT id, kind, layer, position, dictionary, feature, effect, value, label, inside, node, exact
    FROM judged WHERE inside OR kind = 'error'
    ORDER BY inside DESC, kind IN ('token', 'logit'), rank LIMIT $room
"""
EDGE_QUERY = """
    WITH placed AS (SELECT unnest($nodes) AS node, unnest($names) AS name),
    joined AS (
        SELECT s.name AS source, t.name AS target, sum(e.weight) AS weight
        FROM edge e JOIN placed s ON s.node = e.source JOIN placed t ON t.node = e.target
        WHERE s.name <> t.name AND coalesce(e.stability, 1) >= $holds GROUP BY ALL
    ), summed AS (
        SELECT *, sum(abs(weight)) OVER (
            ORDER BY abs(weight) DESC, source, target ROWS UNBOUNDED PRECEDING
        ) - abs(weight) AS before, sum(abs(weight)) OVER () AS whole
        FROM joined WHERE weight <> 0
    )
    SELECT source, target, weight FROM summed WHERE before < $share * whole
    ORDER BY abs(weight) DESC, source, target LIMIT $room
"""
NEVER_ABLATED = ("token", "logit")
"""Kinds of circuit nodes that are never ablated, and so not counted as part of the circuit."""
EDGE_DIRECTIONS = {"up": ("target", "source"), "down": ("source", "target")}


@dataclass(frozen=True)
class GraphNode:
    """A node of a circuit graph: a feature, head, error term, token or logit."""

    id: str
    kind: str
    layer: int
    position: int | None
    dictionary: str
    feature: int | None
    effect: float | None
    value: float | None
    label: str
    in_circuit: bool
    """Whether the node is in the pruned circuit; error terms that pruning removed are drawn too."""
    group: str = ""
    exact: float | None = None
    """Measured change of the circuit's metric when only this node is ablated; None if not
    measured."""


@dataclass(frozen=True)
class SubgraphSelection:
    """Selection of the part of a circuit graph to draw: number of nodes, share of edge weight,
    kept and hidden nodes."""

    max_nodes: int = MAX_NODES
    """Maximum number of features, heads and error terms; the strongest are kept."""
    edge_share: float = 1.0
    """Share of the total |weight| between the selected nodes that the edges carry, strongest
    edges first."""
    always_shown: Sequence[str] = ()
    """Ids of nodes that are selected whatever their strength."""
    hidden: Sequence[str] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    min_stability: float = 0.0
    """Minimum stability of an edge; edges of unknown stability are kept."""


@dataclass(frozen=True)
class CircuitSubgraph:
    """The part of a circuit graph that is drawn: its nodes, and its edges (source, target, weight).
    An edge's ends are node ids or, for grouped nodes, GROUP_PREFIX and the group's name."""

    nodes: list[GraphNode]
    edges: list[tuple[str, str, float]]

    @property
    def ablatable_nodes(self) -> list[GraphNode]:
        """Features, heads and error terms of the subgraph that are in the pruned circuit."""
        return [n for n in self.nodes if n.in_circuit and n.kind not in NEVER_ABLATED]


class CircuitGraph:
    """A circuit graph in an in-memory DuckDB: read-only and safe to share between threads."""

    def __init__(self, nodes: pa.Table, edges: pa.Table) -> None:
        """Load a circuit graph. `nodes` has the columns of GraphNode except in_circuit and group,
        and each node's number `node`; `edges` has source and target (numbers of nodes), weight and
        stability."""
        self._db = duckdb.connect(config={"threads": 1})
        self._lock = threading.Lock()  # guards making cursors
        for name, table in (("node", nodes), ("edge", edges)):
            self._db.register("given", table)
            self._db.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
            self._db.unregister("given")
        self.ids: list[str] = nodes.column("id").to_pylist()
        self.n_ablatable = sum(k not in NEVER_ABLATED for k in nodes.column("kind").to_pylist())
        """Number of features, heads and error terms in the circuit graph."""
        self.n_edges = edges.num_rows
        self._node_numbers = {one: i for i, one in enumerate(self.ids)}

    def list_nodes(self) -> list[GraphNode]:
        """Return all nodes of the circuit graph in stored order."""
        with self._cursor() as db:
            rows = db.execute(
                "SELECT id, kind, layer, position, dictionary, feature, effect, value, label, "
                "true, exact FROM node ORDER BY node"
            ).fetchall()
        return [GraphNode(*row[:10], exact=row[10]) for row in rows]

    def list_edges(self) -> list[tuple[int, int, float]]:
        """Return all edges of the circuit graph as (source number, target number, weight),
        strongest first."""
        with self._cursor() as db:
            return db.execute(
                "SELECT source, target, weight FROM edge ORDER BY abs(weight) DESC, source, target"
            ).fetchall()

    @cached_property
    def stability(self) -> dict[tuple[str, str], float]:
        """Stability of each edge, by its source and target ids: the share of samples of prompts
        in which it holds. Edges without a stability are left out."""
        with self._cursor() as db:
            rows = db.execute(
                "SELECT source, target, stability FROM edge WHERE stability IS NOT NULL"
            ).fetchall()
        return {(self.ids[source], self.ids[target]): share for source, target, share in rows}

    def select_subgraph(self, choice: SubgraphSelection) -> CircuitSubgraph:
        """Return the part of the circuit graph to draw: its strongest nodes and the edges between
        them, within the limits of `choice`, always with its kept and never with its hidden
        nodes."""
        member = {one: name for name, ids in choice.groups.items() for one in ids}
        with self._cursor() as db:
            rows = db.execute(
                NODE_QUERY,
                {
                    "hidden": list(choice.hidden),
                    "most": choice.max_nodes,
                    "kept": list(choice.always_shown),
                    "room": MAX_NODES,
                },
            ).fetchall()
            nodes = [
                GraphNode(*row[:10], group=member.get(row[0], ""), exact=row[11]) for row in rows
            ]
            inside = [
                (row[10], node) for row, node in zip(rows, nodes, strict=True) if node.in_circuit
            ]
            names = [GROUP_PREFIX + node.group if node.group else node.id for _, node in inside]
            numbers = [number for number, _ in inside]
            edges = db.execute(
                EDGE_QUERY,
                {
                    "nodes": numbers,
                    "names": names,
                    "share": choice.edge_share,
                    "holds": choice.min_stability,
                    "room": MAX_EDGES,
                },
            ).fetchall()
        return CircuitSubgraph(nodes, edges)

    def connected_nodes(self, id: str, way: Literal["up", "down"]) -> list[str]:
        """Return the ids of all ancestors (`up`) or descendants (`down`) of a circuit node, with
        itself."""
        come, go = EDGE_DIRECTIONS[way]
        with self._cursor() as db:
            rows = db.execute(
                f"WITH RECURSIVE found(node) AS (SELECT CAST($at AS INTEGER) UNION "
                f"SELECT e.{go} FROM edge e JOIN found f ON e.{come} = f.node) "
                "SELECT node FROM found ORDER BY node",
                {"at": self.node_number(id)},
            ).fetchall()
        return [self.ids[number] for (number,) in rows]

    def strongest_path(self, source: str, target: str) -> list[str]:
        """Return the strongest path between two circuit nodes, in either direction; empty if there
        is none.

        The strongest path has the largest product of each edge's share of the total |weight| into
        its target.
        """
        a, b = self.node_number(source), self.node_number(target)
        return self._find_path(a, b) or self._find_path(b, a)

    def neighbours(self, id: str, way: Literal["up", "down"], most: int) -> list[tuple[str, float]]:
        """Return a circuit node's direct neighbours (`up` or `down`) with edge weights,
        strongest first."""
        come, go = EDGE_DIRECTIONS[way]
        with self._cursor() as db:
            rows = db.execute(
                f"SELECT {go}, weight FROM edge WHERE {come} = $at "
                f"ORDER BY abs(weight) DESC, {go} LIMIT $most",
                {"at": self.node_number(id), "most": most},
            ).fetchall()
        return [(self.ids[number], weight) for number, weight in rows]

    def node_number(self, id: str) -> int:
        """Return the number by which edges of the circuit graph refer to a node; InputError for an
        unknown node id."""
        if id not in self._node_numbers:
            raise InputError(f"This circuit has no node {id!r}.")
        return self._node_numbers[id]

    def _find_path(self, start: int, end: int) -> list[str]:
        """Find the strongest path by Dijkstra's algorithm, with −log of the edges' shares as
        lengths."""
        before: dict[int, int] = {}
        queue, done = [(0.0, start, start)], set()
        while queue:
            length, at, came = heapq.heappop(queue)
            if at in done:
                continue
            done.add(at)
            before[at] = came
            if at == end:
                found = [at]
                while found[-1] != start:
                    found.append(before[found[-1]])
                return [self.ids[one] for one in reversed(found)]
            for to, share in self._shares.get(at, ()):
                if to not in done:
                    heapq.heappush(queue, (length - math.log(share), to, at))
        return []

    @cached_property
    def _shares(self) -> dict[int, list[tuple[int, float]]]:
        """Outgoing edges of each node of the circuit graph: (target, share of the total |weight|
        into that target)."""
        with self._cursor() as db:
            rows = db.execute(
                "SELECT source, target, abs(weight) / sum(abs(weight)) OVER (PARTITION BY target) "
                "FROM edge WHERE weight <> 0"
            ).fetchall()
        found: dict[int, list[tuple[int, float]]] = {}
        for source, target, share in rows:
            found.setdefault(source, []).append((target, share))
        return found

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            return self._db.cursor()
