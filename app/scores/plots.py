"""The two scatter plots of the Scores page; a box drawn in one leads to the table of features."""

import numpy as np
import streamlit as st

from app import session, theme
from app.scores import charts, picks, words
from app.scores.charts import ScatterAxis
from app.scores.read import Series, matched
from app.session import Place
from app.wording import plural

QUIET = {
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["toImage", "autoScale2d"],
}
OUTPUT = ("intervention", "predicted-logits")
"""Scores of what a feature does, the surest first; the others are about what it fires on."""
INPUT = ("detection", "fuzzing", "simulation", "embedding")


def effect(here: Place, mine: list[Series]) -> None:
    """What a label says of inputs against what it says of outputs: good label, no effect."""
    st.subheader("Input score against output score", anchor=False)
    x, y = first(mine, INPUT), first(mine, OUTPUT)
    if x is None or y is None:
        lacking = "what features fire on" if x is None else "what features make the model say"
        st.caption(f"No score of {lacking} yet.")
        if y is None:
            st.page_link(
                session.JOBS,
                label="Score outputs: intervention, predicted-logits",
                query_params={**here.query, "start": "score"},
            )
        return
    features, a, b = matched(x, y)
    axes = axis(x, x.value[a]), axis(y, y.value[b])
    drawn(here, "effect", features, [x.text[i] for i in a.tolist()], axes, "good label, no effect")


def density(here: Place, mine: list[Series]) -> None:
    """A score against how often features fire."""
    st.subheader("Score against density", anchor=False)
    one = first(mine, INPUT) or mine[0]
    kept = np.flatnonzero(one.valued & (one.numbers["density"] > 0))
    across = ScatterAxis("density", one.numbers["density"][kept], log=True)
    texts = [one.text[i] for i in kept.tolist()]
    drawn(here, "density", one.feature[kept], texts, (across, axis(one, one.value[kept])), "")


def first(mine: list[Series], scorers: tuple[str, ...]) -> Series | None:
    """The first of these scorers that has a value anywhere."""
    for name in scorers:
        for one in mine:
            if one.scorer == name and one.valued.any():
                return one
    return None


def axis(one: Series, values: np.ndarray) -> ScatterAxis:
    """A side of a plot for a series."""
    return ScatterAxis(f"{one.name.lower()}, {one.measure}", values, words.chance(one.scorer))


def drawn(
    here: Place,
    key: str,
    features: np.ndarray,
    texts: list[str],
    axes: tuple[ScatterAxis, ScatterAxis],
    aside: str,
) -> None:
    """The plot, and a way to what was boxed in it."""
    if not len(features):
        st.caption("No feature has both.")
        return
    colours = theme.palette(st.context.theme.type)
    event = st.plotly_chart(
        charts.scatter(features, texts, *axes, colours, aside),
        theme=None,
        key=f"scores_{key}",
        on_select="rerun",
        selection_mode=("box", "lasso"),
        config=QUIET,
    )
    points = event["selection"]["points"]
    boxed = sorted(
        {
            int(features[point["point_index"]])
            for point in points
            if point["point_index"] < len(features)
        }
    )
    if boxed:
        picks.in_table(here, np.array(boxed), "in the box")
    else:
        st.caption(f"{plural(len(features), 'feature')} · draw a box to open features in the table")
