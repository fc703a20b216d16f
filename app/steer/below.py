"""What can be done with a kept run: its link, a note, taking it away as JSON or as Python."""

import streamlit as st

from app import session, snippets, steering
from app.experiments.files import written
from app.session import Place
from app.steer import kept, link
from app.steer.link import Opened
from app.steer.run import SteeringRun
from feature_store.errors import InputError
from feature_store.experiments import Experiment

NOTE_LENGTH = 2_000
PROBLEM = "steer_note_problem"


def draw(place: Place) -> None:
    """A line under the columns."""
    one = link.shown()
    if isinstance(one, SteeringRun) and one.done.is_set() and one.kept:
        one = read(one.kept, one)
    if isinstance(one, SteeringRun):
        if one.unkept:
            st.caption(session.literal(f"Not kept: {one.unkept}"))
        return
    if one is None:
        return
    if one.setting != steering.setting():
        st.caption("The setting has changed since this run: run again to see its texts.")
    if other := kept.other_weights(one.experiment, place.file):
        st.markdown(f":orange[{session.literal(other)}]")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        controls(one.experiment)
    if said := st.session_state.pop(PROBLEM, None):
        st.markdown(f":orange[{session.literal(said)}]")


def read(name: str, run: SteeringRun) -> Opened | SteeringRun:
    """The kept run, from the catalog; the run itself while the catalog cannot be read."""
    try:
        return Opened(kept.experiments().open(name), run.setting)
    except InputError:
        return run


def controls(experiment: Experiment) -> None:
    """Link, note, files, deletion."""
    name = experiment.id
    href = session.href(session.STEER, {"experiment": name})
    st.markdown(f"kept as [{name}]({href})", width="content")
    writable = session.store().catalog.writable
    key = f"steer_note_{name}"
    st.session_state.setdefault(key, experiment.note)
    st.text_input(
        "Note",
        key=key,
        placeholder="a note",
        max_chars=NOTE_LENGTH,
        width=280,
        label_visibility="collapsed",
        disabled=not writable,
        on_change=note,
        args=(name, key),
    )
    with st.popover("copy as Python"):
        if experiment.kind in snippets.SCRIPTS:
            script = snippets.as_python(experiment, session.shown_places(), session.shown_store())
            st.code(script, language="python", height=320)
        else:
            st.caption("A run of this kind has no script: its JSON has it all.")
    st.download_button(
        "JSON",
        lambda: written([experiment]),
        f"saefari-{name}.json",
        type="tertiary",
        on_click="ignore",
        key=f"steer_json_{name}",
    )
    if writable:
        label = "bring back" if experiment.deleted else "delete"
        st.button(
            label,
            key=f"steer_delete_{name}",
            type="tertiary",
            on_click=delete,
            args=(name, experiment.deleted),
            help="Takes the run out of the list, or back into it.",
        )


def note(name: str, key: str) -> None:
    """Callback: write the note."""
    attempt(kept.experiments().annotate, name, st.session_state[key])


def delete(name: str, back: bool) -> None:
    """Callback: out of the list, or back."""
    attempt(kept.experiments().delete, name, restore=back)


def attempt(work, *given, **more) -> None:
    """One change of the catalog; a sentence on the page where it fails."""
    try:
        work(*given, **more)
    except InputError as error:
        st.session_state[PROBLEM] = str(error)
        return
    one = link.shown()
    if isinstance(one, Opened):
        st.session_state[link.SHOWN] = Opened(kept.experiments().open(given[0]), one.setting)
