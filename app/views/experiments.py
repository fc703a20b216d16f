"""Runs that were kept: all of them, the one that the URL names, or two beside each other."""

from typing import get_args

import streamlit as st

from app import components, frame, session
from app.experiments import compare, page
from app.experiments.files import read, take_in, written
from app.experiments.page import attempt, kept, problem
from app.experiments.words import about, matching, named, quoted, some, what, whom
from app.session import Place
from app.wording import count, plural
from feature_store.errors import InputError
from feature_store.experiments import ExperimentKind, ExperimentSummary

KIND, WORDS, TABLE, FILE, TOLD = (
    "experiments_kind",
    "experiments_words",
    "experiments_table",
    "experiments_file",
    "experiments_told",
)
COLUMNS = [
    ("run", "code", "open it"),
    ("kind", "", ""),
    ("what", "", "mode and strength, or what stood in the parts' place"),
    ("features", "", "and other parts"),
    ("prompt", "", ""),
    ("note", "", ""),
    ("when (UTC)", "", ""),
]
MOST = 2_000
"""Runs listed, the newest; a filter looks in these."""
SHOWN = 200


def index(here: Place | None) -> None:
    """All runs, newest first, with a filter."""
    # a link from a run to this same page leaves its id in the browser's URL: say again what holds
    st.query_params.from_dict(st.query_params.to_dict())
    runs = kept().list_summaries(MOST)
    if not runs:
        st.write("No run is kept yet. Steer or ablate something, or use the command line:")
        st.code("saefari steer --help", language=None)
    else:
        found = filtered(runs)
        table(found[:SHOWN], here)
        if len(found) > SHOWN:
            st.caption(f"and {plural(len(found) - SHOWN, 'older run')}: filter to see them")
    deleted()
    with st.expander("Export and import"):
        files(runs)


def filtered(runs: list[ExperimentSummary]) -> list[ExperimentSummary]:
    """By kind and words; both live in the URL."""
    kinds = [kind for kind in get_args(ExperimentKind) if any(run.kind == kind for run in runs)]
    st.session_state.setdefault(KIND, st.query_params.get("kind"))
    st.session_state.setdefault(WORDS, st.query_params.get("q", ""))
    if st.session_state[KIND] not in kinds:
        st.session_state[KIND] = None
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.text_input(
            "Filter",
            key=WORDS,
            placeholder="filter: feature, mode, prompt, note",
            width=320,
            label_visibility="collapsed",
            on_change=put,
        )
        st.pills("Kind", kinds, key=KIND, label_visibility="collapsed", on_change=put)
        found = matching(runs, st.session_state[KIND] or "", st.session_state[WORDS])
        st.caption(f"{count(len(found))} of {plural(len(runs), 'run')}", width="content")
    return found


def put() -> None:
    """Callback: the filter into the URL."""
    for name, key in (("kind", KIND), ("q", WORDS)):
        if value := st.session_state[key]:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)


def table(runs: list[ExperimentSummary], here: Place | None) -> None:
    """The runs; a click opens one."""
    query = here.query if here else {}
    data = {
        "ruled": True,
        "columns": [{"name": name, "kind": kind, "hint": hint} for name, kind, hint in COLUMNS],
        "rows": [row(run, query) for run in runs],
    }
    clicked = components.rows(key=TABLE, data=data, on_go_change=components.ignore)
    if clicked.go:
        st.switch_page(session.EXPERIMENTS, query_params={**query, "experiment": clicked.go})


def row(run: ExperimentSummary, query: dict[str, str]) -> dict[str, object]:
    """One run's line."""
    request = run.request
    cells = [
        run.id,
        run.kind,
        what(request),
        some(whom(request)),
        about(request),
        quoted(run.note),
        f"{run.created:%Y-%m-%d %H:%M}",
    ]
    href = session.href(session.EXPERIMENTS, {**query, "experiment": run.id})
    return {"href": href, "target": run.id, "cells": cells, "notes": []}


def deleted() -> None:
    """What was deleted, with the way back."""
    gone = kept().list_summaries(SHOWN, deleted=True)
    if not gone:
        return
    with st.expander(f"Deleted ({count(len(gone))})"):
        for run in gone:
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                st.text(f"{run.id}  {named(run.kind, run.request)}", width="stretch")
                if session.store().catalog.writable:
                    st.button(
                        "Bring back",
                        key=f"back_{run.id}",
                        type="tertiary",
                        on_click=page.delete,
                        args=(run.id, True),
                    )


def files(runs: list[ExperimentSummary]) -> None:
    """All runs as a file, and a file of runs taken in."""
    st.download_button(
        f"Download all as JSON ({count(len(runs))})",
        lambda: written([kept().open(run.id) for run in runs]),
        "saefari-experiments.json",
        "application/json",
        type="tertiary",
        on_click="ignore",
        disabled=not runs,
    )
    if not session.store().catalog.writable:
        st.caption("This store's catalog cannot be written from here: runs are read-only.")
        return
    with st.form("experiments_form", border=False, clear_on_submit=True):
        st.file_uploader("Runs of Saefari (.json)", type=["json"], key=FILE)
        st.form_submit_button("Import", on_click=take)
    if told := st.session_state.pop(TOLD, None):
        st.write(session.literal(told))


def take() -> None:
    """Callback: all of the file, or nothing and the reason."""
    file = st.session_state[FILE]
    if file is None:
        st.session_state[page.PROBLEM] = "Choose a file to import."
        return
    found = attempt(read, file.getvalue(), file.name)
    taken = found and attempt(take_in, kept(), found)
    if taken:
        told = f"{plural(taken.new, 'new run')} taken in"
        more = f", {count(taken.same)} were here already" if taken.same else ""
        st.session_state[TOLD] = f"{told}{more}."


def located() -> Place | None:
    """The dictionary in the URL; runs are there without a harvest too."""
    try:
        return session.place()
    except InputError:
        return None


place = located()
frame.sidebar(place)
if place is not None:
    frame.bar(place)
name, other = st.query_params.get("experiment"), st.query_params.get("with")
if name and other:
    compare.draw(kept().open(name), kept().open(other))
elif name:
    page.draw(kept().open(name), kept().list_summaries(MOST))
else:
    st.title("Experiments", anchor=False)
    problem()
    index(place)
