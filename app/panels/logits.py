"""The panel "Direct effect on logits": tokens that the feature's decoder direction promotes and
suppresses."""

from itertools import zip_longest

import numpy as np
import streamlit as st

from app import components, session, theme, wanted
from app.glossary import define_term
from app.panels.panel_context import PanelContext
from app.tokens import visible
from app.wording import count, measure, signed
from backend.engine_protocol import Engine
from feature_store.null_dictionaries import is_on_shuffled_model
from feature_store.records import DictionaryInfo, FeatureId

TITLE = "Direct effect on logits"
MAX_TOKENS = 7
VALUE_HINT = f"{define_term('logit lens')} At norm scale 1; centred over the vocabulary."
COLUMNS = [
    ("promotes", "token"),
    ("logits", "number"),
    ("suppresses", "token"),
    ("logits", "number"),
]


def draw(panel: PanelContext) -> None:
    """Draw the most promoted and most suppressed tokens with their logits next to each other."""
    facts = panel.facts
    if facts.promoted_tokens is None or facts.suppressed_tokens is None:
        st.caption(session.literal(explain_missing_lens(panel.place.info)))
        return
    up = format_token_values(panel, facts.promoted_tokens, facts.promoted_values or [])
    down = format_token_values(panel, facts.suppressed_tokens, facts.suppressed_values or [])
    both = zip_longest(up, down, fillvalue=("", ""))
    data = {
        "ruled": False,
        "columns": [{"name": name, "kind": kind, "hint": VALUE_HINT} for name, kind in COLUMNS],
        "rows": [{"target": None, "cells": [*one, *other], "notes": []} for one, other in both],
    }
    components.rows(key="feature_logits", data=data)
    draw_vocabulary_effects(panel)


def explain_missing_lens(info: DictionaryInfo) -> str:
    """Return why a dictionary has no logit lens."""
    if not is_on_shuffled_model(info):
        return "Not defined for this hook point."
    return (
        "Not stored: decoder and unembedding are the trained ones, so the logits would "
        "describe the trained dictionary, not this null."
    )


@st.fragment
def draw_vocabulary_effects(panel: PanelContext) -> None:
    """Draw the distribution of the feature's direct effect over the whole vocabulary, computed on
    demand."""
    engine = wanted.engine(panel.place.file, "logits", "Show the whole vocabulary")
    harvest = panel.place.file.record.id
    values = compute_vocabulary_effects(engine, harvest, str(panel.id)) if engine else None
    if values is None:
        return
    from app import charts  # Plotly is slow to import: only on demand

    facts, text = panel.facts, panel.place.file.vocabulary.text
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
        f"kurtosis {measure(facts.logit_kurtosis, 2)}; ticks: the {len(tops)} tokens listed above"
    )


@st.cache_data(show_spinner=False, max_entries=64)
def compute_vocabulary_effects(_engine: Engine, harvest: str, feature: str) -> np.ndarray | None:
    """Return the feature's direct effect on every token [d_vocab], or None without a
    direct path."""
    return _engine.logit_lens(FeatureId.parse(feature))


def format_token_values(
    panel: PanelContext, tokens: list[int], values: list[float]
) -> list[tuple[str, str]]:
    """Return the first `MAX_TOKENS` tokens, with visible white space, and their logits as text."""
    vocabulary = panel.place.file.vocabulary
    found = list(zip(tokens, values, strict=True))[:MAX_TOKENS]
    return [(visible(vocabulary.text(token)), signed(value)) for token, value in found]
