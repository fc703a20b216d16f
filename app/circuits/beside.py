"""Beside the graph: what is selected. A feature's panels are those of its own page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import streamlit as st

from app import annotations, components, session
from app.circuits import chosen, marking, picture
from app.circuits.layout import slot
from app.circuits.opened import Open
from app.panels import activations, contexts, logits
from app.panels.panel_context import PanelContext
from app.session import Place
from app.wording import plural, share, signed
from feature_store.circuit_graphs import GROUP_PREFIX, NEVER_ABLATED, CircuitSubgraph, GraphNode
from feature_store.errors import InputError
from feature_store.records import FeatureId

NEIGHBOURS = 8
HOLDS = (
    "Stability over prompts: the share of bootstrap draws of the prompts in which the edge has the "
    "same sign and is no weaker than the weakest edge of the graph."
)
MEASURED = (
    "The target's change when this node alone is ablated, measured on the same prompts. "
    "Effects are estimates."
)
PANELS = (contexts, activations, logits)
"""Of the feature page, in this order; others are one click away, on the page itself."""


def draw(place: Place, found: Open, part: CircuitSubgraph, names: dict[str, str]) -> None:
    """One node, several, a group, or nothing yet."""
    ids = chosen.ids(found)
    if not ids:
        strongest(found, part, names)
    elif len(ids) > 1:
        several(place, found, ids, names)
    elif ids[0].startswith(GROUP_PREFIX):
        group(found, ids[0].removeprefix(GROUP_PREFIX), names)
    else:
        one(place, found, found.nodes[ids[0]], names)


def strongest(found: Open, part: CircuitSubgraph, names: dict[str, str]) -> None:
    """In place of a selection: the strongest nodes, as a table of links."""
    st.subheader("Strongest nodes", anchor=False)
    nodes = part.ablatable_nodes[:16]
    value = "score" if found.circuit.method == "head-codes" else "effect"
    rows = [(n.id, line(found, n, names), n.effect) for n in nodes]
    table("circuits_strongest", found, ("node", value), rows, measured_column(nodes))
    st.caption("Click a node, here or in the graph; shift-drag selects several.")


def one(place: Place, found: Open, node: GraphNode, names: dict[str, str]) -> None:
    """A node: what it is, what can be done with it, its neighbours, its feature."""
    name = names.get(node.id, "")
    title = session.literal(picture.named(node)) + (f" “{session.literal(name)}”" if name else "")
    st.markdown(f"**{title}**")
    st.caption(session.literal(" · ".join(told(found, node))))
    marking.one(place, found, node)
    here = other(place, node)
    if here is not None and node.feature is not None:
        links(here, node.feature)
    neighbours(found, node, names)
    if here is not None and node.feature is not None:
        feature(here, FeatureId(node.dictionary, node.feature))


def told(found: Open, node: GraphNode) -> list[str]:
    """Effect, value, place."""
    effect = "" if node.effect is None else f"effect {signed(node.effect, 3)}"
    where = "" if node.position is None else f"at “{slot(found.slots, node.position)}”"
    everywhere = "all positions" if node.position is None and node.kind != "logit" else where
    exact = "" if node.exact is None else f"measured by ablation {signed(node.exact, 3)}"
    return [text for text in (effect, exact, picture.worth(node), everywhere) if text]


def other(place: Place, node: GraphNode) -> Place | None:
    """Where a feature's own page is; None for what is no feature of this harvest."""
    if node.kind != "feature" or node.dictionary not in place.file.dictionaries:
        return None
    return replace(place, info=place.file.dictionary(node.dictionary))


def links(here: Place, index: int) -> None:
    """The feature's page, steer, ablate."""
    with st.container(horizontal=True, gap="medium"):
        for page, label in (
            (session.FEATURE, "feature page"),
            (session.STEER, "steer"),
            (session.ABLATE, "ablate"),
        ):
            st.page_link(page, label=label, query_params=here.at(index))


def feature(here: Place, id: FeatureId) -> None:
    """Panels of the feature page."""
    try:
        here.file.check_feature(id)
    except InputError as error:
        st.caption(session.literal(str(error)))
        return
    subject = PanelContext.read(here, id, annotations.read())
    if not subject.facts.n_active:
        st.caption("This feature never fired in the harvest.")
        return
    for panel in PANELS:
        with st.container(gap="xxsmall", key=f"circuits_panel_{panel.TITLE}"):
            st.subheader(panel.TITLE, anchor=False)
            panel.draw(subject)


