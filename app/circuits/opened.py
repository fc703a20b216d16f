"""The circuit that the URL names, with its graph and what is marked in it."""

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from app import session
from app.session import Place
from backend.circuits.records import Circuit
from feature_store.circuit_graphs import CircuitGraph, GraphNode
from feature_store.errors import InputError
from feature_store.experiments import Experiment
from feature_store.saved_circuits import CircuitMarks, MarkKind, SavedCircuit, SavedCircuits

MARKS, PROBLEM = "circuits_marks", "circuits_problem"
"""Of the session: (id, Marks); why the last thing could not be done."""


@dataclass(frozen=True)
class Open:
    """A circuit on the page."""

    experiment: Experiment
    circuit: Circuit
    """Without nodes and edges: the graph has them."""
    graph: CircuitGraph
    marks: CircuitMarks

    @property
    def id(self) -> str:
        """As its link has it."""
        return self.experiment.id

    @property
    def slots(self) -> tuple[str, ...]:
        """What positions are called."""
        prompts = self.circuit.prompts
        return self.circuit.slots or (prompts[0].tokens if len(prompts) == 1 else ())

    @property
    def nodes(self) -> dict[str, GraphNode]:
        """All nodes by id."""
        return _nodes(self.graph, self.experiment.result["graph"])


def named(place: Place) -> Open | None:
    """The circuit that the URL names; None without one. InputError for an unknown one."""
    name = st.query_params.get("experiment")
    if not name:
        return None
    kept = _kept(name, str(session.store().path))
    there = [file.record.id for file in session.store().harvests()]
    if kept.experiment.harvest != place.file.record.id and kept.experiment.harvest in there:
        st.query_params["harvest"] = kept.experiment.harvest
        st.query_params.pop("dictionary", None)
        st.rerun()
    if st.session_state.get(MARKS, ("",))[0] != name:
        st.session_state[MARKS] = (name, SavedCircuits(session.store().catalog).read_marks(name))
    record = {**kept.experiment.result["circuit"], "nodes": [], "edges": []}
    graph = _graph(kept.graph, str(session.store().path))
    return Open(kept.experiment, Circuit.from_json(record), graph, st.session_state[MARKS][1])


@st.cache_resource(show_spinner=False, max_entries=16)
def _kept(name: str, _store: str) -> SavedCircuit:
    return SavedCircuits(session.store().catalog).open(name)


@st.cache_resource(show_spinner=False, max_entries=8)
def _graph(name: str, _store: str) -> CircuitGraph:
    return SavedCircuits(session.store().catalog).read_graph(name)


@st.cache_resource(show_spinner=False, max_entries=8)
def _nodes(_graph: CircuitGraph, name: str) -> dict[str, GraphNode]:
    return {one.id: one for one in _graph.list_nodes()}


def mark(experiment: str, kind: MarkKind, value: Any) -> None:
    """Callback: mark nodes in the catalog and on the page; where that fails, say why."""
    try:
        SavedCircuits(session.store().catalog).write_mark(experiment, kind, value)
    except InputError as error:
        st.session_state[PROBLEM] = str(error)
        return
    name, marks = st.session_state.get(MARKS, ("", CircuitMarks()))
    if name == experiment:
        held = {k: tuple(v) for k, v in value.items()} if kind == "groups" else tuple(value)
        st.session_state[MARKS] = (name, replace(marks, **{kind: held}))


def problem() -> None:
    """Say what could not be done, once."""
    if sentence := st.session_state.pop(PROBLEM, None):
        st.markdown(f":red[{session.literal(sentence)}]")
