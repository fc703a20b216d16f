"""The model for what a page could also show: loaded only after somebody has asked for it once."""

from collections.abc import Sequence

import streamlit as st

from app import live, session
from backend.engine_protocol import Engine
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.null_dictionaries import describe_shuffled_refusal, is_on_shuffled_model

ASKED = "wanted_asked"


def engine(file: HarvestFile, key: str, label: str, about: Sequence[str] = ()) -> Engine | None:
    """The engine; until this visitor has asked for it anywhere, a button that does.

    While it loads, where this machine lacks the weights, and where a dictionary that it is to be
    asked `about` is not of the model, a line says so and this is None.
    """
    for name in about:
        if is_on_shuffled_model(file.dictionary(name)):
            st.caption(session.literal(describe_shuffled_refusal(name)))
            return None
    if not st.session_state.get(ASKED):
        st.button(
            label,
            key=f"wanted_{key}",
            type="tertiary",
            on_click=ask,
            help="Needs the model's weights: some ten seconds to load, once.",
        )
        return None
    try:
        return live.ready(file, about)
    except InputError as error:
        st.caption(session.literal(str(error)))
        return None


def ask() -> None:
    """Callback: from now on, everything that needs the model is shown."""
    st.session_state[ASKED] = True
