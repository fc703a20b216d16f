"""SHIFT: find what a probe relies on, take away what it should not, see what becomes of it."""

import streamlit as st

from app import frame, session
from app.shift import fields, page

place = session.place()
frame.sidebar(place)
frame.bar(place)
st.title("SHIFT", anchor=False)
fields.adopt(place)
page.draw(place)
