"""Lists as pages change them: what could not be saved is said, and what was typed stays."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app import session
from app.annotations import WRITE_PATIENCE_S, Said
from feature_store.errors import InputError

PROBLEM = "keeping_problem"
READ_ONLY = "This store's catalog cannot be written from here: lists are read-only."


def attempt(work: Callable[..., Any], *given: Any, **more: Any) -> Any:
    """Callback's part: one change of the catalog; None, and a sentence on the page, if it fails."""
    st.session_state.pop(PROBLEM, None)
    try:
        found = work(session.store().catalog, *given, **more, patience_s=WRITE_PATIENCE_S)
    except InputError as error:
        st.session_state[PROBLEM] = str(error)
        return None
    return True if found is None else found


def refuse(sentence: str) -> None:
    """Callback's part: say on the page why nothing was done."""
    st.session_state[PROBLEM] = sentence


def problems(said: Said) -> None:
    """What stands in the way of reading or writing, and what went wrong last."""
    if said.problem:
        sentence = f"Lists may be out of date. {said.problem}"
        st.markdown(f":yellow[{session.literal(sentence)}]")
    if not said.writable:
        st.caption(READ_ONLY)
    if sentence := st.session_state.pop(PROBLEM, None):
        st.markdown(f":red[{session.literal(sentence)}]")


def adopt(key: str, stored: Any) -> None:
    """Set a widget to what is stored whenever that changed; else it keeps what is being typed."""
    seen = f"{key}_stored"
    if key not in st.session_state or st.session_state.get(seen) != stored:
        st.session_state[key] = stored
        st.session_state[seen] = stored
