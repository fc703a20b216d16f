"""Change the model while it speaks: default and steered text side by side."""

import streamlit as st

from app import annotations, frame, session, steering
from app.steer.tabs import draw_more

place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title("Steer", anchor=False)
draw_more(steering.Subject(place, annotations.read(), steering.Setting(edits=steering.edits())))
