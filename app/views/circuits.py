"""Which features a behaviour runs through, and how well that stands up to ablation."""

import streamlit as st

from app import frame, session
from app.circuits import opened, page

place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title("Circuits", anchor=False)
found = opened.named(place)
if found is not None:
    page.draw(place, found)
