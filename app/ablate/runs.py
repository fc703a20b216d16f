"""Runs of the Ablate page: each in a thread of its own, kept as an experiment when it ends."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import live, session
from app.experiments import keeping
from app.model_cache import forget_frames
from backend.ablation.model_parts import ModelPart
from backend.engine_protocol import Engine
from feature_store.errors import InputError
from feature_store.experiments import ExperimentKind
from feature_store.harvest_reader import HarvestFile
from feature_store.permissions import require_costly_work_allowed

HELD = "ablate_held"
"""Of the session: tab → what is shown or under way there."""
AWAY_S = 8.0
"""A page that has not asked for so long is gone, and so is its run."""
Work = Callable[[Callable[[int, int], None]], dict[str, Any]]
"""Does the work, tells how far it is, gives the answer."""


class RunCancelled(Exception):
    """The person who asked no longer waits."""


@dataclass(frozen=True)
class RunAnswer:
    """An answer, and the id that it is kept under; `problem` says why it is not."""

    request: Mapping[str, Any]
    result: Mapping[str, Any]
    experiment: str = ""
    problem: str = ""


class BackgroundRun:
    """Something under way. Written by its own thread, read by the page."""

    def __init__(
        self, harvest: str, request: Mapping[str, Any], work: Work, keep: Any, *, costly: bool
    ) -> None:
        if costly:
            require_costly_work_allowed()
        self.harvest, self.request = harvest, request
        self.left = False
        """Whether it ended because its page was left."""
        self.done, self.total = 0, 0
        """Passes of the model."""
        self._given: tuple[Work, Any] | None = (work, keep)
        """None once it is over: both may hold a model, which may be dropped then."""
        self._answer: RunAnswer | None = None
        self._error: Exception | None = None
        self._stop, self._over = threading.Event(), threading.Event()
        self._asked_for = time.monotonic()
        threading.Thread(target=self._go, daemon=True, name="ablate").start()

    def wait(self, seconds: float) -> bool:
        """Whether it is over, after so long at most. To be asked now and then: who is not asked
        for is let go."""
        self._asked_for = time.monotonic() + seconds
        return self._over.wait(seconds)

    def cancel(self) -> None:
        """End it at the next pass."""
        self._stop.set()

    def answer(self) -> RunAnswer | None:
        """Of a run that is over; None if it was cancelled. InputError for what cannot be run."""
        if isinstance(self._error, RunCancelled):
            return None
        if isinstance(self._error, InputError):
            raise self._error
        if self._error is not None:
            raise InputError(live.failure(self._error)) from self._error
        return self._answer

    def _go(self) -> None:
        try:
            assert self._given is not None, "a run computes once"
            work, keep = self._given
            self._answer = keep(self.request, work(self._tick))
        except Exception as error:  # a thread's end: the page raises it again
            forget_frames(error)
            self._error = error
        finally:
            self._given = None
            self._over.set()

    def _tick(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self.left = time.monotonic() - self._asked_for > AWAY_S
        if self.left or self._stop.is_set():
            raise RunCancelled


def keeper(file: HarvestFile, engine: Engine, kind: ExperimentKind) -> Callable[..., RunAnswer]:
    """A function that keeps an answer of this harvest, for the run's own thread."""
    store = session.store()

    def keep(request: Mapping[str, Any], result: dict[str, Any]) -> RunAnswer:
        names = request.get("dictionaries") or used(request)
        try:
            name = keeping.keep(
                store,
                kind,
                engine,
                harvest=file.record.id,
                dictionaries=names,
                request=request,
                result=result,
            )
        except InputError as error:
            return RunAnswer(request, result, problem=str(error))
        return RunAnswer(request, result, name)

    return keep


def used(request: Mapping[str, Any]) -> list[str]:
    """Dictionaries that an ablation's parts belong to."""
    parts = [ModelPart.parse(text) for text in request["parts"]]
    return sorted({part.dictionary for part in parts if part.dictionary})


def held(tab: str) -> BackgroundRun | RunAnswer | str | None:
    """What a tab shows; a sentence says why it could not be run."""
    return st.session_state.setdefault(HELD, {}).get(tab)


def hold(tab: str, what: BackgroundRun | RunAnswer | str) -> None:
    """Show this in a tab, in place of what is at work there."""
    before = held(tab)
    if isinstance(before, BackgroundRun):
        before.cancel()
    st.session_state[HELD][tab] = what
