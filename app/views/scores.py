"""How well explanations do: distributions, nulls, agreement, and what it cost."""

import streamlit as st

from app import annotations, frame, session
from app.scores import page

place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title(f"Scores of {session.literal(place.info.dictionary)}", anchor=False)
page.draw(place, annotations.read())
