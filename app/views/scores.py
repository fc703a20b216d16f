"""How well explanations do: distributions, nulls, agreement, and what it cost."""

import sys

import streamlit as st

from app import annotations, frame, session
from app.session import Place


def draw(here: Place) -> None:
    """What is under the title; the first visit waits for what computes and draws."""
    said = st.empty()
    if "app.scores.page" not in sys.modules:
        said.caption("Getting ready to draw: some seconds, once.")
    try:
        from app.scores import page

        page.draw(here, annotations.read())
    finally:
        said.empty()


place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title(f"Scores of {session.literal(place.info.dictionary)}", anchor=False)
draw(place)
