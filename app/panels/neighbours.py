"""Features that write nearly the same, and features that fire together with it."""

import streamlit as st

from app import session
from app.components import rows
from app.panels.panel_context import PanelContext
from app.tokens import visible
from app.wording import count, measure, signed
from feature_store.records import DictionaryInfo, FeatureId
from feature_store.statistics.phi_interval import phi_margin

TITLE = "Neighbours"
MAX_NEIGHBOURS = 6
MAX_COMPARED = 3
"""Neighbours that a link takes to the Compare page."""


def draw(subject: PanelContext) -> None:
    """Two small tables of links."""
    facts = subject.facts
    near, together = st.columns(2)
    with near:
        cosines = list(zip(facts.nearest or [], facts.nearest_cosine or [], strict=True))
        draw_neighbour_table(
            subject, "nearest", ("nearest", "cosine", "cosine of the decoders"), cosines
        )
    with together:
        phis = list(zip(facts.coactive or [], facts.coactive_phi or [], strict=True))
        hint = f"correlation of firing (φ) over {describe_phi_basis(subject.place.info)}"
        draw_neighbour_table(subject, "coactive", ("fires with", "φ", hint), phis)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(f"cosine of the decoders; φ over {describe_phi_basis(subject.place.info)}")
        for what, found in (("nearest", facts.nearest), ("co-active", facts.coactive)):
            some = [
                FeatureId(subject.id.dictionary, index) for index in (found or [])[:MAX_COMPARED]
            ]
            draw_compare_link(subject, what, list(map(str, some)))


def describe_phi_basis(info: DictionaryInfo) -> str:
    """The tokens that φ was computed on, in words."""
    if info.coactive_rate >= 1:
        return f"all {count(info.coactive_tokens)} tokens"
    if not info.coactive_tokens:
        return "no token: too many features fire together to count their pairs"
    return f"{count(info.coactive_tokens)} sampled tokens, ± half of its 95 % interval"


def draw_compare_link(subject: PanelContext, what: str, others: list[str]) -> None:
    """A link to the page that compares it with others."""
    if others:
        features = [str(subject.id), *others]
        query = {"harvest": subject.place.file.record.id, "feature": features}
        st.page_link(
            session.COMPARE,
            label=f"Compare {what}",
            query_params=query,
            width="content",
            help=f"It and {', '.join(others)} side by side.",
        )


def draw_neighbour_table(
    subject: PanelContext, name: str, heads: tuple[str, str, str], found: list[tuple[int, float]]
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
        "rows": [
            make_neighbour_row(subject, name, index, value)
            for index, value in found[:MAX_NEIGHBOURS]
        ],
    }
    rows(key=key, data=data, on_go_change=lambda: session.follow(key))


def make_neighbour_row(
    subject: PanelContext, name: str, index: int, value: float
) -> dict[str, object]:
    """One neighbour."""
    place, info = subject.place, subject.place.info
    query = place.at(index)
    facts = place.file.facts(type(subject.id)(subject.id.dictionary, index))
    promoted, number = facts.promoted_tokens, signed(value)
    if name == "coactive" and info.coactive_rate < 1:
        densities = (subject.facts.density, facts.density)
        margin = phi_margin(value, *densities, info.coactive_tokens, info.coactive_rate)
        number += "" if margin is None else f" ± {measure(margin, 2)}"
    text = visible(place.file.vocabulary.text(promoted[0])) if promoted else ""
    return {
        "href": session.href(session.FEATURE, query),
        "target": query["feature"],
        "cells": [str(index), number, text],
        "notes": [],
    }
