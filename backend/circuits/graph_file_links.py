"""Links of an imported graph file, read batch by batch in bounded memory; only the heaviest are
kept."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backend.circuits.graph_file_checks import (
    check_finite_number,
    check_finite_or_null,
    check_json_object,
    get_required_value,
)
from backend.circuits.graph_file_export import SAEFARI_KEY
from backend.circuits.records import CircuitNode
from feature_store.errors import InputError

LINKS_KEPT = 500_000
"""Maximum number of links kept of a graph file; a picture of the graph shows far fewer."""
DENSE_NODES = 8_000
"""Number of nodes up to which all links of a graph file are summed into a matrix for the influence:
256 MB at most."""
EXACT_NODES = 2_000
"""Number of nodes up to which the matrix of a graph file's links is float64; it is float32
above."""
NEVER_TARGETS, NEVER_SOURCES = ("token", "error"), ("logit",)
"""Kinds of nodes that no link of a graph file leads to, and kinds that no link starts from."""
AMBIGUOUS_NODE = -1


class GraphLinks(NamedTuple):
    """Links of a graph file as columns: node indices, weights, and stability (NaN for a link
    without one)."""

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    stability: np.ndarray

    def take(self, which: np.ndarray) -> "GraphLinks":
        """Return the links of the graph file that a mask or an index array selects."""
        return GraphLinks(*(column[which] for column in self))

    @classmethod
    def join(cls, parts: Sequence["GraphLinks"]) -> "GraphLinks":
        """Concatenate several sets of links of a graph file."""
        if not parts:
            return cls(*(np.zeros(0, kind) for kind in (np.int64, np.int64, float, float)))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class LinkGatherer:
    """Collector that validates the links of a graph file, sums their weights, and keeps the
    heaviest."""

    def __init__(
        self,
        nodes: Sequence[CircuitNode],
        numbers: Mapping[str, Sequence[int]],
        kept: int = LINKS_KEPT,
    ) -> None:
        """Create a gatherer; `numbers` maps each node_id of the file to the indices in `nodes` of
        the nodes that have it, mostly one."""
        n = len(nodes)
        self.effects: np.ndarray | None = None
        """Summed weights [target, source] of all links of the graph file; None above DENSE_NODES
        nodes."""
        if n <= DENSE_NODES:
            self.effects = np.zeros((n, n), np.float64 if n <= EXACT_NODES else np.float32)
        self.strength = np.zeros(n)
        """Sum of the |weights| of each node's links in the graph file."""
        self.seen = 0
        """Number of links read from the graph file."""
        self.ambiguous: list[float] = []
        """Weights of the graph file's links whose ends cannot be identified."""
        self._most, self._parts, self._held = kept, [], 0
        kinds = [node.kind for node in nodes]
        self._sources = {
            key: choose_link_end(some, kinds, NEVER_SOURCES) for key, some in numbers.items()
        }
        self._targets = {
            key: choose_link_end(some, kinds, NEVER_TARGETS) for key, some in numbers.items()
        }

    def add(self, links: Sequence[Any]) -> None:
        """Add a batch of links from the graph file. Raises InputError that names the first
        malformed link."""
        try:
            source = np.array([self._sources[link["source"]] for link in links], np.int32)
            target = np.array([self._targets[link["target"]] for link in links], np.int32)
            weight = read_link_weights([link["weight"] for link in links])
            own = any(SAEFARI_KEY in link for link in links)
            stability = read_link_stability(links) if own else np.full(len(links), np.nan)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            for i, row in enumerate(links, self.seen):
                self._check_link(row, f"Link {i}")
            raise
        self.seen += len(links)
        resolved = (source != AMBIGUOUS_NODE) & (target != AMBIGUOUS_NODE)
        self.ambiguous += weight[~resolved].tolist()
        self._keep_links(GraphLinks(source, target, weight, stability).take(resolved))

    def heaviest(self) -> GraphLinks:
        """Return the links that are kept, the heaviest first; links of equal weight are ordered by
        their nodes."""
        found = GraphLinks.join(self._parts)
        order = np.lexsort((found.target, found.source, -np.abs(found.weight)))
        return found.take(order[: self._most])

    def _keep_links(self, links: GraphLinks) -> None:
        """Add validated links of the graph file to the summed weights and hold them; drop the
        lightest when more than twice the limit are held."""
        if self.effects is not None:
            np.add.at(self.effects, (links.target, links.source), links.weight)
        for ends in (links.source, links.target):
            self.strength += np.bincount(ends, np.abs(links.weight), len(self.strength))
        self._parts.append(links)
        self._held += len(links.weight)
        if self._held > 2 * self._most:
            whole = GraphLinks.join(self._parts)
            best = np.argpartition(-np.abs(whole.weight), self._most)[: self._most]
            self._parts, self._held = [whole.take(best)], self._most

    def _check_link(self, row: object, where: str) -> None:
        """Raise InputError if a link of the graph file is malformed."""
        link = check_json_object(row, where)
        for side in ("source", "target"):
            end = get_required_value(link, side, where)
            if not isinstance(end, str) or end not in self._sources:
                raise InputError(f"{where} names the node {end!r}, which is not in the file.")
        check_finite_number(get_required_value(link, "weight", where), f"{where}: weight")
        own = check_json_object(link.get(SAEFARI_KEY) or {}, f"{where}: {SAEFARI_KEY}")
        check_finite_or_null(own.get("stability"), f"{where}: stability")


def choose_link_end(numbers: Sequence[int], kinds: Sequence[str], never: Sequence[str]) -> int:
    """Return the node that an end of a link refers to; AMBIGUOUS_NODE if several nodes with its
    node_id are possible.

    `never` are the kinds of nodes that cannot be this end of a link. A node whose node_id is unique
    is returned in any case.
    """
    possible = [n for n in numbers if kinds[n] not in never]
    if len(numbers) == 1:
        return numbers[0]
    return possible[0] if len(possible) == 1 else AMBIGUOUS_NODE


def read_link_weights(given: list[Any]) -> np.ndarray:
    """Return the weights of links as float64; raises TypeError or ValueError for values that are
    not finite numbers."""
    if not {type(one) for one in given} <= {int, float}:
        raise TypeError
    weight = np.array(given, np.float64)
    if not np.isfinite(weight).all():
        raise ValueError
    return weight


def read_link_stability(links: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return the stability of each link, NaN if it has none; raises TypeError for values that are
    not numbers."""
    given = [(link.get(SAEFARI_KEY) or {}).get("stability") for link in links]
    return read_link_weights([0.0 if one is None else one for one in given]) + np.array(
        [np.nan if one is None else 0.0 for one in given]
    )
