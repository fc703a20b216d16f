"""One list: what it is called and for, its features in order, and every change to be undone."""

import re
from typing import Any

import streamlit as st

from app import components, keeping, session
from app.annotations import Said
from app.lists import sheet
from app.lists.history import Change, changes
from app.session import Place
from app.wording import count, measure, plural, share
from feature_store import feature_list_edits
from feature_store.errors import InputError
from feature_store.exchange.saefari_files import FORMATS, collect_rows, encode_rows
from feature_store.feature_lists import FeatureList, ListEntry
from feature_store.records import FeatureId

ENTRIES, WAITING = "list_entries", "list_waiting"
SHOWN = 200
"""Entries drawn at first, and added by `Show more`."""
STEERED = 8
"""Features that a list's link to the Steer page takes along."""
PAST = 30
"""Changes listed, the newest."""
BY = {"up": -1, "down": 1}


def draw(found: FeatureList, here: Place | None, said: Said) -> None:
    """The whole page under the bar."""
    past = changes(said.annotations.lists.history(found.id))
    head(found, said, past)
    if found.deleted:
        st.markdown(":yellow[This list is deleted. Undo brings it back.]")
    if said.writable and not found.deleted:
        st.text_input(
            "Add features",
            key="list_add",
            label_visibility="collapsed",
            width=420,
            placeholder="add features: DICTIONARY/INDEX, several with commas",
            on_change=add,
            args=(found.id, here),
        )
    if not found.entries:
        st.write(
            "No feature is in this list yet. Type one above, or choose it on a feature's page."
        )
    else:
        entries(found, here, said)
    with st.expander(f"History ({count(len(past))})"):
        rows = [[f"{one.when:%Y-%m-%d %H:%M}", one.words] for one in reversed(past[-PAST:])]
        components.rows(
            key="list_history",
            data=table([("when (UTC)", ""), ("what", "")], rows),
        )


def head(found: FeatureList, said: Said, past: list[Change]) -> None:
    """Name and description, to be typed over, and what can be done with the list."""
    name, text = f"list_name_{found.id}", f"list_description_{found.id}"
    keeping.adopt(name, found.name)
    keeping.adopt(text, found.description)
    fixed = not said.writable or found.deleted
    left, right = st.columns([5, 4], vertical_alignment="bottom")
    left.text_input(
        "Name",
        key=name,
        max_chars=feature_list_edits.NAME_LENGTH,
        disabled=fixed,
        on_change=say,
        args=(found.id, "name", name),
        label_visibility="collapsed",
    )
    with right.container(horizontal=True, gap="small", vertical_alignment="center"):
        if said.writable:
            st.button(
                "Undo",
                type="tertiary",
                on_click=undo,
                args=(found.id,),
                help=session.literal(f"Take back: {past[-1].words}"),
            )
            if not found.deleted:
                st.button("Delete", type="tertiary", on_click=delete, args=(found.id,))
        steer(found)
        menu(found, said)
    st.text_area(
        "Description",
        key=text,
        height=68,
        max_chars=feature_list_edits.TEXT_LENGTH,
        disabled=fixed,
        placeholder="what this list is for",
        on_change=say,
        args=(found.id, "description", text),
        label_visibility="collapsed",
    )
    st.caption(
        f"{plural(len(found.entries), 'feature')} · changed {found.changed:%Y-%m-%d %H:%M} UTC · "
        f"list {found.id}"
    )


def steer(found: FeatureList) -> None:
    """A link that steers by the list's features, as many as are of the first one's harvest."""
    names = [entry.feature for entry in found.entries]
    try:
        there = session.store().find_harvest(names[0]).dictionaries if names else {}
    except InputError:
        return  # no harvest here has it: its row says so
    known = [("feature", str(one)) for one in names if one.dictionary in there][:STEERED]
    if known:
        st.page_link(session.STEER, label="Steer", query_params=known)


def menu(found: FeatureList, said: Said) -> None:
    """The list as files and as Python."""
    store = session.store()
    with st.popover("Export", type="tertiary"):
        st.download_button(
            "Download as HTML",
            lambda: sheet.page(store, said.annotations, found.id),
            sheet.file_name(found, "html"),
            "text/html",
            type="tertiary",
            on_click="ignore",
        )
        rows = collect_rows("lists", said.annotations, found.id)
        for kind in FORMATS:
            st.download_button(
                f"Download as {kind.upper() if kind == 'json' else 'Parquet'}",
                lambda kind=kind: encode_rows("lists", rows, kind),
                sheet.file_name(found, kind),
                type="tertiary",
                on_click="ignore",
            )
        st.caption("Copy as Python: the same data without the page")
        st.code(sheet.lines(session.shown_store(), found.id), language="python")


