"""Pins and supernodes of an imported graph file, converted to node ids of the circuit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backend.circuits.records import CircuitNode
from feature_store.errors import InputError
from feature_store.storable_text import make_storable

MALFORMED_MARKS = (
    "The qParams of this file are malformed: pinnedIds must be a list of node_ids, "
    "and supernodes a list of lists of a name and node_ids."
)


@dataclass(frozen=True)
class PinsAndSupernodes:
    """Pinned nodes and supernodes (named groups of nodes) that people marked in a graph file before
    its import."""

    pins: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of the supernode -> ids of its nodes; a node is in at most one group."""
    notes: list[str] = field(default_factory=list)
    """Notes on pins and supernodes of the graph file that could not be imported."""

    def restrict_to(self, nodes: Iterable[CircuitNode]) -> "PinsAndSupernodes":
        """Return the graph file's pins and supernodes restricted to the given nodes."""
        ids = {node.id for node in nodes}
        groups = {name: tuple(filter(ids.__contains__, of)) for name, of in self.groups.items()}
        return PinsAndSupernodes(
            tuple(filter(ids.__contains__, self.pins)),
            {name: of for name, of in groups.items() if of},
            self.notes,
        )


def read_pins_and_supernodes(
    asked: object, nodes: Sequence[CircuitNode], numbers: Mapping[str, Sequence[int]]
) -> PinsAndSupernodes:
    """Read pins and supernodes from the qParams of a graph file; raises InputError for malformed
    lists.

    `numbers` maps each node_id to the indices of the nodes that have it. If there are several, a
    mark refers to the feature, which is what people can click. Marks of nodes that are missing
    because the file was pruned are skipped and counted in a note.
    """
    if asked is None:
        return PinsAndSupernodes()
    if not isinstance(asked, Mapping):
        raise InputError(MALFORMED_MARKS)
    pinned, supernodes = asked.get("pinnedIds") or [], asked.get("supernodes") or []
    if not is_list_of(pinned, str) or not is_list_of(supernodes, list):
        raise InputError(MALFORMED_MARKS)
    if not all(one and is_list_of(one, str) for one in supernodes):
        raise InputError(MALFORMED_MARKS)

    def ids_of(keys: Sequence[str]) -> list[str]:
        known = [numbers[key] for key in keys if key in numbers]
        best = [min(some, key=lambda n: nodes[n].kind != "feature") for some in known]
        return list(dict.fromkeys(nodes[n].id for n in best))

    named = [key for one in (pinned, *(one[1:] for one in supernodes)) for key in one]
    groups: dict[str, tuple[str, ...]] = {}
    grouped: set[str] = set()
    twice = 0
    for first, *keys in supernodes:
        name, number = make_storable(first).strip() or "group", 1
        while f"{name} ({number})" in groups or (number == 1 and name in groups):
            number += 1
        ids = ids_of(keys)
        fresh = tuple(id for id in ids if id not in grouped)
        twice += len(ids) - len(fresh)
        grouped |= set(fresh)
        groups[name if number == 1 else f"{name} ({number})"] = fresh
    missing = sum(key not in numbers for key in named)
    notes = [
        f"{missing} pins or supernode members refer to nodes that the file does not contain."
    ] * bool(missing)
    if twice:
        notes.append(
            f"{twice} nodes are in several supernodes; each was kept in its first supernode."
        )
    return PinsAndSupernodes(tuple(ids_of(pinned)), groups, notes)


def is_list_of(given: object, kind: type) -> bool:
    """Return whether a value of a graph file, such as its pins, is a list whose items all have one
    type."""
    return isinstance(given, list) and all(isinstance(one, kind) for one in given)
