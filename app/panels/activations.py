"""How strongly it fires, and how often."""

import streamlit as st

from app import charts, theme
from app.panels.subject import Subject
from app.wording import count, plural

TITLE = "Activations"


@st.fragment
def draw(subject: Subject) -> None:
    """The histogram, with log or linear counts."""
    facts = subject.facts
    positive: tuple[int, list[int]] | None = None
    negative = None
    if facts.positive and facts.negative:
        positive = side(facts.positive.histogram_start, facts.positive.histogram)
        negative = side(facts.negative.histogram_start, facts.negative.histogram)
    else:
        positive = side(facts.histogram_start, facts.histogram)
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        note, toggle = st.empty(), st.empty()
    tokens = plural(subject.place.file.record.tokens, "token")
    note.caption(f"{count(facts.n_active)} of {tokens}", width="content")
    scale = toggle.segmented_control(
        "Counts", ["log", "linear"], default="log", key="counts", required=True,
        label_visibility="collapsed", persist_state="session",
    )  # fmt: skip
    colours = theme.palette(st.context.theme.type)
    figure = charts.histogram(positive, negative, colours, log_counts=scale == "log")
    st.plotly_chart(
        figure, theme=None, key="histogram", config={"displaylogo": False, "displayModeBar": False}
    )


def side(start: int | None, counts: list[int] | None) -> tuple[int, list[int]] | None:
    """A histogram as the chart takes it; none for a side that never fired."""
    return None if start is None or not counts else (start, counts)
