"""Numbers → figure, in the house template; no Streamlit, no store."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.theme import Palette
from app.wording import count, plural, signed

HEIGHT_PX = 152
EFFECT_BINS = 60


def template(colours: Palette) -> go.layout.Template:
    """Plotly's template of the house: quiet axes, no background of its own."""
    axis = {
        "showgrid": False,
        "zeroline": False,
        "linecolor": colours.border,
        "ticks": "outside",
        "tickcolor": colours.border,
        "ticklen": 3,
        "title": {"standoff": 4, "font": {"size": 12}},
    }
    hover = {"bgcolor": colours.raised, "bordercolor": colours.border}
    return go.layout.Template(
        layout={
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "Source Sans, sans-serif", "size": 12, "color": colours.muted},
            "hoverlabel": hover | {"font": {"color": colours.text}},
            "margin": {"l": 44, "r": 8, "t": 6, "b": 36},
            "xaxis": axis,
            "yaxis": axis | {"showgrid": True, "gridcolor": colours.border},
            "bargap": 0,
            "showlegend": False,
        }
    )


def effects(values: np.ndarray, tops: Sequence[tuple[float, str]], colours: Palette) -> go.Figure:
    """Tokens of the vocabulary by their logit effect, log counts; `tops` are (value, token text) to
    mark, below the bars."""
    counts, edges = np.histogram(values, bins=EFFECT_BINS)
    middles = (edges[1:] + edges[:-1]) / 2
    texts = [
        f"{plural(int(n), 'token')}, {signed(low)} to {signed(high)}"
        for n, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    figure = go.Figure(
        go.Bar(
            x=middles,
            y=np.where(counts > 0, counts, np.nan),
            width=edges[1] - edges[0],
            marker={"color": colours.muted, "line": {"width": 0}},
            hovertext=texts,
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    figure.add_scatter(
        x=[value for value, _ in tops],
        y=[0.72] * len(tops),
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "color": colours.accent},
        hovertext=[f"{text} {signed(value)}" for value, text in tops],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.update_layout(template=template(colours), height=HEIGHT_PX)
    figure.update_xaxes(title_text="logits per unit of activation")
    figure.update_yaxes(log_ticks(int(counts.max())), title_text="tokens")
    return figure


def log_ticks(most: int) -> dict[str, object]:
    """A log axis of counts from below 1, so that a single token shows, to above the most."""
    steps = (1, 2, 5) if most < 100 else (1,)
    values = [m * 10**d for d in range(len(str(most))) for m in steps if m * 10**d <= most]
    return {
        "type": "log",
        "range": [math.log10(0.6), math.log10(max(most, 2) * 1.2)],
        "tickvals": values,
        "ticktext": [count(v) for v in values],
    }
