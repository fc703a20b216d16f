"""The filters above the table of features: a row that stays calm, the rest behind two buttons."""

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from app import columns, filters, session
from app.filters import Choice
from app.session import Place
from app.wording import plural
from feature_store.feature_table import NUMBER_COLUMNS

PERCENT = 100.0
BOUNDED = list(dict.fromkeys(["density", *columns.COLUMNS]))
BOUNDED = [name for name in BOUNDED if name in NUMBER_COLUMNS and name not in columns.NAMES]
"""Columns with numbers to compare, the one most asked for first."""
KEYS = {name: f"filtering_{name}" for name in ("show", "label", "column", "low", "high", "columns")}


def draw(place: Place, given: Mapping[str, str], choice: Choice, names: list[str]) -> None:
    """The row; every widget shows what the URL says and writes into it."""
    st.session_state[KEYS["show"]] = choice.show
    if st.session_state.get(KEYS["label"]) != choice.wanted.name_contains:
        st.session_state[KEYS["label"]] = choice.wanted.name_contains
    st.session_state[KEYS["columns"]] = names[1:]
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.segmented_control(
            "Show",
            list(filters.SHOW),
            key=KEYS["show"],
            required=True,
            label_visibility="collapsed",
            on_change=lambda: show(place, given, choice),
        )
        st.text_input(
            "Label contains",
            key=KEYS["label"],
            placeholder="label contains…",
            width=160,
            label_visibility="collapsed",
            on_change=lambda: says(place, given, choice),
        )
        with st.popover("Filter"):
            bounds(place, given, choice)
        with st.popover("Columns"):
            st.pills(
                "Columns",
                list(columns.COLUMNS)[1:],
                selection_mode="multi",
                key=KEYS["columns"],
                format_func=lambda name: columns.title(name, signed=place.info.signed),
                on_change=lambda: shown(place, given),
                width=360,
            )
        chips(place, given, choice)


def bounds(place: Place, given: Mapping[str, str], choice: Choice) -> None:
    """A column between two ends, and what features must have."""
    column = st.selectbox("Column", BOUNDED, key=KEYS["column"], format_func=named, width=320)
    unit = ", in %" if filters.is_share(column) else ""
    with st.container(horizontal=True, width=320):
        for end, title in (("low", f"From{unit}"), ("high", f"To{unit}")):
            st.number_input(
                title, value=None, key=KEYS[end], step=None, format="%.6g", placeholder="any"
            )
    st.button("Add", key="filtering_add", on_click=lambda: add(place, given, choice))
    for name, kind in filters.FLAGS.items():
        st.checkbox(
            f"only {name}",
            value=kind in choice.wanted.required_annotations,
            key=f"filtering_{name}",
            on_change=lambda kind=kind: flip(place, given, choice, kind),
        )


def chips(place: Place, given: Mapping[str, str], choice: Choice) -> None:
    """The filters in force; a click takes one away."""
    wanted = choice.wanted
    found = [(filters.said(*one), choice.bounded(one[0], None, None)) for one in wanted.between]
    for name, kind in filters.FLAGS.items():
        if kind in wanted.required_annotations:
            rest = tuple(one for one in wanted.required_annotations if one != kind)
            found.append((name, replace(choice, wanted=replace(wanted, required_annotations=rest))))
    if wanted.only_features:
        text = f"{plural(len(wanted.only_features), 'feature')} by number"
        found.append((text, replace(choice, wanted=replace(wanted, only_features=()))))
    for text, without in found:
        st.button(
            f"{session.literal(text)} ✕",
            key=f"filtering_chip_{text}",
            type="tertiary",
            help="Take this filter away",
            on_click=put,
            args=(place, given, without),
        )


def named(column: str) -> str:
    """A column and what it means."""
    one = columns.COLUMNS[column]
    return f"{one.title}: {one.hint}"


def put(place: Place, given: Mapping[str, str], choice: Choice) -> None:
    """Callback: another choice goes into the URL; its first page, the same columns."""
    kept = {name: given[name] for name in ("columns",) if name in given}
    session.put_filters(place, {**filters.write(choice), **kept})


def show(place: Place, given: Mapping[str, str], choice: Choice) -> None:
    """Callback: all features, those alive, or the dead."""
    put(place, given, replace(choice, show=st.session_state[KEYS["show"]]))


def says(place: Place, given: Mapping[str, str], choice: Choice) -> None:
    """Callback: what labels must contain."""
    text = st.session_state[KEYS["label"]].strip()
    put(place, given, replace(choice, wanted=replace(choice.wanted, name_contains=text)))


def add(place: Place, given: Mapping[str, str], choice: Choice) -> None:
    """Callback: bounds of a column, in place of those it had."""
    column, low, high = (st.session_state[KEYS[name]] for name in ("column", "low", "high"))
    if filters.is_share(column):
        low, high = (end if end is None else end / PERCENT for end in (low, high))
    if low is not None and high is not None and low > high:
        low, high = high, low
    st.session_state[KEYS["low"]] = st.session_state[KEYS["high"]] = None
    put(place, given, choice.bounded(column, low, high))


def flip(place: Place, given: Mapping[str, str], choice: Choice, kind: str) -> None:
    """Callback: what a feature must have, or no longer."""
    having = choice.wanted.required_annotations
    new = tuple(one for one in having if one != kind) if kind in having else (*having, kind)
    put(place, given, replace(choice, wanted=replace(choice.wanted, required_annotations=new)))


def shown(place: Place, given: Mapping[str, str]) -> None:
    """Callback: which columns; the URL says nothing of the usual ones."""
    picked = [name for name in columns.COLUMNS if name in st.session_state[KEYS["columns"]]]
    text = "" if ["feature", *picked] == columns.usual() else ",".join(picked) or "feature"
    rest = {name: value for name, value in given.items() if name != "columns"}
    session.put_filters(place, {**rest, **({"columns": text} if text else {})})
