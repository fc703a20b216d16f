"""The links of a graph file, gathered batch by batch in bounded memory: the heaviest are kept."""

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
"""At most; a picture holds far fewer."""
DENSE_NODES = 8_000
"""Nodes up to which all links are summed into a matrix, for influence: 256 MB at the most."""
EXACT_NODES = 2_000
"""Nodes up to which that matrix is of float64; above it is of float32."""
NEVER_TARGETS, NEVER_SOURCES = ("token", "error"), ("logit",)
"""Kinds of nodes that nothing leads to, and that lead nowhere."""
AMBIGUOUS_NODE = -1


class GraphLinks(NamedTuple):
    """Links as columns: numbers of nodes, weights, and stability (NaN where a link has none)."""

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    stability: np.ndarray

    def take(self, which: np.ndarray) -> "GraphLinks":
        """Return the links of a mask or of an order."""
        return GraphLinks(*(column[which] for column in self))

    @classmethod
    def join(cls, parts: Sequence["GraphLinks"]) -> "GraphLinks":
        """Return all links of several parts."""
        if not parts:
            return cls(*(np.zeros(0, kind) for kind in (np.int64, np.int64, float, float)))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))


class LinkGatherer:
    """Takes the links of a file, sums them up, and keeps the heaviest."""

    def __init__(
        self,
        nodes: Sequence[CircuitNode],
        numbers: Mapping[str, Sequence[int]],
        kept: int = LINKS_KEPT,
    ) -> None:
        """`numbers`: node_id -> the nodes that have it, as numbers into `nodes`; mostly one."""
        n = len(nodes)
        self.effects: np.ndarray | None = None
        """[n n], rows targets and columns sources, of all links; None above DENSE_NODES."""
        if n <= DENSE_NODES:
            self.effects = np.zeros((n, n), np.float64 if n <= EXACT_NODES else np.float32)
        self.strength = np.zeros(n)
        """Of each node, the sum of the |weights| of its links."""
        self.seen = 0
        """Links of the file."""
        self.ambiguous: list[float] = []
        """The weights of links of which an end cannot be told."""
        self._most, self._parts, self._held = kept, [], 0
        kinds = [node.kind for node in nodes]
        self._sources = {
            key: choose_link_end(some, kinds, NEVER_SOURCES) for key, some in numbers.items()
        }
        self._targets = {
            key: choose_link_end(some, kinds, NEVER_TARGETS) for key, some in numbers.items()
        }

    def add(self, links: Sequence[Any]) -> None:
        """Take links. Raises InputError that names the first that is malformed."""
        try:
            source = np.array([self._sources[link["source"]] for link in links], np.int32)
            target = np.array([self._targets[link["target"]] for link in links], np.int32)
            weight = read_link_weights([link["weight"] for link in links])
            own = any(SAEFARI_KEY in link for link in links)
            stability = read_link_stability(links) if own else np.full(len(links), np.nan)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            for i, row in enumerate(links, self.seen):
                self._check(row, f"Link {i}")
            raise
        self.seen += len(links)
        told = (source != AMBIGUOUS_NODE) & (target != AMBIGUOUS_NODE)
        self.ambiguous += weight[~told].tolist()
        self._keep(GraphLinks(source, target, weight, stability).take(told))

    def heaviest(self) -> GraphLinks:
        """Return what is kept, heaviest first; links of one weight by their numbers of nodes."""
        found = GraphLinks.join(self._parts)
        order = np.lexsort((found.target, found.source, -np.abs(found.weight)))
        return found.take(order[: self._most])

    def _keep(self, links: GraphLinks) -> None:
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

    def _check(self, row: object, where: str) -> None:
        """Raise InputError for a malformed link."""
        link = check_json_object(row, where)
        for side in ("source", "target"):
            end = get_required_value(link, side, where)
            if not isinstance(end, str) or end not in self._sources:
                raise InputError(f"{where} names the node {end!r}, which is not in the file.")
        check_finite_number(get_required_value(link, "weight", where), f"{where}: weight")
        own = check_json_object(link.get(SAEFARI_KEY) or {}, f"{where}: {SAEFARI_KEY}")
        check_finite_or_null(own.get("stability"), f"{where}: stability")


def choose_link_end(numbers: Sequence[int], kinds: Sequence[str], never: Sequence[str]) -> int:
    """Return the node that an end of a link means; UNKNOWN where several of its id could be it.

    `never`: kinds of nodes that are no such end. A node that has its id for itself is it anyway.
    """
    possible = [n for n in numbers if kinds[n] not in never]
    if len(numbers) == 1:
        return numbers[0]
    return possible[0] if len(possible) == 1 else AMBIGUOUS_NODE


def read_link_weights(given: list[Any]) -> np.ndarray:
    """Return weights as float64; TypeError or ValueError for what is no finite number."""
    if not {type(one) for one in given} <= {int, float}:
        raise TypeError
    weight = np.array(given, np.float64)
    if not np.isfinite(weight).all():
        raise ValueError
    return weight


def read_link_stability(links: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return each link's stability, NaN where it has none; TypeError for what is no number."""
    given = [(link.get(SAEFARI_KEY) or {}).get("stability") for link in links]
    return read_link_weights([0.0 if one is None else one for one in given]) + np.array(
        [np.nan if one is None else 0.0 for one in given]
    )