def entries(found: FeatureList, here: Place | None, said: Said) -> None:
    """The features; a click opens one, everything else changes the list."""
    key = f"list_shown_{found.id}"
    shown = st.session_state.setdefault(key, SHOWN)
    part = found.entries[:shown]
    data = {
        "writable": said.writable and not found.deleted,
        "last": len(part) == len(found.entries),
        "rows": [row(entry, here, said) for entry in part],
    }
    clicked = components.entries(
        key=ENTRIES,
        data=data,
        on_go_change=components.ignore,
        on_act_change=lambda: act(found.id),
    )
    if clicked.go:
        st.switch_page(session.FEATURE, query_params={"feature": clicked.go})
    if len(part) < len(found.entries):
        more = st.session_state[key] + SHOWN
        st.button("Show more", on_click=lambda: st.session_state.update({key: more}))


def row(entry: ListEntry, here: Place | None, said: Said) -> dict[str, Any]:
    """One feature as the component draws it; where the store has no harvest of it, it says so."""
    name = str(entry.feature)
    waiting = st.session_state.get(WAITING, {}).get((entry.list, name))
    shown = {
        "feature": name,
        "href": session.href(session.FEATURE, {"feature": name}),
        "target": name,
        "label": said.annotations.feature_names.name_of(
            (entry.feature.dictionary, entry.feature.index)
        ),
        "density": "",
        "max": "",
        "problem": "",
        "unsaved": waiting is not None,
        "note": entry.note if waiting is None else waiting,
    }
    try:
        facts = known(entry.feature, here)
    except InputError:
        return {**shown, "target": None, "problem": "no harvest here has this feature"}
    return {**shown, "density": share(facts.density), "max": measure(facts.max_act)}


def known(feature: FeatureId, here: Place | None) -> Any:
    """A feature's facts, from the harvest in the URL if that has its dictionary."""
    if here is not None and feature.dictionary in here.file.dictionaries:
        return here.file.facts(feature)
    return session.store().find_harvest(feature).facts(feature)


def act(list_id: str) -> None:
    """Callback: a note, a move or a removal in the table."""
    asked = (st.session_state.get(ENTRIES) or {}).get("act")
    if not asked:
        return
    feature = FeatureId.parse(asked["feature"])
    if asked["kind"] == "note":
        waiting = st.session_state.setdefault(WAITING, {})
        waiting[list_id, str(feature)] = asked["text"]
        if keeping.attempt(feature_list_edits.write_note, list_id, feature, asked["text"]):
            del waiting[list_id, str(feature)]
    elif asked["kind"] == "remove":
        keeping.attempt(feature_list_edits.remove_features, list_id, [feature])
    else:
        keeping.attempt(feature_list_edits.move_feature, list_id, feature, BY[asked["kind"]])


def add(list_id: str, here: Place | None) -> None:
    """Callback: the typed features; a bare number is of the dictionary in the bar."""
    text = st.session_state["list_add"]
    try:
        features = typed(text, here)
    except InputError as error:
        keeping.refuse(str(error))
        return
    if features and keeping.attempt(feature_list_edits.add_features, list_id, features) is not None:
        st.session_state["list_add"] = ""


def typed(text: str, here: Place | None) -> list[FeatureId]:
    """The features that a text names. Raises InputError for the first that does not exist."""
    found = []
    for word in filter(None, map(str.strip, re.split(r"[,;\n]", text))):
        if word.isdecimal() and here is not None:
            word = f"{here.info.dictionary}/{word}"
        feature = FeatureId.parse(word)
        session.store().find_harvest(feature)
        found.append(feature)
    return found


def say(list_id: str, what: str, key: str) -> None:
    """Callback: another name or description."""
    keeping.attempt(feature_list_edits.describe_list, list_id, **{what: st.session_state[key]})


def undo(list_id: str) -> None:
    """Callback: the last change is taken back."""
    keeping.attempt(feature_list_edits.undo_change, list_id)


def delete(list_id: str) -> None:
    """Callback: the list is put away; its page stays, with Undo."""
    keeping.attempt(feature_list_edits.delete_list, list_id)


def table(columns: list[tuple[str, str]], cells: list[list[str]]) -> dict[str, Any]:
    """Plain rows for the component of tables."""
    return {
        "ruled": False,
        "columns": [{"name": name, "kind": kind, "hint": ""} for name, kind in columns],
        "rows": [{"href": "", "target": None, "cells": row, "notes": []} for row in cells],
    }
