"""One feature's values on both sides' texts: every text a point; no Streamlit, no store."""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.charts import template
from app.theme import Palette
from app.wording import measure

HEIGHT_PX = 168
HOVER = 90
"""Characters of a text shown at its point."""


def strip(
    sides: Sequence[tuple[str, np.ndarray, Sequence[str]]], where: str, colours: Palette
) -> go.Figure:
    """A row of points for each (name, values, texts); the mean is a tick. `where` says at which
    token the activation was read."""
    figure = go.Figure()
    rng = np.random.default_rng(0)  # points of equal value lie beside each other, always alike
    for row, (_, values, texts) in enumerate(sides):
        heights = -row + rng.uniform(-0.3, 0.3, len(values))
        said = [f"{measure(float(v))}<br>{brief(t)}" for v, t in zip(values, texts, strict=True)]
        figure.add_trace(
            go.Scatter(
                x=values,
                y=heights,
                mode="markers",
                hovertext=said,
                showlegend=False,
                hovertemplate="%{hovertext}<extra></extra>",
                marker={"color": colours.accent, "size": 6, "opacity": 0.55},
            )
        )
        mean = float(values.mean())
        figure.add_trace(
            go.Scatter(
                x=[mean, mean],
                y=[-row - 0.4, -row + 0.4],
                mode="lines",
                showlegend=False,
                line={"color": colours.text, "width": 2},
                hovertemplate=f"mean {measure(mean)}<extra></extra>",
            )
        )
    figure.update_layout(template=template(colours), height=HEIGHT_PX, margin={"l": 96})
    figure.update_xaxes(title_text=f"activation, {where}; 0 is silent")
    figure.update_yaxes(
        tickvals=[-row for row in range(len(sides))],
        ticktext=[fires(name, values) for name, values, _ in sides],
        range=[0.55 - len(sides), 0.55],
        showgrid=False,
        ticks="",
    )
    return figure


def fires(name: str, values: np.ndarray) -> str:
    """A side's name, and on how many texts the feature fires."""
    short = name if len(name) <= 14 else f"{name[:13]}…"
    return f"{html.escape(short)}<br>{int((values != 0).sum())} of {len(values)}"


def brief(text: str) -> str:
    """The beginning of a text, as Plotly's own little markup takes it."""
    cut = text if len(text) <= HOVER else f"{text[: HOVER - 1]}…"
    return html.escape(" ".join(cut.split()))
