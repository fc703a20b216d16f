"""What stands under the two columns: title → draw, called when its tab is open."""

from collections.abc import Callable

import streamlit as st

from app.steer.link import MORE
from app.steer_more import direction, dose, examples
from app.steering import SteeringTabContext

TABS: dict[str, Callable[[SteeringTabContext], None]] = {
    one.TITLE: one.draw for one in (dose, examples, direction)
}
"""A line for each; `steering.add` and `steering.put` change the page's edits, in callbacks."""


def draw_more(subject: SteeringTabContext) -> None:
    """The tabs; which is open stands in the URL as `more`."""
    if not TABS:
        return
    tabs = st.tabs(list(TABS), key=MORE, on_change="rerun", bind="query-params")
    for tab, draw in zip(tabs, TABS.values(), strict=True):
        if tab.open:
            with tab:
                draw(subject)
