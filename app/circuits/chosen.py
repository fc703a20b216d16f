"""Which nodes are selected, in the graph or by a link beside it; one of them is in the URL."""

from collections.abc import Sequence

import streamlit as st

from app.circuits.opened import Open
from feature_store.circuit_graphs import GROUP_PREFIX

GRAPH, CHOSEN, WAY = "circuits_graph", "circuits_chosen", "circuits_way"
"""Key of the component; of the session: (circuit, ids); (circuit, what, ids) that are marked."""


def ids(found: Open) -> list[str]:
    """The selected nodes and groups."""
    circuit, chosen = st.session_state.get(CHOSEN, ("", []))
    if circuit != found.id:
        chosen = st.query_params.get_all("node")
        st.session_state[CHOSEN] = (found.id, chosen)
    known = found.nodes
    return [
        one
        for one in chosen
        if one in known or one.removeprefix(GROUP_PREFIX) in found.marks.groups
    ]


def choose(circuit: str, chosen: Sequence[str]) -> None:
    """Callback: these, and no others."""
    st.session_state[CHOSEN] = (circuit, list(chosen))
    if len(chosen) == 1:
        st.query_params["node"] = chosen[0]
    else:
        st.query_params.pop("node", None)


def take(circuit: str) -> None:
    """Callback of the graph: what was selected there."""
    given = (st.session_state.get(GRAPH) or {}).get("selected")
    choose(circuit, [one for one in given or [] if isinstance(one, str)])


def mark(circuit: str, what: str, nodes: Sequence[str]) -> None:
    """Callback: show and mark these nodes: a way, or what leads somewhere."""
    st.session_state[WAY] = (circuit, what, list(nodes))


def marked(found: Open) -> tuple[str, list[str]]:
    """What is marked, in words, and its nodes."""
    circuit, what, nodes = st.session_state.get(WAY, ("", "", []))
    return (what, nodes) if circuit == found.id else ("", [])


def unmark() -> None:
    """Callback: nothing is marked."""
    st.session_state.pop(WAY, None)
