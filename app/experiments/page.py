"""One kept run: what it was, what came of it, and everything that can be done with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app import components, session, snippets
from app.experiments import again, sweep
from app.experiments.again import Again
from app.experiments.files import written
from app.experiments.pair import brief, flat, shown
from app.experiments.words import PAGES, TABS, named, some, text, what, whom
from app.steer.story import ending, rail, warnings
from feature_store.errors import InputError
from feature_store.experiments import Experiment, Experiments, ExperimentSummary

AGAIN, WANTED, VERDICT, PROBLEM = (
    "experiments_again",
    "experiments_wanted",
    "experiments_verdict",
    "experiments_problem",
)
POLL_S = 0.5
NOTE_LENGTH = 2_000
FACTS = 60
"""Numbers of a result without texts that are listed."""


def kept() -> Experiments:
    """The runs of this process's store."""
    return Experiments(session.store().catalog)


def draw(found: Experiment, others: list[ExperimentSummary]) -> None:
    """The page under the bar."""
    st.title(session.literal(title(found)), anchor=False)
    st.caption(session.literal(facts(found)))
    problem()
    if found.deleted:
        st.markdown(":yellow[This run is deleted: it is in no list, and can be brought back.]")
    why = again.hindrance(session.store(), found)
    if why:
        st.markdown(f":yellow[{session.literal(why)}]")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        actions(found, others, able=not why)
    note(found)
    second_time(found)
    result(found)
    with st.expander("Request and versions"):
        st.json(
            {
                "request": found.request,
                "versions": found.versions,
                "hashes": {found.model: found.model_hash, **found.dictionaries},
            }
        )


def title(found: Experiment) -> str:
    """What was done, to whom."""
    whose = some(whom(found.request))
    return " · ".join(part for part in (found.kind, what(found.request), whose) if part)


def facts(found: Experiment) -> str:
    """When, on what."""
    parts = [f"{found.created:%Y-%m-%d %H:%M} UTC", found.model, found.harvest, f"run {found.id}"]
    return " · ".join(part for part in parts if part)


def actions(found: Experiment, others: list[ExperimentSummary], *, able: bool) -> None:
    """Open, run again, compare, take away, delete."""
    page, name = PAGES.get(found.kind), found.id
    here = {file.record.id for file in session.store().harvests()}
    if page and found.harvest in here:
        query = {"harvest": found.harvest, "experiment": name}
        if found.kind in TABS:
            query["more"] = TABS[found.kind]
        label = f"Open on the {Path(page).stem.capitalize()} page"
        st.page_link(page, label=label, query_params=query)
    st.button(
        "Run again",
        on_click=want,
        args=(name,),
        disabled=not able,
        help="The same request once more, and whether the same comes out",
    )
    ids = [entry.id for entry in others if entry.id != name]
    names = {entry.id: f"{entry.id}  {named(entry.kind, entry.request)}" for entry in others}
    key = f"experiments_with_{name}"
    st.selectbox(
        "Compare with",
        ids,
        index=None,
        format_func=lambda one: names[one],
        key=key,
        placeholder="compare with…",
        label_visibility="collapsed",
        width=260,
        on_change=compare,
        args=(key,),
    )
    with st.popover("Export", type="tertiary"):
        export(found)
    if session.store().catalog.writable:
        label = "Bring back" if found.deleted else "Delete"
        st.button(label, type="tertiary", on_click=delete, args=(name, found.deleted))


def export(found: Experiment) -> None:
    """The run as a file, and as Python."""
    st.download_button(
        "Download as JSON",
        lambda: written([found]),
        f"saefari-{found.id}.json",
        "application/json",
        type="tertiary",
        on_click="ignore",
    )
    try:
        script = snippets.as_python(found, session.shown_places(), session.shown_store())
    except InputError as error:
        st.caption(session.literal(str(error)))
        return
    st.caption("Copy as Python: the same run without the page")
    st.code(script, language="python", height=320)


def note(found: Experiment) -> None:
    """A note, to be typed over."""
    key = f"experiments_note_{found.id}"
    if st.session_state.get(f"{key}_stored") != found.note:
        st.session_state[key] = st.session_state[f"{key}_stored"] = found.note
    st.text_input(
        "Note",
        key=key,
        placeholder="a note on this run",
        max_chars=NOTE_LENGTH,
        label_visibility="collapsed",
        disabled=not session.store().catalog.writable,
        on_change=annotate,
        args=(found.id, key),
    )


