"""The circuits that are kept, newest first; each opens by its link."""

import streamlit as st

from app import components, session
from app.session import Place
from app.wording import count
from feature_store.experiments import Experiments, ExperimentSummary

SHOWN, KEY = 50, "circuits_shelf"
COLUMNS = [("circuit", ""), ("method", ""), ("of", ""), ("note", ""), ("when, UTC", "")]
LONGEST = 70


def draw(place: Place, waited_for: bool = False) -> None:
    """The table; where there is none and none is waited for, the next step."""
    runs = [
        run
        for run in Experiments(session.store().catalog).list_summaries()
        if run.kind == "circuit"
    ]
    if not runs and waited_for:
        return
    if not runs:
        st.caption(
            "No circuit yet. Type a prompt above and run, or in a shell: "
            "`saefari circuit --model MODEL --dictionary DICTIONARY --prompt TEXT --target TOKEN "
            "--store STORE`"
        )
        return
    st.subheader("Kept circuits", anchor=False)
    data = {
        "ruled": True,
        "columns": [{"name": name, "kind": kind, "hint": ""} for name, kind in COLUMNS],
        "rows": [row(run, place) for run in runs[:SHOWN]],
    }
    clicked = components.rows(key=KEY, data=data, on_go_change=components.ignore)
    if len(runs) > SHOWN:
        st.caption(f"and {count(len(runs) - SHOWN)} older ones, on the Experiments page")
    if clicked.go:
        st.query_params["experiment"] = clicked.go
        st.rerun()


def row(run: ExperimentSummary, place: Place) -> dict[str, object]:
    """One circuit's line."""
    href = session.href(session.CIRCUITS, {**place.query, "experiment": run.id})
    cells = [
        run.id,
        str(run.request.get("method", "imported")),
        of(run),
        run.note,
        f"{run.created:%Y-%m-%d %H:%M}",
    ]
    return {"href": href, "target": run.id, "cells": cells, "notes": []}


def of(run: ExperimentSummary) -> str:
    """The task, or the first prompt's end."""
    request = run.request
    if task := request.get("task"):
        return f"{task.replace('_', ' ')}, {request.get('n_prompts')} prompts"
    cases = request.get("cases") or [{}]
    text = " ".join(str(cases[0].get("prompt", request.get("file", ""))).split())
    return text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"
