"""The Notes panel: a person's label, note and star of a feature, their history, and the lists that
hold the feature."""

import streamlit as st

from app import annotations, collecting, session
from app.components import rows
from app.panels.panel_context import PanelContext
from app.wording import count
from feature_store.catalog import AnnotationKind
from feature_store.records import Annotation

TITLE = "Notes"
MAX_CHANGES = 20
"""Number of changes that the history lists, newest first."""
KINDS: tuple[AnnotationKind, ...] = ("label", "note", "star")
READ_PROBLEM = "Labels and notes cannot be read at the moment."


def draw(panel: PanelContext) -> None:
    """Draw the fields for label, note and star, the history and the lists. Fields save when they
    lose focus; a change that could not be saved stays, with its reason."""
    if panel.catalog.problem:
        st.markdown(f":yellow[{session.literal(f'{READ_PROBLEM} {panel.catalog.problem}')}]")
    if panel.catalog.writable:
        draw_note_fields(panel)
    else:
        draw_read_only_notes(panel)
    draw_note_history(panel)
    collecting.membership(panel)


def draw_note_fields(panel: PanelContext) -> None:
    """Draw the fields, filled with the saved values or with what is waiting to be saved."""
    said = panel.catalog.annotations.values_of_feature(panel.id)
    waiting = annotations.unsaved(panel.id)
    for kind in KINDS:
        value = waiting[kind][0] if kind in waiting else said.get(kind, "")
        set_field_value(note_field_key(panel, kind), value == "1" if kind == "star" else value)
    st.text_input(
        "Label",
        key=note_field_key(panel, "label"),
        placeholder="what the feature fires on, in a few words",
        on_change=save_note,
        args=(panel, "label"),
    )
    st.text_area(
        "Note",
        key=note_field_key(panel, "note"),
        placeholder="saved when you leave the field",
        height=88,
        on_change=save_note,
        args=(panel, "note"),
    )
    st.checkbox(
        "Starred", key=note_field_key(panel, "star"), on_change=save_note, args=(panel, "star")
    )
    if waiting:
        why = next(iter(waiting.values()))[1]
        sentence = f"Not saved: {', '.join(waiting)}. {why}"
        st.markdown(f":red[{session.literal(sentence)}]")
        st.button("Save again", key="notes_again", on_click=retry_saving, args=(panel,))


def draw_read_only_notes(panel: PanelContext) -> None:
    """Draw label, note and star as text where the catalog is read-only."""
    said = panel.catalog.annotations.values_of_feature(panel.id)
    st.caption("The store's catalog is read-only here: labels and notes cannot be changed.")
    for kind in ("label", "note"):
        if kind in said:
            st.text(said[kind])
    if "star" in said:
        st.text("★ starred")


def draw_note_history(panel: PanelContext) -> None:
    """Draw the changes of label, note and star, newest first, and the Undo button."""
    past = panel.catalog.annotations.history(panel.id)
    if not past:
        return
    last, former = past[-1], previous_value(past)
    if panel.catalog.writable:
        st.button(
            "Undo",
            key="notes_undo",
            type="tertiary",
            on_click=annotations.say,
            args=(panel.id, last.kind, former),
            help=describe_undo(last.kind, former),
        )
    with st.expander(f"History ({count(len(past))})"):
        data = {
            "ruled": False,
            "columns": [
                {"name": "when (UTC)", "kind": "", "hint": ""},
                {"name": "what", "kind": "", "hint": ""},
                {"name": "value", "kind": "", "hint": ""},
            ],
            "rows": [make_history_row(one) for one in reversed(past[-MAX_CHANGES:])],
        }
        rows(key="notes_history", data=data)
        if len(past) > MAX_CHANGES:
            st.caption(f"the newest {MAX_CHANGES} of {count(len(past))} changes")


def make_history_row(one: Annotation) -> dict[str, object]:
    """Return one change as a row of the history."""
    said = "–" if not one.value else "★" if one.kind == "star" else one.value
    cells = [f"{one.created:%Y-%m-%d %H:%M}", one.kind, said]
    return {"href": "", "target": None, "cells": cells, "notes": []}


def previous_value(past: list[Annotation]) -> str:
    """Return the value that the last change replaced."""
    same = [one.value for one in past[:-1] if one.kind == past[-1].kind]
    return same[-1] if same else ""


def describe_undo(kind: str, former: str) -> str:
    """Return the tooltip of the Undo button: what it would restore."""
    if kind == "star":
        return "Star the feature again." if former else "Remove the star."
    if not former:
        return f"Remove the {kind}."
    return session.literal(f"Set the {kind} to “{former[:80]}” again.")


def save_note(panel: PanelContext, kind: AnnotationKind) -> None:
    """Callback: save a field's value to the catalog."""
    value = st.session_state[note_field_key(panel, kind)]
    annotations.say(panel.id, kind, ("1" if value else "") if kind == "star" else value)


def retry_saving(panel: PanelContext) -> None:
    """Callback of Save again: try to save every unsaved change."""
    for kind, (value, _) in dict(annotations.unsaved(panel.id)).items():
        annotations.say(panel.id, kind, value)


def note_field_key(panel: PanelContext, kind: AnnotationKind) -> str:
    """Return the session key of a field. Each feature has keys of its own, so that no text ends up
    at another feature."""
    return f"notes_{kind}_{panel.id}"


def set_field_value(key: str, value: object) -> None:
    """Set a field to a new value. Setting an unchanged value would discard what is being typed."""
    if st.session_state.get(key) != value:
        st.session_state[key] = value