def neighbours(found: Open, node: GraphNode, names: dict[str, str]) -> None:
    """Its strongest edges, in and out."""
    ways: tuple[tuple[str, Literal["up", "down"]], ...] = (("from", "up"), ("to", "down"))
    held = found.graph.stability
    for title, way in ways:
        near = found.graph.neighbours(node.id, way, NEIGHBOURS)
        if near:
            rows = [(id, line(found, found.nodes[id], names), weight) for id, weight in near]
            ends = [(id, node.id) if way == "up" else (node.id, id) for id, _ in near]
            table(
                f"circuits_{way}",
                found,
                (title, "weight"),
                rows,
                holds_column([held.get(both) for both in ends]) if held else None,
            )


def several(place: Place, found: Open, ids: Sequence[str], names: dict[str, str]) -> None:
    """What can be done with several nodes."""
    nodes = [found.nodes[id] for id in ids if id in found.nodes]
    st.markdown(f"**{plural(len(nodes), 'node')}**")
    marking.several(place, found, [n.id for n in nodes])
    table(
        "circuits_several",
        found,
        ("node", "effect"),
        [(n.id, line(found, n, names), n.effect) for n in nodes[:24]],
        measured_column(nodes[:24]),
    )


def group(found: Open, name: str, names: dict[str, str]) -> None:
    """A group's nodes, and a way to undo it."""
    nodes = [found.nodes[id] for id in found.marks.groups[name] if id in found.nodes]
    st.markdown(f"**{session.literal(name)}** · {plural(len(nodes), 'node')}")
    marking.group(found, name)
    table(
        "circuits_members",
        found,
        ("node", "effect"),
        [(n.id, line(found, n, names), n.effect) for n in nodes],
        measured_column(nodes),
    )
    st.caption("Its edges are the sums of its nodes' edges. Effects are not summed.")


def line(found: Open, node: GraphNode, names: dict[str, str]) -> tuple[str, str]:
    """A node in a table: what it is and where, and its name."""
    if node.kind in NEVER_ABLATED or node.position is None:
        return picture.named(node), names.get(node.id, "")
    where = slot(found.slots, node.position).strip()
    return f"{picture.named(node)} @{where}", names.get(node.id, "")


@dataclass(frozen=True)
class NodeTableColumn:
    """A further column of a table of nodes."""

    name: str
    hint: str
    cells: list[str]


def measured_column(nodes: Sequence[GraphNode]) -> NodeTableColumn | None:
    """What exact ablation of each node measured; None where nothing was measured of any."""
    if all(node.exact is None for node in nodes):
        return None
    cells = ["" if node.exact is None else signed(node.exact, 3) for node in nodes]
    return NodeTableColumn("measured", MEASURED, cells)


def holds_column(shares: Sequence[float | None]) -> NodeTableColumn:
    """The stability of edges over prompts."""
    return NodeTableColumn("holds", HOLDS, ["" if one is None else share(one) for one in shares])


def table(
    key: str,
    found: Open,
    heads: tuple[str, str],
    rows: Sequence[tuple[str, tuple[str, str], float | None]],
    more: NodeTableColumn | None = None,
) -> None:
    """Draw a table of nodes with a number and, where there is one, another column; a click on a row
    selects its node."""
    base = st.query_params.to_dict()
    data = {
        "ruled": False,
        "columns": [
            {"name": name, "kind": kind, "hint": ""}
            for name, kind in ((heads[0], ""), ("", "name"), (heads[1], "number"))
        ]
        + ([{"name": more.name, "kind": "number", "hint": more.hint}] if more else []),
        "rows": [
            {
                "href": session.href(session.CIRCUITS, {**base, "node": id}),
                "target": id,
                "cells": [
                    *words,
                    "" if value is None else signed(value, 3),
                    *([more.cells[i]] if more else []),
                ],
                "notes": [],
            }
            for i, (id, words, value) in enumerate(rows)
        ],
    }

    def go() -> None:
        target = (st.session_state.get(key) or {}).get("go")
        if target:
            chosen.choose(found.id, [target])

    components.rows(key=key, data=data, on_go_change=go)
