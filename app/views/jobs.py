"""Long work: what runs, how far it is, and what became of the rest."""

import streamlit as st

from app import annotations, components, frame, session
from app.costly import draw_refusal
from app.jobs import KINDS, watching
from app.scores import asked, telling
from app.scores import starting as form
from app.wording import count, measure, plural
from feature_store.errors import InputError
from feature_store.jobs import Job
from feature_store.permissions import is_costly_work_allowed
from feature_store.strict_json import dump_json

WIDTHS, GAP = [1.6, 1.9, 0.9, 3.1, 1.5, 2.7], "medium"
HEADS = ("kind", "what", "state", "progress", "started", "")
SHOWN = 100
"""Jobs listed, newest first."""
POLL_S = 2.0
RESULTS = {
    "map": session.MAP,
    "explain": session.SCORES,
    "score": session.SCORES,
    "circuit": session.CIRCUITS,
    "clusters": session.BEHAVIOURS,
    "ablate": session.ABLATE,
}
"""Kind → the page that shows what came of it."""


def draw() -> None:
    """The list; while any is alive it is read again every other second."""
    found = watching.jobs().list_jobs()
    for problem in watching.jobs().problems():
        st.caption(session.literal(problem))
    if not found:
        watching.problem()
        st.write("No job yet. Pages start them: the Map page, for instance.")
        return
    if not any(job.is_active for job in found) and st.session_state.pop("jobs_live", False):
        st.rerun()  # the whole page, so that this is not read again any more
    st.session_state["jobs_live"] = any(job.is_active for job in found)
    watching.problem()
    for column, text in zip(st.columns(WIDTHS, gap=GAP), HEADS, strict=True):
        column.caption(text)
    for job in found[:SHOWN]:
        with st.container(key=f"job_{job.id}"):
            line(job)
            if telling.known(job) and not job.error:
                for sentence in telling.reasons(job):
                    st.caption(f":yellow[{session.literal(sentence)}]")
    if len(found) > SHOWN:
        st.caption(f"and {plural(len(found) - SHOWN, 'older job')}")


def line(job: Job) -> None:
    """One job."""
    kind, what, state, progress, started, buttons = st.columns(
        WIDTHS, gap=GAP, vertical_alignment="center"
    )
    kind.caption(KINDS[job.kind].title if job.kind in KINDS else session.literal(job.kind))
    what.text(job.description)
    word = session.literal(watching.state(job))
    state.markdown(f":yellow[{word}]" if job.state in ("failed", "lost") else word)
    with progress:
        if job.is_active and job.note:
            share = min(job.done / job.total, 1.0) if job.total else 0.0
            st.progress(share, text=session.literal(watching.step(job)))
            if telling.known(job) and (told := telling.line(job)):
                st.caption(session.literal(told))
        else:
            st.caption(session.literal(ending(job)))
    started.caption(f"{job.created:%Y-%m-%d %H:%M} UTC")
    with buttons.container(
        horizontal=True, gap="small", horizontal_alignment="right", vertical_alignment="center"
    ):
        if found := result(job):
            st.page_link(found[0], label="open", query_params=found[1], width="content")
        for name in watching.offers(job) if is_costly_work_allowed() else []:
            st.button(
                name,
                key=f"{name}_{job.id}",
                type="tertiary",
                on_click=watching.ask,
                args=[name, job.id],
            )
        if (
            is_costly_work_allowed()
            and telling.known(job)
            and job.state == "done"
            and asked.failed_of(job)
        ):
            st.button(
                "retry failed",
                key=f"retry_{job.id}",
                type="tertiary",
                on_click=form.retry,
                args=[job.id],
                help="A job for what got no usable answer, and nothing else.",
            )
        st.button("log", key=f"log_{job.id}", type="tertiary", on_click=choose, args=[job.id])


def result(job: Job) -> tuple[str, dict[str, str]] | None:
    """The page, and its query, that shows what a job that is done has left."""
    if job.state != "done" or job.kind not in RESULTS:
        return None
    given = {**job.arguments, **job.result}
    names = ("harvest", "dictionary", "experiment")
    query = {name: given[name] for name in names if isinstance(given.get(name), str)}
    return RESULTS[job.kind], query


def ending(job: Job) -> str:
    """How it ended: the sentence of a failure, the numbers of a result, or where it stopped."""
    if job.error:
        return job.error
    if job.state == "done" and telling.known(job):
        return telling.ending(job)
    if job.state == "done":
        plain = {n: v for n, v in job.result.items() if isinstance(v, str | int | float)}
        return " · ".join(f"{name} {shown(value)}" for name, value in plain.items())
    if job.state == "stopped":
        return stopped(job)
    if job.state == "lost":
        where = f" at: {watching.step(job)}" if job.note else ""
        return f"its process is gone, stopped{where}. Resume begins it again."
    return job.note


def stopped(job: Job) -> str:
    """Where it was stopped, by Ctrl-C or after a trial, and how it goes on."""
    told = telling.line(job) if telling.known(job) else ""
    where = f"stopped at: {watching.step(job)}" if job.note else "stopped"
    return " · ".join(filter(None, [where, told, "Resume goes on from there."]))


def shown(value: object) -> str:
    """A value of a result."""
    if isinstance(value, int):
        return count(value)
    return measure(value) if isinstance(value, float) else str(value)


def choose(job_id: str) -> None:
    """Callback: show a job's log; a second click puts it away."""
    if st.query_params.get("job") == job_id:
        st.query_params.pop("job")
    else:
        st.query_params["job"] = job_id


def details(job_id: str) -> None:
    """What a job was asked, and the end of its log."""
    try:
        job = watching.jobs().get(job_id)
    except InputError as error:
        st.caption(session.literal(str(error)))
        return
    if rows := telling.latest(job):
        st.subheader("Explanations that came last", anchor=False)
        heads = [{"name": name, "kind": "", "hint": ""} for name in ("feature", "explanation")]
        lines = [{"href": "", "target": None, "cells": list(row), "notes": []} for row in rows]
        components.rows(key="job_latest", data={"ruled": False, "columns": heads, "rows": lines})
    st.subheader(f"Log of {session.literal(job.id)}", anchor=False)
    st.code(session.without_paths(dump_json(job.arguments)), language=None, wrap_lines=True)
    st.code(
        session.without_paths(job.read_log()) or "Nothing yet.",
        language=None,
        wrap_lines=True,
        height=280,
    )


def whole() -> None:
    """The list and the log that the URL asks for."""
    draw()
    if job_id := st.query_params.get("job"):
        details(job_id)


try:
    here = session.place()
except InputError:  # jobs are there without a harvest
    here = None
frame.sidebar(here)
st.title("Jobs", anchor=False)
if not is_costly_work_allowed():
    draw_refusal()
if here is not None:
    form.form(here, annotations.read().annotations)
alive = bool(watching.jobs().list_active())
st.fragment(whole, run_every=POLL_S if alive else None)()
