"""The SHIFT page's work: each piece in a thread and the model's queue, the answer kept."""

from typing import Any

import streamlit as st

from app import session
from app.experiments import keeping
from app.session import Place
from app.shift import marking
from app.steer_more import task
from backend.engine_protocol import Engine
from backend.probing.shift_request import ShiftRequest
from feature_store.errors import InputError
from feature_store.experiments import Experiments

RANK, JUDGE = "shift_rank", "shift_judge"
"""Of the session: the pieces of work."""
OPENED = "shift_opened"
"""Of the session: the kept run that the URL names."""


class Stopped(Exception):
    """A person pressed stop, or left."""


def rank(engine: Engine, asked: ShiftRequest) -> None:
    """Begin to learn the probe and rank features; InputError where the queue is full."""

    def work(mine: task.Task) -> task.Plain | None:
        from backend.probing import probe_ranking

        return stoppable(
            mine, lambda tick: probe_ranking.rank_probe_features(_local(engine), asked, tick)
        )

    task.begin(RANK, asked.to_json(), work)
    st.session_state.pop(JUDGE, None)
    st.session_state.pop(OPENED, None)
    marking.forget()


def judge(engine: Engine, asked: ShiftRequest, ranking: task.Plain) -> None:
    """Begin to take the marked features away; the ranking is kept with the answer."""

    def work(mine: task.Task) -> task.Plain | None:
        from backend.probing import shift_evaluation

        found = stoppable(
            mine, lambda tick: shift_evaluation.evaluate_shift(_local(engine), asked, tick)
        )
        return None if found is None else {"ranking": dict(ranking), "judged": dict(found)}

    task.begin(JUDGE, asked.to_json(), work)
    st.session_state.pop(OPENED, None)


def stoppable(mine: task.Task, work: Any) -> task.Plain | None:
    """What `work(tick)` gives; None where it was stopped."""

    def tick(done: int, total: int, note: str) -> None:
        mine.tell(done, total, note)
        if mine.ticket.stop.is_set():
            raise Stopped

    try:
        return work(tick)
    except Stopped:
        return None


def _local(engine: Engine) -> Any:
    return engine


def keep(place: Place, engine: Engine, done: task.Task) -> None:
    """Put an answer into the catalog, once; where that fails a sentence says why."""
    if done.kept or done.unkept or done.result is None:
        return
    asked = ShiftRequest.from_json(done.request)
    names = {*asked.dictionaries, *(one.dictionary for one in asked.features)}
    try:
        done.kept = keeping.keep(
            session.store(),
            "shift",
            engine,
            harvest=place.file.record.id,
            dictionaries=names,
            request=done.request,
            result=done.result,
        )
    except InputError as error:
        done.unkept = str(error)


def opened() -> tuple[ShiftRequest, task.Plain] | None:
    """The kept run that the URL names; InputError for one that is not of this page."""
    name = st.query_params.get("experiment")
    if not name:
        return None
    held = st.session_state.get(OPENED)
    if held is None or held[0] != name:
        found = Experiments(session.store().catalog).open(name)
        if found.kind != "shift":
            raise InputError(f"The experiment {name} is no run of SHIFT but one of {found.kind}.")
        held = (name, ShiftRequest.from_json(found.request), found.result)
        st.session_state[OPENED] = held
        marking.begin([str(one) for one in held[1].features])
    return held[1], held[2]
