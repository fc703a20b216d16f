"""The panel "In other dictionaries": features of the harvest's other dictionaries with correlated
activations or a similar decoder direction."""

import streamlit as st

from app import components, live, pooling, session, wanted
from app.panels import neighbours
from app.panels.panel_context import PanelContext
from app.session import Place
from app.tokens import visible
from app.wording import count, signed
from backend.engine_protocol import Engine
from feature_store import coactivation, window_pool
from feature_store.harvest_reader import HarvestFile
from feature_store.null_dictionaries import list_model_dictionaries
from feature_store.records import FeatureId
from feature_store.window_pool import CorrelatedFeature

TITLE = "In other dictionaries"
MAX_COMPARED = 4
"""Number of matches that the link to the Compare page takes along."""
PROMOTED_COLUMN = {
    "name": "promotes",
    "kind": "token",
    "hint": "The token whose logit the feature raises most.",
}
ACTIVATION_COLUMNS = [
    {"name": "active alike", "kind": "", "hint": ""},
    {"name": "r", "kind": "number", "hint": "Correlation of the two features' activations."},
    PROMOTED_COLUMN,
]
DECODER_COLUMNS = [
    {"name": "writes alike", "kind": "", "hint": ""},
    {
        "name": "cosine",
        "kind": "number",
        "hint": "Cosine of the decoder directions in the residual stream.",
    },
    {"name": "r", "kind": "number", "hint": "Correlation of the two features' activations."},
    PROMOTED_COLUMN,
]


@st.fragment
def draw(panel: PanelContext) -> None:
    """Draw the best match in each other dictionary, best first: by activations, and on demand by
    decoders."""
    file, name = panel.place.file, panel.place.info.dictionary
    others = [other for other in file.dictionaries if other != name]
    if not others:
        st.caption("This harvest has no other dictionary.")
        return
    draw_activation_matches(panel, others)
    engine = wanted.engine(file, "matches", "Match decoders too", [name])
    if engine:
        mine = list_model_dictionaries(file)
        draw_decoder_matches(panel, [other for other in others if other in mine], engine)


def draw_activation_matches(panel: PanelContext, others: list[str]) -> None:
    """Draw the matches by correlation of activations over the pool of sampled windows."""
    file = panel.place.file
    mine = pooling.of(panel.place)
    found = [
        (other, match)
        for other in others
        for match in window_pool.find_correlated_features(
            mine, panel.id.index, pooling.named(file, other), 1
        )
    ]
    if not found:
        st.caption(
            f"Too few active tokens among the {count(mine.n_tokens)} sampled ones to compare."
        )
        return
    ordered = sorted(found, key=lambda pair: -pair[1].correlation)
    draw_match_table(
        "feature_matches",
        ACTIVATION_COLUMNS,
        [make_activation_match_row(file, *pair) for pair in ordered],
    )
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(f"correlation over {count(mine.n_tokens)} sampled tokens", width="content")
        others = [f"{other}/{match.feature}" for other, match in ordered[:MAX_COMPARED]]
        neighbours.draw_compare_link(panel, "the first", others)


def draw_decoder_matches(panel: PanelContext, others: list[str], engine: Engine) -> None:
    """Draw the matches by cosine of the decoder directions, with the correlation of activations."""
    file = panel.place.file
    mine = pooling.of(panel.place)
    with live.dictionaries_said(engine, others):
        near = find_nearest_decoders(
            engine, file.record.id, panel.id.dictionary, panel.id.index, others
        )
    rows = []
    for other, index, cosine in near:
        r = coactivation.activation_correlation(
            mine, panel.id.index, pooling.named(file, other), index
        )
        number = "–" if r is None else signed(r)
        rows.append(make_match_row(file, other, index, [signed(cosine), number]))
    if not rows:
        st.caption("No other dictionary writes to the same space.")
        return
    draw_match_table("feature_decoder_matches", DECODER_COLUMNS, rows)
    if apart := len(others) - len(rows):
        st.caption(f"{count(apart)} more dictionaries write to other spaces")


@st.cache_data(show_spinner=False, max_entries=256)
def find_nearest_decoders(
    _engine: Engine, harvest: str, dictionary: str, index: int, others: list[str]
) -> list[tuple[str, int, float]]:
    """Return (dictionary, feature, cosine) of the nearest decoder direction in each dictionary that
    writes to the same space, best first."""
    found = []
    for other in others:
        for best, cosine in _engine.find_nearest(FeatureId(dictionary, index), other, 1) or []:
            found.append((other, best, cosine))
    return sorted(found, key=lambda one: -one[2])


def draw_match_table(
    key: str, columns: list[dict[str, str]], rows: list[dict[str, object]]
) -> None:
    """Draw a table of links to matching features."""
    components.rows(
        key=key,
        data={"ruled": False, "columns": columns, "rows": rows},
        on_go_change=lambda: session.follow(key),
    )


def make_activation_match_row(
    file: HarvestFile, dictionary: str, match: CorrelatedFeature
) -> dict[str, object]:
    """Return a match by activations as a row of the table."""
    return make_match_row(file, dictionary, match.feature, [signed(match.correlation)])


def make_match_row(
    file: HarvestFile, dictionary: str, index: int, numbers: list[str]
) -> dict[str, object]:
    """Return a matching feature as a row: its link, its numbers, and the token that it promotes
    most."""
    there = Place(file, file.dictionary(dictionary))
    promoted = file.facts(FeatureId(dictionary, index)).promoted_tokens or []
    text = visible(file.vocabulary.text(promoted[0])) if promoted else ""
    return {
        "href": session.href(session.FEATURE, there.at(index)),
        "target": f"{dictionary}/{index}",
        "cells": [f"{dictionary}/{index}", *numbers, text],
        "notes": [],
    }
