"""Pin, hide, group; what leads to a node, a way between two: buttons beside the graph."""

from collections.abc import Sequence

import streamlit as st

from app import session
from app.circuits import chosen, measuring
from app.circuits.opened import PROBLEM, Open, mark
from app.circuits.picture import named
from app.session import Place
from feature_store.circuit_graphs import GROUP_PREFIX, GraphNode

NAMED = "circuits_group_name"
LONGEST = 40
"""Characters of a group's name."""


def one(place: Place, found: Open, node: GraphNode) -> None:
    """Of one node."""
    writable = session.store().catalog.writable
    pins, id = found.marks.pins, node.id
    with st.container(horizontal=True, gap="small"):
        if writable:
            label = "unpin" if id in pins else "pin"
            button(label, toggle, found.id, "pins", pins, [id])
            if node.kind != "error":
                button("hide", hide, found, [id])
        title = named(node)
        button(
            "upstream",
            chosen.mark,
            found.id,
            f"upstream of {title}",
            found.graph.connected_nodes(id, "up"),
        )
        button(
            "downstream",
            chosen.mark,
            found.id,
            f"downstream of {title}",
            found.graph.connected_nodes(id, "down"),
        )
        read = node.dictionary in found.circuit.dictionaries and node.kind in ("feature", "error")
        if read and not measuring.why_not(place, found, "nodes"):
            button("check node", measuring.ask, found, "nodes", [id])


def several(place: Place, found: Open, ids: Sequence[str]) -> None:
    """Of several nodes."""
    ids = list(ids)
    with st.container(horizontal=True, gap="small"):
        if len(ids) == 2 and (edge := joined(place, found, ids)):
            button("check edge", measuring.ask, found, "edges", edge)
        if len(ids) == 2:
            button("path between them", path, found, ids[0], ids[1])
        if session.store().catalog.writable:
            button("pin", toggle, found.id, "pins", found.marks.pins, ids)
            button("hide", hide, found, [i for i in ids if found.nodes[i].kind != "error"])
    if session.store().catalog.writable:
        with (
            st.form("circuits_group", border=False),  # so that Enter groups
            st.container(horizontal=True, gap="small", vertical_alignment="bottom"),
        ):
            st.text_input(
                "Group them as", key=NAMED, max_chars=LONGEST, width=200, placeholder="a name"
            )
            st.form_submit_button("Group", on_click=grouped, args=(found,))


def joined(place: Place, found: Open, ids: Sequence[str]) -> list[str]:
    """Source and target of the edge between two nodes, if there is one that can be checked."""
    if measuring.why_not(place, found, "edges"):
        return []
    places = {found.graph.node_number(id): id for id in ids}
    return next(
        ([places[a], places[b]] for a, b, _ in found.graph.list_edges() if {a, b} == places.keys()),
        [],
    )


def group(found: Open, name: str) -> None:
    """Of a group."""
    if session.store().catalog.writable:
        rest = {k: v for k, v in found.marks.groups.items() if k != name}
        st.button("Ungroup", type="tertiary", on_click=ungroup, args=(found, name, rest))


def line(found: Open) -> None:
    """What is marked, pinned and hidden, each with its way back."""
    what, ids = chosen.marked(found)
    marks = found.marks
    if not (what or marks.pins or marks.hidden):
        return
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        if what:
            n = f" ({len(ids)} nodes)" if ids else ""
            st.button(
                f"{session.literal(what)}{n} ×",
                key="circuits_unmark",
                type="tertiary",
                on_click=chosen.unmark,
            )
        writable = session.store().catalog.writable
        for kind, members, verb in (
            ("pins", marks.pins, "pinned"),
            ("hidden", marks.hidden, "hidden"),
        ):
            if members and writable:
                st.button(
                    f"{len(members)} {verb} ×",
                    key=f"circuits_no_{kind}",
                    type="tertiary",
                    on_click=mark,
                    args=(found.id, kind, []),
                )
            elif members:
                st.caption(f"{len(members)} {verb}", width="content")


def button(label: str, act: object, *given: object) -> None:
    """A small one."""
    key = f"circuits_{label.replace(' ', '_')}"
    st.button(label, key=key, type="tertiary", on_click=act, args=given)  # type: ignore[arg-type]  # a callback


def toggle(circuit: str, kind: str, there: Sequence[str], ids: Sequence[str]) -> None:
    """Callback: out if all are in, else in."""
    if set(ids) <= set(there):
        mark(circuit, kind, [i for i in there if i not in ids])  # type: ignore[arg-type]  # a Mark
    else:
        mark(circuit, kind, list(dict.fromkeys([*there, *ids])))  # type: ignore[arg-type]


def hide(found: Open, ids: Sequence[str]) -> None:
    """Callback: not shown, until it is taken back; error terms always are."""
    mark(found.id, "hidden", list(dict.fromkeys([*found.marks.hidden, *ids])))
    chosen.choose(found.id, [])


def path(found: Open, a: str, b: str) -> None:
    """Callback: mark the strongest way between two nodes."""
    ids = found.graph.strongest_path(a, b)
    ends = f"{named(found.nodes[a])} and {named(found.nodes[b])}"
    chosen.mark(found.id, f"path between {ends}" if ids else f"no path between {ends}", ids)


def grouped(found: Open) -> None:
    """Callback: one node of the graph out of those selected by now; a node is in one group at
    most."""
    ids = [one for one in chosen.ids(found) if one in found.nodes]
    name = " ".join(st.session_state.get(NAMED, "").split())
    if not name:
        st.session_state[PROBLEM] = "Type a name for the group."
        return
    others = {k: [i for i in v if i not in ids] for k, v in found.marks.groups.items()}
    members = [*others.pop(name, []), *ids]
    mark(found.id, "groups", {**{k: v for k, v in others.items() if v}, name: members})
    chosen.choose(found.id, [GROUP_PREFIX + name])


def ungroup(found: Open, name: str, rest: dict) -> None:
    """Callback: its nodes stand alone again."""
    members = list(found.marks.groups[name])
    mark(found.id, "groups", {k: list(v) for k, v in rest.items()})
    chosen.choose(found.id, members)
