"""A person's own words: label, note, star, and what was said before."""

import streamlit as st

from app import annotations, collecting, session
from app.components import rows
from app.panels.panel_context import PanelContext
from app.wording import count
from feature_store.catalog import AnnotationKind
from feature_store.records import Annotation

TITLE = "Notes"
MAX_CHANGES = 20
"""Changes listed, the newest."""
KINDS: tuple[AnnotationKind, ...] = ("label", "note", "star")
READ_PROBLEM = "Labels and notes cannot be read just now."


def draw(subject: PanelContext) -> None:
    """Everything saves itself when it is left; what could not be saved stays and says why."""
    if subject.said.problem:
        st.markdown(f":yellow[{session.literal(f'{READ_PROBLEM} {subject.said.problem}')}]")
    if subject.said.writable:
        draw_note_fields(subject)
    else:
        draw_read_only_notes(subject)
    draw_note_history(subject)
    collecting.membership(subject)


def draw_note_fields(subject: PanelContext) -> None:
    """The fields. Their values are those in force, or what is waiting to be saved."""
    said = subject.said.annotations.values_of_feature(subject.id)
    waiting = annotations.unsaved(subject.id)
    for kind in KINDS:
        value = waiting[kind][0] if kind in waiting else said.get(kind, "")
        set_field_value(note_field_key(subject, kind), value == "1" if kind == "star" else value)
    st.text_input(
        "Label",
        key=note_field_key(subject, "label"),
        placeholder="what it fires on, in a few words",
        on_change=save_note,
        args=(subject, "label"),
    )
    st.text_area(
        "Note",
        key=note_field_key(subject, "note"),
        placeholder="saved when you leave the field",
        height=88,
        on_change=save_note,
        args=(subject, "note"),
    )
    st.checkbox(
        "Starred", key=note_field_key(subject, "star"), on_change=save_note, args=(subject, "star")
    )
    if waiting:
        why = next(iter(waiting.values()))[1]
        sentence = f"Not saved: {', '.join(waiting)}. {why}"
        st.markdown(f":red[{session.literal(sentence)}]")
        st.button("Save again", key="notes_again", on_click=retry_saving, args=(subject,))


def draw_read_only_notes(subject: PanelContext) -> None:
    """The same without fields."""
    said = subject.said.annotations.values_of_feature(subject.id)
    st.caption("This store's catalog cannot be written from here: labels and notes are read-only.")
    for kind in ("label", "note"):
        if kind in said:
            st.text(said[kind])
    if "star" in said:
        st.text("★ starred")


def draw_note_history(subject: PanelContext) -> None:
    """What was said when, newest first; the last change can be undone."""
    past = subject.said.annotations.history(subject.id)
    if not past:
        return
    last, former = past[-1], previous_value(past)
    if subject.said.writable:
        st.button(
            "Undo",
            key="notes_undo",
            type="tertiary",
            on_click=annotations.say,
            args=(subject.id, last.kind, former),
            help=describe_undo(last.kind, former),
        )
    with st.expander(f"History ({count(len(past))})"):
        data = {
            "ruled": False,
            "columns": [
                {"name": "when (UTC)", "kind": "", "hint": ""},
                {"name": "what", "kind": "", "hint": ""},
                {"name": "said", "kind": "", "hint": ""},
            ],
            "rows": [make_history_row(one) for one in reversed(past[-MAX_CHANGES:])],
        }
        rows(key="notes_history", data=data)
        if len(past) > MAX_CHANGES:
            st.caption(f"the newest {MAX_CHANGES} of {count(len(past))} changes")


def make_history_row(one: Annotation) -> dict[str, object]:
    """One change as a row."""
    said = "–" if not one.value else "★" if one.kind == "star" else one.value
    cells = [f"{one.created:%Y-%m-%d %H:%M}", one.kind, said]
    return {"href": "", "target": None, "cells": cells, "notes": []}


def previous_value(past: list[Annotation]) -> str:
    """What was in force of the last change's kind before it."""
    same = [one.value for one in past[:-1] if one.kind == past[-1].kind]
    return same[-1] if same else ""


def describe_undo(kind: str, former: str) -> str:
    """What Undo will do."""
    if kind == "star":
        return "Star it again." if former else "Take the star back."
    if not former:
        return f"Take the {kind} back."
    return session.literal(f"Set the {kind} to “{former[:80]}” again.")


def save_note(subject: PanelContext, kind: AnnotationKind) -> None:
    """Callback: a field's value goes into the catalog."""
    value = st.session_state[note_field_key(subject, kind)]
    annotations.say(subject.id, kind, ("1" if value else "") if kind == "star" else value)


def retry_saving(subject: PanelContext) -> None:
    """Callback: another try at everything that waits."""
    for kind, (value, _) in dict(annotations.unsaved(subject.id)).items():
        annotations.say(subject.id, kind, value)


def note_field_key(subject: PanelContext, kind: AnnotationKind) -> str:
    """The key of a field: each feature has its own, so no text ends up at another one."""
    return f"notes_{kind}_{subject.id}"


def set_field_value(key: str, value: object) -> None:
    """Set a field, but only to something new: setting it anew would undo what is being typed."""
    if st.session_state.get(key) != value:
        st.session_state[key] = value
