"""Work that takes longer than a page's run: in a thread, in the queue, with progress and stop."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import streamlit as st

from app import live, session
from app.experiments.keeping import keep
from app.session import Place
from app.steer.run import line
from app.wording import count
from feature_store.errors import InputError
from feature_store.experiments import ExperimentKind
from feature_store.harvest_reader import HarvestFile
from feature_store.permissions import require_costly_work_allowed

if TYPE_CHECKING:
    from backend.engine import LocalEngine

POLL_S = 0.7
Plain = Mapping[str, Any]
Tell = Callable[[int, int, str], None]
"""Hears how much is done, of how much, and what it is."""


def quiet(did: int, total: int, note: str) -> None:
    """For scripts, which nobody watches."""


class TidyingQueue(Protocol):
    """A line of tickets that lets go of those whose visitors have left."""

    def tidy(self) -> None:
        """Stop the work of every ticket whose page has been silent for too long."""


class WorkTicket(Protocol):
    """A place in the line of a piece of work, held from its start to its end."""

    stop: threading.Event
    """Set when a person presses stop, or has left the page."""

    @property
    def place(self) -> int:
        """Number of pieces of work that come first; 0 while this one is served."""
        ...

    @property
    def queue(self) -> TidyingQueue:
        """The line that the ticket belongs to."""
        ...

    def touch(self) -> None:
        """Note that the page is still there."""

    def turn(self) -> bool:
        """Wait for the turn of this work; return False where it was stopped before."""
        ...

    def __enter__(self) -> Any:
        """Hold the place."""

    def __exit__(self, *_: object) -> None:
        """Give the place up."""


class Task:
    """One piece of work. `work(task)` gives a plain result, or None where it was stopped."""

    def __init__(
        self, request: Plain, work: Callable[["Task"], Plain | None], ticket: WorkTicket
    ) -> None:
        self.request, self.ticket = request, ticket
        self.result: Plain | None = None
        self.error = self.kept = self.unkept = self.note = ""
        self.did, self.total = 0, 0
        self.done = threading.Event()
        self._work: Callable[[Task], Plain | None] | None = work
        """None once it is over: it may hold a model, which may be dropped then."""

    def tell(self, did: int, total: int, note: str = "") -> None:
        """How far it is."""
        self.did, self.total, self.note = did, total, note
        self.ticket.queue.tidy()

    def compute(self) -> None:
        """The thread's work."""
        try:
            with self.ticket:
                if not self.ticket.turn():
                    return
                assert self._work is not None, "a task computes once"
                self.result = self._work(self)
        except InputError as error:
            self.error = str(error)
        except Exception as error:  # a thread's end: the page says it
            self.error = live.failure(error)
        finally:
            self._work = None
            self.done.set()

    @property
    def said(self) -> str:
        """How far it is, in words."""
        place = self.ticket.place
        if place > 0:
            return f"{place} before you" if place > 1 else "next in line"
        steps = f"{count(self.did)} of {count(self.total)}" if self.total else "beginning"
        return f"{self.note} {steps}".strip()


@dataclass(frozen=True)
class Wanted:
    """What a tab's buttons asked for: it begins as soon as the model is there."""

    tab: str

    def ask(self, *what: Any) -> None:
        """Callback: begin, with these arguments."""
        st.session_state[f"{self.tab}_wanted"] = what
        st.session_state.pop(f"{self.tab}_problem", None)

    def begin(self, file: HarvestFile, work: Callable[..., None]) -> None:
        """Call `work(engine, *what)` when it is time to, and say why where it cannot be done."""
        state, wanted, problem = st.session_state, f"{self.tab}_wanted", f"{self.tab}_problem"
        if (what := state.get(wanted)) is not None:
            try:
                engine = live.ready(file)
                if engine is not None:
                    work(engine, *what)
                    del state[wanted]
            except InputError as error:
                state[problem] = str(error)
                del state[wanted]
        if said := state.get(problem):
            st.markdown(f":orange[{session.literal(said)}]")


def begin(
    name: str,
    request: Plain,
    work: Callable[[Task], Plain | None],
    ticket: WorkTicket | None = None,
) -> None:
    """Start work under this name in the visitor's session; InputError where the queue is full.

    `ticket`: the model's queue gives one, unless the work has another place than that queue.
    """
    if (before := running(name)) is not None:
        before.ticket.stop.set()
    st.session_state[name] = start(name, request, work, ticket)


def start(
    name: str,
    request: Plain,
    work: Callable[[Task], Plain | None],
    ticket: WorkTicket | None = None,
) -> Task:
    """Start work as `begin` does, without a name in the visitor's session.

    InputError where costly work is not allowed.
    """
    require_costly_work_allowed()
    task = Task(request, work, ticket or line().join())
    threading.Thread(target=task.compute, daemon=True, name=name).start()
    return task


def running(name: str) -> Task | None:
    """The visitor's last piece of work of this name."""
    return st.session_state.get(name)


def watch(name: str) -> Task | None:
    """Progress and a stop button while it runs; the task once it is over."""
    task = running(name)
    if task is None:
        return None
    if not task.done.is_set():
        st.fragment(_watch, run_every=POLL_S)(name)
        return None
    if task.error:
        st.markdown(f":orange[{session.literal(task.error)}]")
    elif task.result is None:
        st.caption("Stopped.")
    return task


def _watch(name: str) -> None:
    task = running(name)
    if task is None or task.done.is_set():
        st.rerun()
    task.ticket.touch()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        part = min(task.did / task.total, 1.0) if task.total else 0.0
        st.progress(part, text=session.literal(task.said), width=420)
        st.button("stop ■", key=f"{name}_stop", type="tertiary", on_click=task.ticket.stop.set)


def keep_it(
    task: Task,
    kind: ExperimentKind,
    place: Place,
    engine: "LocalEngine",
    dictionaries: set[str],
) -> None:
    """Into the catalog, from the page's run once the result is there; a failure is a sentence."""
    if task.kept or task.unkept or task.result is None:
        return
    try:
        task.kept = keep(
            session.store(),
            kind,
            engine,
            harvest=place.file.record.id,
            dictionaries=dictionaries,
            request=task.request,
            result=task.result,
        )
    except InputError as error:
        task.unkept = str(error)


def foot(task: Task, tab: str) -> None:
    """Where the result is kept, or why not."""
    if task.unkept:
        st.caption(session.literal(f"Not kept: {task.unkept}"))
    elif task.kept:
        href = session.href(session.STEER, {"experiment": task.kept, "more": tab})
        st.markdown(f"kept as [{task.kept}]({href})")
