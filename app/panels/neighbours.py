"""The Neighbours panel: features with similar decoder directions, and features that are active at
the same tokens."""

import streamlit as st

from app import session
from app.components import rows
from app.glossary import define_term
from app.panels.panel_context import PanelContext
from app.tokens import visible
from app.wording import count, measure, signed
from feature_store.records import DictionaryInfo, FeatureId
from feature_store.statistics.phi_interval import phi_margin

TITLE = "Neighbours"
MAX_NEIGHBOURS = 6
MAX_COMPARED = 3
"""Number of neighbours that the link to the Compare page takes along."""


def draw(panel: PanelContext) -> None:
    """Draw the nearest and the co-active features as two tables of links."""
    facts = panel.facts
    near, together = st.columns(2)
    with near:
        cosines = list(zip(facts.nearest or [], facts.nearest_cosine or [], strict=True))
        draw_neighbour_table(
            panel,
            "nearest",
            ("nearest", "cosine", "Cosine of the two decoder directions."),
            cosines,
        )
    with together:
        phis = list(zip(facts.coactive or [], facts.coactive_phi or [], strict=True))
        hint = f"{define_term('phi')} Over {describe_phi_basis(panel.place.info)}"
        draw_neighbour_table(panel, "coactive", ("fires with", "φ", hint), phis)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(f"cosine of the decoders; φ over {describe_phi_basis(panel.place.info)}")
        for what, found in (("nearest", facts.nearest), ("co-active", facts.coactive)):
            some = [FeatureId(panel.id.dictionary, index) for index in (found or [])[:MAX_COMPARED]]
            draw_compare_link(panel, what, list(map(str, some)))


def describe_phi_basis(info: DictionaryInfo) -> str:
    """Return, in words, the tokens over which φ was computed."""
    if info.coactive_rate >= 1:
        return f"all {count(info.coactive_tokens)} tokens"
    if not info.coactive_tokens:
        return "no token: too many features are active together to count their pairs"
    return f"{count(info.coactive_tokens)} sampled tokens, ± half of its 95 % interval"


def draw_compare_link(panel: PanelContext, what: str, others: list[str]) -> None:
    """Draw a link to the Compare page with this feature and others."""
    if others:
        features = [str(panel.id), *others]
        query = {"harvest": panel.place.file.record.id, "feature": features}
        st.page_link(
            session.COMPARE,
            label=f"Compare {what}",
            query_params=query,
            width="content",
            help=f"Compare this feature with {', '.join(others)}.",
        )


def draw_neighbour_table(
    panel: PanelContext, name: str, heads: tuple[str, str, str], found: list[tuple[int, float]]
) -> None:
    """Draw features with one number each, and the token that each promotes most."""
    key = f"feature_{name}"
    title, measure, hint = heads
    data = {
        "ruled": False,
        "columns": [
            {"name": title, "kind": "", "hint": ""},
            {"name": measure, "kind": "number", "hint": hint},
            {
                "name": "promotes",
                "kind": "code",
                "hint": "The token whose logit the feature raises most.",
            },
        ],
        "rows": [
            make_neighbour_row(panel, name, index, value) for index, value in found[:MAX_NEIGHBOURS]
        ],
    }
    rows(key=key, data=data, on_go_change=lambda: session.follow(key))


def make_neighbour_row(
    panel: PanelContext, name: str, index: int, value: float
) -> dict[str, object]:
    """Return one neighbour as a row; φ from sampled tokens has half of its 95 % interval."""
    place, info = panel.place, panel.place.info
    query = place.at(index)
    facts = place.file.facts(type(panel.id)(panel.id.dictionary, index))
    promoted, number = facts.promoted_tokens, signed(value)
    if name == "coactive" and info.coactive_rate < 1:
        densities = (panel.facts.density, facts.density)
        margin = phi_margin(value, *densities, info.coactive_tokens, info.coactive_rate)
        number += "" if margin is None else f" ± {measure(margin, 2)}"
    text = visible(place.file.vocabulary.text(promoted[0])) if promoted else ""
    return {
        "href": session.href(session.FEATURE, query),
        "target": query["feature"],
        "cells": [str(index), number, text],
        "notes": [],
    }
