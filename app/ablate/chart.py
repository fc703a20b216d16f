"""Effects as figures: predicted against measured, and controls beside the effect."""

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.charts import template
from app.theme import Palette
from app.wording import measure, signed

HEIGHT_PX = 330
NULL_PX = 130


def scatter(points: Sequence[tuple[str, float, float]], colours: Palette) -> go.Figure:
    """(name, predicted, measured): a point each, and the line on which both agree."""
    figure = go.Figure()
    x, y = [p for _, p, _ in points], [m for _, _, m in points]
    ends = [min([*x, *y, 0.0]), max([*x, *y, 0.0])]
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        hoverinfo="skip",
        line={"color": colours.border, "width": 1},
    )
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"color": colours.accent, "size": 7, "opacity": 0.7},
        hovertext=[
            f"{html.escape(name)}<br>predicted {signed(p, 3)}, measured {signed(m, 3)}"
            for name, p, m in points
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.update_layout(template=template(colours), height=HEIGHT_PX)
    figure.update_xaxes(
        title_text="predicted effect, nats", showgrid=True, gridcolor=colours.border
    )
    figure.update_yaxes(title_text="measured by removing it, nats")
    return figure


def null(effect: float, controls: Sequence[float], colours: Palette) -> go.Figure:
    """Each control's effect as a tick, and the effect itself."""
    figure = go.Figure()
    figure.add_scatter(
        x=list(controls),
        y=np.zeros(len(controls)).tolist(),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 16, "color": colours.muted},
        hovertext=[f"control {signed(v, 3)}" for v in controls],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.add_scatter(
        x=[effect],
        y=[0],
        mode="markers+text",
        text=[measure(effect)],
        textposition="top center",
        marker={"size": 11, "color": colours.accent},
        textfont={"color": colours.text},
        hovertext=[f"these parts {signed(effect, 3)}"],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.update_layout(template=template(colours), height=NULL_PX)
    figure.update_xaxes(
        title_text="mean effect on the target, nats", zeroline=True, zerolinecolor=colours.border
    )
    figure.update_yaxes(visible=False, range=[-0.6, 1])
    return figure
