"""Source tokens of an attention feature: direct feature attribution in a stored context."""

import numpy as np
import streamlit as st

from app import components
from app.panels.panel_context import PanelContext
from app.panels.removal_effect import select_strongest_contexts
from app.tokens import visible
from app.wording import measure
from backend.engine_protocol import DirectFeatureAttribution, Engine

CONTEXT_KEY = "attention_context"


def draw_source_tokens(subject: PanelContext, engine: Engine, shares: list[float]) -> None:
    """Where the activation at a context's peak comes from. InputError where that is not defined."""
    contexts = select_strongest_contexts(subject.contexts)
    number = st.segmented_control(
        "Source tokens in a strong context",
        range(len(contexts)),
        default=0,
        required=True,
        format_func=lambda i: measure(contexts[i].value),
        key=f"{CONTEXT_KEY}_{subject.id}",
    )
    context = contexts[number or 0]
    tokens = subject.place.file.sequences.tokens(context.sequence)
    found = engine.attribute_to_sources(subject.id, tokens, context.peak)
    st.caption(
        f"The pre-activation at position {context.peak} of "
        f"{subject.place.file.documents[context.document]}, taken apart by head and source token "
        "with the attention patterns held fixed: the parts and the bias add up to it."
    )
    components.sources(
        key="attention_sources",
        data=make_source_data(subject, tokens[: context.peak + 1], found, shares),
    )


def make_source_data(
    subject: PanelContext, ids: np.ndarray, found: DirectFeatureAttribution, shares: list[float]
) -> dict[str, object]:
    """As the component takes it; numbers short enough to travel."""
    texts = subject.place.file.vocabulary.display(ids)
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
