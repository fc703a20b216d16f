"""Features that write nearly the same, and features that fire together with it."""

import streamlit as st

from app import session
from app.components import rows
from app.panels.subject import Subject
from app.tokens import visible
from app.wording import count, plural, signed
from feature_store.records import FeatureId

TITLE = "Neighbours"
SHOWN = 6
COMPARED = 3
"""Neighbours that a link takes to the Compare page."""


def draw(subject: Subject) -> None:
    """Two small tables of links."""
    facts = subject.facts
    near, together = st.columns(2)
    with near:
        cosines = list(zip(facts.nearest or [], facts.nearest_cosine or [], strict=True))
        listing(subject, "nearest", ("nearest", "cosine", "cosine of the decoders"), cosines)
    with together:
        phis = list(zip(facts.coactive or [], facts.coactive_phi or [], strict=True))
        n = subject.place.info.coactive_tokens
        hint = f"correlation of firing (φ) over {plural(n, 'sampled token')}"
        listing(subject, "coactive", ("fires with", "φ", hint), phis)
    sampled = subject.place.info.coactive_tokens
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(f"cosine of the decoders; φ over {count(sampled)} sampled tokens")
        for what, found in (("nearest", facts.nearest), ("co-active", facts.coactive)):
            some = [FeatureId(subject.id.dictionary, index) for index in (found or [])[:COMPARED]]
            side_by_side(subject, what, list(map(str, some)))


def side_by_side(subject: Subject, what: str, others: list[str]) -> None:
    """A link to the page that compares it with others."""
    if others:
        features = [str(subject.id), *others]
        query = {"harvest": subject.place.file.record.id, "feature": features}
        st.page_link(
            session.COMPARE, label=f"Compare {what}", query_params=query, width="content",
            help=f"It and {', '.join(others)} side by side.",
        )  # fmt: skip


def listing(
    subject: Subject, name: str, heads: tuple[str, str, str], found: list[tuple[int, float]]
) -> None:
    """Features with one number each; the tokens that they promote say which is which."""
    key = f"feature_{name}"
    title, measure, hint = heads
    data = {
        "ruled": False,
        "columns": [
            {"name": title, "kind": "", "hint": ""},
            {"name": measure, "kind": "number", "hint": hint},
            {"name": "promotes", "kind": "code", "hint": "the token it promotes most"},
        ],
        "rows": [row(subject, index, value) for index, value in found[:SHOWN]],
    }
    rows(key=key, data=data, on_go_change=lambda: session.follow(key))


def row(subject: Subject, index: int, value: float) -> dict[str, object]:
    """One neighbour."""
    place = subject.place
    query = place.at(index)
    promoted = place.file.facts(type(subject.id)(subject.id.dictionary, index)).promoted_tokens
    text = visible(place.file.vocabulary.text(promoted[0])) if promoted else ""
    return {
        "href": session.href(session.FEATURE, query),
        "target": query["feature"],
        "cells": [str(index), signed(value), text],
        "notes": [],
    }
