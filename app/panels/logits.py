"""Tokens whose logits the feature's decoder raises and lowers most."""

from itertools import zip_longest

import numpy as np
import streamlit as st

from app import components, session, theme, wanted
from app.panels.panel_context import PanelContext
from app.tokens import visible
from app.wording import count, measure, signed
from backend.engine_protocol import Engine
from feature_store.null_dictionaries import is_on_shuffled_model
from feature_store.records import DictionaryInfo, FeatureId

TITLE = "Direct effect on logits"
MAX_TOKENS = 7
VALUE_HINT = "direct path, per unit of activation, at norm scale 1; centred over the vocabulary"
COLUMNS = [
    ("promotes", "token"),
    ("logits", "number"),
    ("suppresses", "token"),
    ("logits", "number"),
]


def draw(subject: PanelContext) -> None:
    """Two lists of tokens with their values, side by side."""
    facts = subject.facts
    if facts.promoted_tokens is None or facts.suppressed_tokens is None:
        st.caption(session.literal(explain_missing_lens(subject.place.info)))
        return
    up = format_token_values(subject, facts.promoted_tokens, facts.promoted_values or [])
    down = format_token_values(subject, facts.suppressed_tokens, facts.suppressed_values or [])
    both = zip_longest(up, down, fillvalue=("", ""))
    data = {
        "ruled": False,
        "columns": [{"name": name, "kind": kind, "hint": VALUE_HINT} for name, kind in COLUMNS],
        "rows": [{"target": None, "cells": [*one, *other], "notes": []} for one, other in both],
    }
    components.rows(key="feature_logits", data=data)
    draw_vocabulary_effects(subject)


def explain_missing_lens(info: DictionaryInfo) -> str:
    """Why a dictionary has no lens."""
    if not is_on_shuffled_model(info):
        return "Not defined for this hook point."
    return (
        "Not kept: decoder and unembedding are the trained ones, so this would tell of the "
        "dictionary that this is a null of."
    )


@st.fragment
def draw_vocabulary_effects(subject: PanelContext) -> None:
    """Where those tokens lie among all of the vocabulary: computed from the weights, on demand."""
    engine = wanted.engine(subject.place.file, "logits", "Show the whole vocabulary")
    harvest = subject.place.file.record.id
    values = compute_vocabulary_effects(engine, harvest, str(subject.id)) if engine else None
    if values is None:
        return
    from app import charts  # Plotly, for those who asked

    facts, text = subject.facts, subject.place.file.vocabulary.text
    tops = [
        (float(values[token]), visible(text(token)))
        for token in [*(facts.promoted_tokens or []), *(facts.suppressed_tokens or [])]
    ]
    figure = charts.effects(values, tops, theme.palette(st.context.theme.type))
    st.plotly_chart(
        figure, theme=None, key="effects", config={"displaylogo": False, "displayModeBar": False}
    )
    spread = measure(float(values.std()), 2)
    st.caption(
        f"{count(len(values))} tokens, standard deviation {spread}, "
        f"kurtosis {measure(facts.logit_kurtosis, 2)}; ticks: the {len(tops)} stored ends"
    )


@st.cache_data(show_spinner=False, max_entries=64)
def compute_vocabulary_effects(_engine: Engine, harvest: str, feature: str) -> np.ndarray | None:
    """The feature's effect on every token; None where it has no direct path."""
    return _engine.logit_lens(FeatureId.parse(feature))


def format_token_values(
    subject: PanelContext, tokens: list[int], values: list[float]
) -> list[tuple[str, str]]:
    """The first few tokens, visible, with their values."""
    vocabulary = subject.place.file.vocabulary
    found = list(zip(tokens, values, strict=True))[:MAX_TOKENS]
    return [(visible(vocabulary.text(token)), signed(value)) for token, value in found]
