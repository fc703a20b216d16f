"""Putting features into a list from wherever they are shown: a table, a search, one feature."""

from collections.abc import Sequence

import streamlit as st

from app import annotations, keeping, session
from app.panels.panel_context import PanelContext
from app.wording import plural
from feature_store import feature_list_edits
from feature_store.feature_lists import FeatureLists
from feature_store.records import FeatureId

DONE = "collecting_done"


def menu(features: Sequence[FeatureId], key: str, said: annotations.Said) -> None:
    """A small menu that adds these features to a list, or to a new one by its name."""
    if not said.writable:
        return
    lists = said.annotations.lists
    with st.popover("Add to list", type="tertiary", disabled=not features):
        st.caption(plural(len(features), "feature"))
        with st.form(f"{key}_form", border=False):
            st.selectbox(
                "List",
                [one.id for one in lists.current],
                index=None,
                key=f"{key}_list",
                format_func=lambda name: named(lists, name),
                accept_new_options=True,
                placeholder="choose a list or type a new name",
            )
            st.form_submit_button("Add", on_click=put, args=(list(features), key, lists))
    if told := st.session_state.pop(DONE, None):
        st.toast(told)
    if st.session_state.get(keeping.PROBLEM):
        keeping.problems(annotations.Said())


def put(features: list[FeatureId], key: str, lists: FeatureLists) -> None:
    """Callback: add the features to the chosen list; an unknown id is the name of a new list."""
    wanted = st.session_state[f"{key}_list"]
    if not wanted:
        keeping.refuse("Choose a list, or type the name of a new one.")
        return
    list_id = known(lists, wanted) or keeping.attempt(feature_list_edits.create_list, wanted)
    if list_id and keeping.attempt(feature_list_edits.add_features, list_id, features) is not None:
        st.session_state[DONE] = f"{plural(len(features), 'feature')} in the list"


def membership(subject: PanelContext) -> None:
    """Draw the lists that hold a feature; a person may add or remove it, or name a new list."""
    lists = subject.catalog.annotations.lists
    there = [one.id for one in lists.containing(subject.id)]
    if not subject.catalog.writable:
        if there:
            st.caption("Lists: " + session.literal(", ".join(named(lists, i) for i in there)))
        return
    key = f"collecting_{subject.id}"
    keeping.adopt(key, there)
    st.multiselect(
        "Lists",
        [one.id for one in lists.current],
        key=key,
        accept_new_options=True,
        format_func=lambda name: named(lists, name),
        placeholder="choose a list or type a new name",
        on_change=join,
        args=(subject.id, key, there, lists),
    )
    if st.session_state.get(keeping.PROBLEM):
        keeping.problems(annotations.Said())
    if there:
        with st.container(horizontal=True, gap="small"):
            for name in there:
                st.page_link(
                    session.LISTS,
                    label=f"Open “{session.literal(named(lists, name))}”",
                    query_params={**subject.place.query, "list": name},
                )


def join(feature: FeatureId, key: str, there: list[str], lists: FeatureLists) -> None:
    """Callback: add the feature to the chosen lists and remove it from all others."""
    chosen = []
    for wanted in st.session_state[key]:
        list_id = known(lists, wanted) or keeping.attempt(feature_list_edits.create_list, wanted)
        if list_id is None or wanted in there:
            chosen += [wanted] if list_id else []
        elif keeping.attempt(feature_list_edits.add_features, list_id, [feature]) is not None:
            chosen.append(list_id)
    for gone in set(there) - set(chosen):
        keeping.attempt(feature_list_edits.remove_features, gone, [feature])
    st.session_state.pop(key, None)  # the catalog says what it shows next


def known(lists: FeatureLists, wanted: str) -> str | None:
    """Return the id of an existing list by its id or name, or None."""
    return next((one.id for one in lists.current if wanted in (one.id, one.name)), None)


def named(lists: FeatureLists, wanted: str) -> str:
    """Return a list's name, or the text itself for a new list."""
    return next((one.name for one in lists.current if one.id == wanted), wanted)
