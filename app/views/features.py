"""All features of a dictionary: sorted and filtered by DuckDB, a page at a time."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import streamlit as st

from app import (
    annotations,
    columns,
    components,
    export,
    filtering,
    filters,
    frame,
    order,
    session,
    sheet,
)
from app.filters import Choice
from app.wording import count, plural
from feature_store import feature_table
from feature_store.annotations import Annotations
from feature_store.errors import InputError

KEY, PAGE = "features_table", order.PAGE


def page_number(given: Mapping[str, str]) -> int:
    """The page that the URL asks for, from 1 on."""
    text = given.get("page", "1")
    if not text.isdecimal() or not int(text):
        raise InputError(f"page={text} is not the number of a page. Pages count from 1.")
    return int(text)


def heads(given: Mapping[str, str], choice: Choice, names: list[str]) -> list[dict[str, object]]:
    """The headings: a click sorts, largest first; the next click the other way round."""
    made = []
    for name in names:
        column, current = columns.COLUMNS[name], choice.wanted.order == name
        down = not choice.wanted.descending if current else name not in ("feature", "label")
        sort = None if name in columns.UNSORTED else f"{'-' * down}{name}"
        way = "desc" if choice.wanted.descending else "asc"
        made.append(
            {
                "title": columns.title(name, signed=place.info.signed),
                "kind": "number" if column.kind in columns.NUMERIC else column.kind,
                "hint": column.hint,
                "order": way if current else "",
                "sort": sort,
                "href": here_with({**first_page(given), "sort": sort or ""}),
            }
        )
    return made


def lines(names: list[str], features: np.ndarray, said: Annotations) -> list[dict[str, object]]:
    """The rows of a page, as the component takes them."""
    found = feature_table.read_feature_rows(
        place.file, place.info.dictionary, features, names, said
    )
    vocabulary = place.file.vocabulary
    cells = [columns.written(n, found.column(n).to_pylist(), vocabulary) for n in names]
    way = filters.write(choice)
    return [
        {
            "href": session.href(session.FEATURE, {**place.at(index), **way}),
            "steer": session.href(session.STEER, place.at(index)),
            "target": str(index),
            "cells": list(row),
        }
        for index, *row in zip(features.tolist(), *cells, strict=True)
    ]


def pages(given: Mapping[str, str], number: int, last: int) -> list[dict[str, object]]:
    """The ways to other pages; none where there is one."""
    if last == 1:
        return []
    ways = [("«", "first page", 1), ("‹ previous", "", number - 1), ("next ›", "", number + 1)]
    return [
        {
            "text": text,
            "hint": hint,
            "href": here_with({**given, "page": str(to)}),
            "page": str(to) if 1 <= to <= last and to != number else None,
        }
        for text, hint, to in [*ways, ("»", "last page", last)]
    ]


def here_with(given: Mapping[str, str]) -> str:
    """A link to this dictionary's table under other filters."""
    return session.href(session.FEATURES, {**place.query, **{k: v for k, v in given.items() if v}})


def first_page(given: Mapping[str, str]) -> dict[str, str]:
    """Without the page: under another order it would be other features."""
    return {name: text for name, text in given.items() if name != "page"}


def turn(given: Mapping[str, str]) -> None:
    """Callback: a heading or a page was clicked."""
    clicked = st.session_state.get(KEY) or {}
    if sort := clicked.get("sort"):
        session.put_filters(place, {**first_page(given), "sort": sort})
    elif to := clicked.get("page"):
        session.put_filters(place, {**given, "page": to})


def draw(given: Mapping[str, str], names: list[str], found: np.ndarray, said: Annotations) -> None:
    """One page of the table; a click on a row opens that row's feature."""
    last = max(1, math.ceil(len(found) / PAGE))
    number = min(page_number(given), last)
    first = (number - 1) * PAGE
    shown = found[first : first + PAGE]
    part = f" · rows {count(first + 1)}–{count(first + len(shown))}" if last > 1 else ""
    components.table(
        key=KEY,
        data={
            "columns": heads(given, choice, names),
            "rows": lines(names, shown, said),
            "said": f"{count(len(found))} of {plural(place.info.d_sae, 'feature')}, on "
            f"{plural(place.file.record.tokens, 'token')}{part}",
            "pages": pages(given, number, last),
        },
        on_go_change=components.ignore,
        on_steer_change=components.ignore,
        on_sort_change=lambda: turn(given),
        on_page_change=lambda: turn(given),
    )


def files(found: np.ndarray, said: Annotations) -> dict[str, tuple[str, Callable[[], bytes]]]:
    """All features that pass, every column, tokens as texts."""
    dictionary = place.info.dictionary

    def whole() -> pa.Table:
        every = feature_table.read_feature_rows(place.file, dictionary, found, annotations=said)
        return columns.spelled(every, place.file.vocabulary)

    name = sheet.plain(dictionary)
    return {
        "CSV": (f"{name}.csv", lambda: export.as_csv(whole())),
        "Parquet": (f"{name}.parquet", lambda: export.as_parquet(whole())),
    }


place = session.place()
asked = session.filters(place)
choice = filters.read(asked)  # what the URL gets wrong is said before anything is drawn
names = columns.chosen(asked.get("columns", ""))
page_number(asked)
session.remember(place, asked)
clicked = st.session_state.get(KEY) or {}
if steered := clicked.get("steer"):
    st.switch_page(session.STEER, query_params=place.at(int(steered)))
if opened := clicked.get("go"):
    st.switch_page(session.FEATURE, query_params={**place.at(int(opened)), **filters.write(choice)})
frame.sidebar(place)
bar = frame.bar(place)
st.title(f"Features of {session.literal(place.info.dictionary)}", anchor=False)
filtering.draw(place, asked, choice, names)
said = annotations.read()
if said.problem:
    st.markdown(f":yellow[{session.literal(f'Labels may be out of date. {said.problem}')}]")
found = order.features(place, choice, said.annotations)
with bar:
    export.menu(
        export.table_lines(
            session.shown_store(), place.file.record.id, place.info.dictionary, choice.whole
        ),
        files(found, said.annotations),
    )
if len(found):
    draw(asked, names, found, said.annotations)
else:
    st.write("No feature passes these filters. Take one of them away.")
    if said_so := choice.wanted.name_contains:
        there = {**place.query, "q": said_so}
        st.page_link(
            session.SEARCH,
            label=f"Search tokens for {session.literal(said_so)}",
            query_params=there,
        )
