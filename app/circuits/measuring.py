"""Measured while one looks: faithfulness of what is shown, nodes and edges by intervention.

Work is done by one thread behind all visitors, a pass of the model at a time; what was asked is
kept, so that it is asked once. The page looks in until it is there.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import streamlit as st

from app import live
from app.circuits.opened import Open
from app.circuits.taking import circuit_of
from app.model_cache import forget_frames
from app.session import Place
from backend.circuits.subcircuit_figures import SubcircuitFigures
from feature_store.circuit_graphs import CircuitSubgraph
from feature_store.errors import InputError
from feature_store.permissions import require_costly_work_allowed

POLL_S = 1.0
PROMPTLY_S = 0.4
"""What is there so soon does not flicker."""
REFUSED = "circuits_refused"
"""Of the session: (circuit, why its model could not be loaded)."""
CHECKS = "circuits_checks"
"""Of the session: (circuit, [what was checked])."""
Check = tuple[str, tuple[str, ...]]
"""nodes or edges, and which: ids, or source and target by turns; none for the strongest."""


@st.cache_resource(show_spinner=False)
def _worker() -> ThreadPoolExecutor:
    live.models().let_go.append(_ready.cache_clear)
    return ThreadPoolExecutor(1, thread_name_prefix="circuits")


@st.cache_resource(show_spinner=False, max_entries=400)
def _future(
    circuit: str, what: str, ids: tuple[str, ...], _engine: Any, _work: Callable[[], Any]
) -> "Future[Any]":
    future = _worker().submit(_work)
    future.add_done_callback(lambda one: forget_frames(one.exception()))
    return future


@lru_cache(maxsize=2)
def _ready(circuit: str, engine: Any, whole: Any) -> Any:
    """In the worker's thread: what is read of a circuit's prompts is read once."""
    from backend.circuits.circuit_session import CircuitSession

    return CircuitSession(engine, whole.get())


class Whole:
    """A circuit by its id, so that it is put together where it is needed and told apart quickly."""

    def __init__(self, found: Open) -> None:
        self.found = found

    def __hash__(self) -> int:
        return hash(self.found.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Whole) and other.found.id == self.found.id

    def get(self) -> Any:
        """With all its nodes and edges."""
        return circuit_of(self.found, None)


def why_not(place: Place, found: Open, what: str = "view") -> str:
    """Why something cannot be measured of a circuit here (view, nodes or edges); empty where it
    can."""
    circuit = found.circuit
    if "imported" in circuit.facts:
        return "an imported graph does not say how to run it again"
    if circuit.method == "head-codes":
        return "codes are no effects; what a head does is measured on the Ablate page"
    if what == "edges":
        if circuit.method == "weights":
            return "edges of weights carry what paths bring, which no single intervention measures"
    elif "slot_of" not in circuit.facts:
        if found.experiment.request.get("start"):
            return "only what explains a next token is run again"
        return (
            "this circuit was found by a version that could not run circuits again: find it again"
        )
    missing = [name for name in circuit.dictionaries if name not in place.file.dictionaries]
    return f"this harvest lacks {', '.join(missing)}" if missing else ""


def engine_of(place: Place, found: Open) -> Any:
    """The engine when it is loaded; None while it is on its way. InputError where it cannot be had.

    Why it could not be had is told once by the loader, which would then load anew: it is kept here
    for this circuit until something else is to be measured.
    """
    refused = st.session_state.get(REFUSED, ("", ""))
    if refused[0] == found.id:
        raise InputError(refused[1])
    try:
        return live.ask(place.file)
    except InputError as error:
        st.session_state[REFUSED] = (found.id, str(error))
        raise


def view(place: Place, found: Open, part: CircuitSubgraph) -> SubcircuitFigures | str | None:
    """Faithfulness of what is shown; a sentence where it cannot be had; None while it is on its
    way."""
    if problem := why_not(place, found):
        return problem
    try:
        engine = engine_of(place, found)
        if engine is None:
            return None
        ids = tuple(sorted(node.id for node in part.ablatable_nodes))
        return result(found, "view", ids, engine)
    except InputError as error:
        return str(error)


def check(place: Place, found: Open, asked: Check) -> dict[str, Any] | str | None:
    """What a check found; a sentence where it cannot be made; None while it is on its way."""
    if problem := why_not(place, found, asked[0]):
        return f"This cannot be checked: {problem}."
    try:
        require_costly_work_allowed()
        engine = engine_of(place, found)
        return None if engine is None else result(found, *asked, engine)
    except InputError as error:
        return str(error)


def result(found: Open, what: str, ids: tuple[str, ...], engine: Any) -> Any:
    """From the worker; None while it is on its way. InputError for what cannot be measured."""
    whole = Whole(found)

    def work() -> Any:
        ready = _ready(found.id, engine, whole)
        if what == "view":
            return ready.measure(ids)
        if what == "nodes":
            return ready.check_nodes(ids)
        return ready.check_edges(list(zip(ids[::2], ids[1::2], strict=True)))

    future = _future(found.id, what, ids, engine, work)
    try:
        return future.result(timeout=PROMPTLY_S)
    except TimeoutError:
        return None


def checks(found: Open) -> list[Check]:
    """What this visitor asked to check in this circuit, newest first."""
    circuit, asked = st.session_state.get(CHECKS, ("", []))
    return asked if circuit == found.id else []


def ask(found: Open, what: str, ids: Sequence[str] = ()) -> None:
    """Callback: check this."""
    one = (what, tuple(ids))
    st.session_state.pop(REFUSED, None)
    st.session_state[CHECKS] = (found.id, [one, *(c for c in checks(found) if c != one)])


def drop(found: Open, one: Check) -> None:
    """Callback: show this check no more."""
    st.session_state[CHECKS] = (found.id, [c for c in checks(found) if c != one])


@st.fragment(run_every=POLL_S)
def wait(place: Place, found: Open, part: CircuitSubgraph, drawn: int) -> None:
    """Run the page again when less is on its way than the page was drawn with."""
    waiting = [
        view(place, found, part) is None,
        *(check(place, found, one) is None for one in checks(found)),
    ]
    if sum(waiting) < drawn:
        st.rerun()
