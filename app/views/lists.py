"""Lists of features with notes: all of them, or the one that the URL names."""

import streamlit as st

from app import annotations, components, export, frame, keeping, session
from app.lists import exchange, page, sheet
from app.session import Place
from app.wording import count
from feature_store import feature_list_edits
from feature_store.feature_lists import FeatureList, FeatureLists

NEW, KEY = "lists_new", "lists_table"
COLUMNS = [
    ("list", "", "open it"),
    ("features", "number", ""),
    ("dictionaries", "", "whose features it has"),
    ("description", "", ""),
    ("changed (UTC)", "", "when anything of it was last changed"),
]


def every(lists: FeatureLists, here: Place | None) -> None:
    """The table of lists; a click opens one."""
    query = here.query if here else {}
    data = {
        "ruled": True,
        "columns": [{"name": name, "kind": kind, "hint": hint} for name, kind, hint in COLUMNS],
        "rows": [row(one, query) for one in lists.current],
    }
    clicked = components.rows(key=KEY, data=data, on_go_change=components.ignore)
    if clicked.go:
        st.switch_page(session.LISTS, query_params={**query, "list": clicked.go})


def row(one: FeatureList, query: dict[str, str]) -> dict[str, object]:
    """One list's line."""
    whose = sorted({feature.dictionary for feature in one.features})
    more = f" and {len(whose) - 3} more" if len(whose) > 3 else ""
    cells = [
        one.name,
        count(len(one.entries)),
        ", ".join(whose[:3]) + more,
        " ".join(one.description.split())[:120],
        f"{one.changed:%Y-%m-%d %H:%M}",
    ]
    href = session.href(session.LISTS, {**query, "list": one.id})
    return {"href": href, "target": one.id, "cells": cells, "notes": []}


def create(here: Place | None) -> None:
    """Callback: a new list, opened at once."""
    list_id = keeping.attempt(feature_list_edits.create_list, st.session_state[NEW])
    if list_id:
        st.session_state[NEW] = ""
        st.query_params.from_dict({**(here.query if here else {}), "list": list_id})


def deleted(lists: FeatureLists, said: annotations.Said) -> None:
    """What was put away, with the way back."""
    if not lists.deleted:
        return
    with st.expander(f"Deleted ({count(len(lists.deleted))})"):
        for one in lists.deleted:
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                st.markdown(session.literal(f"{one.name} ({len(one.entries)})"), width=420)
                if said.writable:
                    st.button(
                        "Bring back",
                        key=f"back_{one.id}",
                        type="tertiary",
                        on_click=bring_back,
                        args=(one.id,),
                    )


def bring_back(list_id: str) -> None:
    """Callback: a deleted list is there again."""
    keeping.attempt(feature_list_edits.delete_list, list_id, restore=True)


def index(here: Place | None, said: annotations.Said) -> None:
    """The page without a list in the URL."""
    # a link from a list to this same page leaves `list` in the browser's URL: say again what holds
    st.query_params.from_dict(st.query_params.to_dict())
    lists = said.annotations.lists
    if said.writable:
        st.text_input(
            "New list",
            key=NEW,
            max_chars=feature_list_edits.NAME_LENGTH,
            on_change=create,
            args=(here,),
            placeholder="new list: type its name",
            width=420,
            label_visibility="collapsed",
        )
    if lists.current:
        every(lists, here)
    else:
        st.write("No list yet. Type a name above, or choose Lists in the notes of a feature.")
    deleted(lists, said)
    exchange.explanations(said)
    with st.expander("Export and import", expanded=True):
        exchange.draw(here, said)


place = session.place() if session.store().harvests() else None
found = annotations.read()
frame.sidebar(place)
one = st.query_params.get("list")
if place is not None:
    bar = frame.bar(place)
    if not one:
        with bar:
            export.menu(sheet.all_lines(session.shown_store()))
if one:
    wanted = found.annotations.lists.get(one)
    st.title("List", anchor=False)
    keeping.problems(found)
    page.draw(wanted, place, found)
else:
    st.title("Lists", anchor=False)
    keeping.problems(found)
    index(place, found)
