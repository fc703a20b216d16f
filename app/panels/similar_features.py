"""The features of the harvest's other dictionaries that fire like this one, or write like it."""

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
"""Matches that a link takes to the Compare page."""
PROMOTED_COLUMN = {"name": "promotes", "kind": "token", "hint": "the token it promotes most"}
ACTIVATION_COLUMNS = [
    {"name": "fires alike", "kind": "", "hint": ""},
    {"name": "r", "kind": "number", "hint": "correlation of the two activations"},
    PROMOTED_COLUMN,
]
DECODER_COLUMNS = [
    {"name": "writes alike", "kind": "", "hint": ""},
    {"name": "cosine", "kind": "number", "hint": "of the decoders, in the residual stream"},
    {"name": "r", "kind": "number", "hint": "correlation of the two activations"},
    PROMOTED_COLUMN,
]


@st.fragment
def draw(subject: PanelContext) -> None:
    """The best match in each dictionary, best first: by activations, and by decoders."""
    file, name = subject.place.file, subject.place.info.dictionary
    others = [other for other in file.dictionaries if other != name]
    if not others:
        st.caption("This harvest has no other dictionary.")
        return
    draw_activation_matches(subject, others)
    engine = wanted.engine(file, "matches", "Match decoders too", [name])
    if engine:
        mine = list_model_dictionaries(file)
        draw_decoder_matches(subject, [other for other in others if other in mine], engine)


def draw_activation_matches(subject: PanelContext, others: list[str]) -> None:
    """By correlation over the pool."""
    file = subject.place.file
    mine = pooling.of(subject.place)
    found = [
        (other, match)
        for other in others
        for match in window_pool.find_correlated_features(
            mine, subject.id.index, pooling.named(file, other), 1
        )
    ]
    if not found:
        st.caption(f"Too few firings on the {count(mine.n_tokens)} sampled tokens to tell.")
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
        neighbours.draw_compare_link(subject, "the first", others)


def draw_decoder_matches(subject: PanelContext, others: list[str], engine: Engine) -> None:
    """By cosine of the decoders, with the correlation beside it."""
    file = subject.place.file
    mine = pooling.of(subject.place)
    with live.dictionaries_said(engine, others):
        near = find_nearest_decoders(
            engine, file.record.id, subject.id.dictionary, subject.id.index, others
        )
    rows = []
    for other, index, cosine in near:
        r = coactivation.activation_correlation(
            mine, subject.id.index, pooling.named(file, other), index
        )
        number = "–" if r is None else signed(r)
        rows.append(make_match_row(file, other, index, [signed(cosine), number]))
    if not rows:
        st.caption("No other dictionary writes into the same space.")
        return
    draw_match_table("feature_decoder_matches", DECODER_COLUMNS, rows)
    if apart := len(others) - len(rows):
        st.caption(f"{count(apart)} more write into other spaces")


@st.cache_data(show_spinner=False, max_entries=256)
def find_nearest_decoders(
    _engine: Engine, harvest: str, dictionary: str, index: int, others: list[str]
) -> list[tuple[str, int, float]]:
    """(dictionary, feature, cosine) of the nearest decoder in each that has the space, best
    first."""
    found = []
    for other in others:
        for best, cosine in _engine.find_nearest(FeatureId(dictionary, index), other, 1) or []:
            found.append((other, best, cosine))
    return sorted(found, key=lambda one: -one[2])


def draw_match_table(
    key: str, columns: list[dict[str, str]], rows: list[dict[str, object]]
) -> None:
    """A table of links; a click goes to the feature."""
    components.rows(
        key=key,
        data={"ruled": False, "columns": columns, "rows": rows},
        on_go_change=lambda: session.follow(key),
    )


def make_activation_match_row(
    file: HarvestFile, dictionary: str, match: CorrelatedFeature
) -> dict[str, object]:
    """One match by activations."""
    return make_match_row(file, dictionary, match.feature, [signed(match.correlation)])


def make_match_row(
    file: HarvestFile, dictionary: str, index: int, numbers: list[str]
) -> dict[str, object]:
    """One line of a table."""
    there = Place(file, file.dictionary(dictionary))
    promoted = file.facts(FeatureId(dictionary, index)).promoted_tokens or []
    text = visible(file.vocabulary.text(promoted[0])) if promoted else ""
    return {
        "href": session.href(session.FEATURE, there.at(index)),
        "target": f"{dictionary}/{index}",
        "cells": [f"{dictionary}/{index}", *numbers, text],
        "notes": [],
    }
