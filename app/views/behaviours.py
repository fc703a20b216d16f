"""Circuits in bulk: what a model predicts well, grouped by the features behind it."""

import streamlit as st

from app import frame, session
from app.behaviours import page, starting

place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title("Behaviours", anchor=False)
starting.form(place)
found = page.found(place)
if found is None:
    st.caption(
        "Next tokens that the model predicts well are grouped by the features that they depend "
        "on: each group is a behaviour, its features a first circuit. No run of this harvest "
        "is kept yet."
    )
else:
    page.draw(place, found)
