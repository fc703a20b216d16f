"""What the store holds: every harvest, its dictionaries, and how well they reconstruct."""

import streamlit as st

from app import export, frame, session
from app.components import ignore, rows
from app.session import Place
from app.wording import count, measure, plural
from feature_store.harvest_reader import HarvestFile
from feature_store.null_dictionaries import find_null_target
from feature_store.records import DictionaryInfo
from feature_store.store import harvest_command

COLUMNS = [
    ("dictionary", "", "open its features"),
    ("hook point", "code", "where it reads; → where it writes, if elsewhere"),
    ("kind", "", "architecture"),
    ("features", "number", "d_sae"),
    ("dead", "number", "features that never fired on the harvest's tokens"),
    ("explained", "number", "explained variance per token"),
    ("ΔCE", "number", "nats: cross-entropy with the reconstruction spliced in, less without"),
    ("recovery", "number", "share of the cross-entropy lost by mean ablation that it wins back"),
    ("L0", "number", "active features a token, in the self-check"),
]


def draw(file: HarvestFile) -> None:
    """One harvest: what was read, and a table of its dictionaries."""
    record = file.record
    st.subheader(session.literal(f"{record.model} on {record.corpus}"), anchor=False)
    facts = [
        plural(record.tokens, "token"),
        plural(record.documents, "document"),
        f"context {count(record.context_size)}",
        f"{record.finished:%Y-%m-%d %H:%M} UTC",
        record.id,
    ]
    st.caption(session.literal(" · ".join(facts)))
    for warning in record.warnings:
        st.markdown(f":yellow[{session.literal(warning)}]")
    key = f"library_{record.id}"
    places = [Place(file, info) for info in file.dictionaries.values()]
    data = {
        "ruled": True,
        "columns": [{"name": name, "kind": kind, "hint": hint} for name, kind, hint in COLUMNS],
        "rows": [row(place) for place in places],
    }
    clicked = rows(key=key, data=data, on_go_change=ignore)
    st.caption(checked(list(file.dictionaries.values())))
    if clicked.go:
        query = {"harvest": record.id, "dictionary": clicked.go}
        st.switch_page(session.FEATURES, query_params=query)


def checked(infos: list[DictionaryInfo]) -> str:
    """What the self-check's numbers rest on."""
    done = [i for i in infos if find_null_target(i) is None]  # null dictionaries rebuild nothing
    sizes = sorted({(i.check_tokens or 0, i.check_documents or 0) for i in done})
    said = " or ".join(f"{plural(n, 'token')} of {plural(d, 'document')}" for n, d in sizes)
    brackets = any(i.published_l0 or i.published_explained_variance for i in infos)
    tail = "; in brackets, what its metadata publishes" if brackets else ""
    return (
        "explained variance, ΔCE in nats, recovery against mean ablation, L0: self-check on "
        f"{said}; dead: on all tokens{tail}"
    )


def row(place: Place) -> dict[str, object]:
    """One dictionary's line of the table."""
    return {
        "href": session.href(session.FEATURES, place.query),
        "target": place.info.dictionary,
        "cells": cells(place.info),
        "notes": place.info.check_words,
    }


def cells(info: DictionaryInfo) -> list[str]:
    """The texts under COLUMNS."""
    return [
        info.dictionary,
        info.hook_text,
        info.architecture.replace("_", " ") + (", signed" if info.signed else ""),
        count(info.d_sae),
        count(info.n_dead),
        measure(info.explained_variance) + published(info.published_explained_variance),
        measure(info.delta_ce),
        measure(info.recovery_mean),
        measure(info.l0) + published(info.published_l0),
    ]


def published(value: float | None) -> str:
    """What the dictionary's metadata claims, in brackets."""
    return "" if value is None else f" ({measure(value)})"


store = session.store()
harvests = store.harvests()
frame.sidebar(session.place() if harvests else None)
with st.container(key="bar", horizontal=True, vertical_alignment="center"):
    st.title("Library", anchor=False, width="content")
    if harvests:
        export.menu(export.library_lines(session.shown_store()))
if not harvests:
    st.write("This store holds no finished harvest yet. One command fills it:")
    st.code(harvest_command(session.shown_store()), language="shell")
for harvest in harvests:
    with st.container(gap="xxsmall", key=f"harvest_{harvest.record.id}"):
        draw(harvest)
for unfinished in store.unfinished():
    st.caption(
        f"{session.literal(unfinished.id)} is unfinished: it is running, or the command that began "
        "it goes on with it."
    )
for problem in store.problems():
    st.markdown(f":yellow[{session.literal(problem)}]")
