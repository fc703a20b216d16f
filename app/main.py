"""The frame of every page, and which pages there are."""

import streamlit as st

from app import frame, live, session
from feature_store.errors import InputError
from feature_store.permissions import refuse_costly_work_unless_stated

refuse_costly_work_unless_stated()
page = st.navigation(
    [
        st.Page(session.LIBRARY, title="Library", default=True),
        st.Page(session.FEATURES, title="Features"),
        st.Page(session.FEATURE, title="Feature"),
        st.Page(session.COMPARE, title="Compare"),
        st.Page(session.DOCUMENT, title="Document"),
        st.Page(session.SEARCH, title="Search"),
        st.Page(session.PROMPT, title="Prompt"),
        st.Page(session.STEER, title="Steer"),
        st.Page(session.ABLATE, title="Ablate"),
        st.Page(session.CIRCUITS, title="Circuits"),
        st.Page(session.BEHAVIOURS, title="Behaviours"),
        st.Page(session.SHIFT, title="SHIFT"),
        st.Page(session.EXPERIMENTS, title="Experiments"),
        st.Page(session.CONTRAST, title="Contrast"),
        st.Page(session.SCORES, title="Scores"),
        st.Page(session.LISTS, title="Lists"),
        st.Page(session.SQL, title="SQL"),
        st.Page(session.MAP, title="Map"),
        st.Page(session.JOBS, title="Jobs"),
    ],
    position="hidden",
)
st.set_page_config(
    page_title=frame.tab(page.title),
    layout="wide",
    initial_sidebar_state=200,
    menu_items={"About": "Saefari: look inside the features of sparse autoencoders."},
)
st.html(frame.STYLE)
st.session_state[frame.BEGUN] = False
try:
    with live.visit():
        page.run()
except InputError as error:
    frame.refused(error)
