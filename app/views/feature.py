"""The feature page: heading and panels of one feature."""

import streamlit as st

from app import annotations, frame, session, sheet
from app.panels import PANELS, feature_heading, notes
from app.panels.panel_context import PanelContext


def whole(subject: PanelContext) -> None:
    """Draw the panels in two columns, and a row of tabs below them."""
    with st.container(key="feature_body"):
        left, right = st.columns([12, 7], gap="medium")
    for part, name in ((left, "left"), (right, "right")):
        for panel in PANELS[name]:
            with part, st.container(gap="xxsmall", key=f"panel_{panel.TITLE}"):
                st.subheader(panel.TITLE, anchor=False)
                panel.draw(subject)
    below(subject)


def below(subject: PanelContext) -> None:
    """Draw the tabs; the URL holds the open one as `tab`."""
    titles = {panel.TITLE: panel for panel in PANELS["below"]}
    tabs = st.tabs(
        list(titles), key="tab", default=list(titles)[-1], on_change="rerun", bind="query-params"
    )
    for tab, panel in zip(tabs, titles.values(), strict=True):
        if tab.open:
            with tab:
                panel.draw(subject)


def dead(subject: PanelContext) -> None:
    """Draw a feature that never fired: an explanation, and its notes."""
    feature_heading.draw_dead_feature(subject)
    with st.container(gap="xxsmall", key=f"panel_{notes.TITLE}", width=480):
        st.subheader(notes.TITLE, anchor=False)
        notes.draw(subject)


place, feature = session.feature()
frame.sidebar(place)
bar = frame.bar(place)
found = PanelContext.read(place, feature, annotations.read())
with bar:
    sheet.take_away(found)
feature_heading.draw_heading(found)
whole(found) if found.facts.n_active else dead(found)
