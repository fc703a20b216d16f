"""Buttons that start costly work: off, with the reason, where the pages may not start any."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from feature_store.permissions import REFUSAL, is_costly_work_allowed


def draw_costly_button(
    label: str, on_click: Callable[..., None], *, args: tuple[Any, ...] = (), **options: Any
) -> None:
    """Draw a button that starts a job, a long computation or paid requests.

    The button is only courtesy: what it starts refuses by itself where costly work is not allowed
    (`feature_store/permissions.py`). `options` are those of `st.button`.
    """
    if not is_costly_work_allowed():
        options |= {"disabled": True, "help": REFUSAL}
    st.button(label, on_click=on_click, args=args, **options)


def draw_refusal() -> None:
    """Say in the place of a form why nothing can be started here."""
    st.caption(REFUSAL)
