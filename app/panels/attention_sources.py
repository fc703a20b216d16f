"""Source tokens of a feature that reads attention outputs: direct feature attribution of its
activation at the peak of a stored context."""

import numpy as np
import streamlit as st

from app import components
from app.panels.panel_context import PanelContext
from app.panels.removal_effect import select_strongest_contexts
from app.tokens import visible
from app.wording import measure
from backend.engine_protocol import DirectFeatureAttribution, Engine

CONTEXT_KEY = "attention_context"


def draw_source_tokens(panel: PanelContext, engine: Engine, shares: list[float]) -> None:
    """Draw the contribution of each head and source token to the activation at a context's peak.

    `shares` is each head's share of the decoder's norm. Raises InputError where direct feature
    attribution is not defined.
    """
    contexts = select_strongest_contexts(panel.contexts)
    number = st.segmented_control(
        "Source tokens in a strong context",
        range(len(contexts)),
        default=0,
        required=True,
        format_func=lambda i: measure(contexts[i].value),
        key=f"{CONTEXT_KEY}_{panel.id}",
    )
    context = contexts[number or 0]
    tokens = panel.place.file.sequences.tokens(context.sequence)
    found = engine.attribute_to_sources(panel.id, tokens, context.peak)
    st.caption(
        f"The pre-activation at position {context.peak} of "
        f"{panel.place.file.documents[context.document]}, split by head and source token "
        "with attention patterns held fixed. The parts and the bias add up to the pre-activation."
    )
    components.sources(
        key="attention_sources",
        data=make_source_data(panel, tokens[: context.peak + 1], found, shares),
    )


def make_source_data(
    panel: PanelContext, ids: np.ndarray, found: DirectFeatureAttribution, shares: list[float]
) -> dict[str, object]:
    """Return the attribution as the component takes it, rounded to keep the message short."""
    texts = panel.place.file.vocabulary.display(ids)
    return {
        "tokens": [
            {"text": visible(text), "id": token, "breaks": "\n" in text}
            for text, token in zip(texts, ids.tolist(), strict=True)
        ],
        "parts": np.round(found.parts, 5).tolist(),
        "pattern": np.round(found.pattern, 4).tolist(),
        "shares": shares,
        "bias": found.bias,
        "total": found.total,
    }
