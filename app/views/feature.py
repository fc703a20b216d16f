"""One feature: everything that the store knows of it."""

import streamlit as st

from app import annotations, frame, session, sheet
from app.panels import PANELS, heading, notes
from app.panels.subject import Subject

place, feature = session.feature()
frame.sidebar(place)
bar = frame.bar(place)
subject = Subject.read(place, feature, annotations.read())
with bar:
    sheet.take_away(subject)
heading.draw(subject)
if subject.facts.n_active:
    with st.container(key="feature_body"):
        left, right = st.columns([12, 7], gap="medium")
    parts = {"left": left, "right": right}
    for part, panels in PANELS.items():
        for panel in panels:
            with parts[part], st.container(gap="xxsmall", key=f"panel_{panel.TITLE}"):
                st.subheader(panel.TITLE, anchor=False)
                panel.draw(subject)
else:
    heading.draw_dead(subject)
    with st.container(gap="xxsmall", key=f"panel_{notes.TITLE}", width=480):
        st.subheader(notes.TITLE, anchor=False)
        notes.draw(subject)