def second_time(found: Experiment) -> None:
    """The run on its way, or what came of it."""
    state = st.session_state
    if state.get(WANTED) == found.id:
        begin(found)
    of, running = state.get(AGAIN, ("", None))
    if of == found.id and running is not None:
        if running.over():
            end(found, running)
        else:
            under_way(running)
    of, told = state.get(VERDICT, ("", None))
    if of == found.id and told:
        same, sentences = told
        word = "Run again: the same." if same else ":yellow[Run again: not the same.]"
        st.markdown(f"{word} {session.literal(' · '.join(sentences))}")


def begin(found: Experiment) -> None:
    """Start it as soon as the model is there."""
    from app import live

    file = again.harvest_of(session.store(), found)
    assert file is not None, "the button is off without a harvest"
    try:
        engine = live.ready(file)
        if engine is None:
            return
        st.session_state.pop(VERDICT, None)
        st.session_state[AGAIN] = (found.id, again.begin(found, engine, file))
    except InputError as error:
        st.markdown(f":red[{session.literal(str(error))}]")
    st.session_state.pop(WANTED, None)


def end(found: Experiment, running: Again) -> None:
    """What came of it stays on the page."""
    st.session_state.pop(AGAIN)
    try:
        st.session_state[VERDICT] = (found.id, running.verdict())
    except InputError as error:
        st.markdown(f":red[{session.literal(str(error))}]")


@st.fragment(run_every=POLL_S)
def under_way(running: Again) -> None:
    """How far it is; the page comes back when it is over."""
    if running.over():
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.caption(session.literal(f"Running again: {running.said()}"), width="content")
        st.button("Stop", on_click=running.stop, type="tertiary")


def result(found: Experiment) -> None:
    """What was kept: texts with their guard rails, or numbers."""
    rows = found.result.get("rows")
    if found.kind == "steer" and rows:
        texts = [spoken(found.result, name) for name in rows]
        components.texts(key=f"texts_{found.id}", data={"texts": texts, "hint": ""})
        return
    if prompt := text(found.request):
        st.text(prompt)
    if found.kind == "sweep":
        components.rows(key=f"sweep_{found.id}", data=sweep.table(found.result))
        st.caption(sweep.HINTS)
        return
    numbers = {path: v for path, v in flat(brief(found.result)).items() if not path[-1:].isdigit()}
    single = sorted(numbers, key=lambda path: any(map(str.isdigit, path.split("."))))
    cells = [[path, shown(numbers[path])] for path in single[:FACTS]]
    components.rows(key=f"numbers_{found.id}", data=plain_rows(("result", ""), cells))
    if len(numbers) > FACTS:
        st.caption(f"and {len(numbers) - FACTS} more: open the run, or download it.")


def spoken(
    result: Mapping[str, Any], name: str, changed: frozenset[int] = frozenset(), heading: str = ""
) -> dict[str, Any]:
    """A text as the component draws it; `changed` of its tokens are underlined."""
    row, prompt = result["rows"][name], result["prompt"]
    pairs = zip(prompt["pieces"], prompt["counted"], strict=True)
    end = row["end"] or {"notes": []}
    return {
        "title": heading or name,
        "note": "",
        "prompt": "".join(piece for piece, counted in pairs if counted),
        "pieces": [[piece, i in changed] for i, piece in enumerate(row["pieces"])],
        "rail": " · ".join(
            filter(None, [rail(row), ending(row) if row["end"] else "not finished"])
        ),
        "warnings": warnings({"end": end}),
    }


def plain_rows(names: Sequence[str], cells: Sequence[Sequence[str]]) -> dict[str, Any]:
    """A table without links."""
    return {
        "ruled": True,
        "columns": [{"name": name, "kind": "", "hint": ""} for name in names],
        "rows": [{"href": "", "target": None, "cells": row, "notes": []} for row in cells],
    }


def want(name: str) -> None:
    """Callback: run it again."""
    st.session_state[WANTED] = name
    _, running = st.session_state.pop(AGAIN, ("", None))
    if running is not None:
        running.stop()


def compare(key: str) -> None:
    """Callback: another run beside this one."""
    if st.session_state[key]:
        st.query_params["with"] = st.session_state[key]


def annotate(name: str, key: str) -> None:
    """Callback: write the note."""
    attempt(kept().annotate, name, st.session_state[key].strip())


def delete(name: str, back: bool) -> None:
    """Callback: out of the list, or back into it."""
    attempt(kept().delete, name, restore=back)


def attempt(work: Any, *given: Any, **more: Any) -> Any:
    """Callback's part: one change of the catalog; None, and a sentence, where it fails."""
    try:
        return work(*given, **more)
    except InputError as error:
        st.session_state[PROBLEM] = str(error)
        return None


def problem() -> None:
    """Say what could not be done, once."""
    if sentence := st.session_state.pop(PROBLEM, None):
        st.markdown(f":red[{session.literal(sentence)}]")
