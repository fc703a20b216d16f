"""Numbers → figure, in the house template; no Streamlit, no store."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.theme import Palette
from app.wording import count, measure, plural, signed
from feature_store.histogram import bin_edge

HEIGHT_PX = 152
EFFECT_BINS = 60


def template(colours: Palette) -> go.layout.Template:
    """Plotly's template of the house: quiet axes, no background of its own."""
    axis = {
        "showgrid": False, "zeroline": False, "linecolor": colours.border, "ticks": "outside",
        "tickcolor": colours.border, "ticklen": 3, "title": {"standoff": 4, "font": {"size": 12}},
    }  # fmt: skip
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


def histogram(
    positive: tuple[int, Sequence[int]] | None,
    negative: tuple[int, Sequence[int]] | None,
    colours: Palette,
    *,
    log_counts: bool,
    marker: float | None = None,
) -> go.Figure:
    """Tokens by activation, |a| on a log axis; a negative side is mirrored to the left.

    A side is (number of its first bin, counts), bins as in feature_store.histogram. `marker` is an
    activation to draw a line at.
    """
    sides = [
        (side, sign) for side, sign in ((negative, -1), (positive, 1)) if side and any(side[1])
    ]
    starts = [math.log10(bin_edge(start)) for (start, _), _ in sides]
    mirrored = negative is not None
    floor = min(starts, default=0.0) - 0.1 if mirrored else 0.0
    figure = go.Figure()
    for (start, counts), sign in sides:
        fill = colours.positive if sign > 0 else colours.negative
        figure.add_trace(bars(start, counts, sign, floor if mirrored else 0.0, fill))
    ends = [(start, start + len(counts)) for (start, counts), _ in sides]
    figure.update_layout(template=template(colours), height=HEIGHT_PX)
    figure.update_xaxes(ticks(ends, floor, mirrored=mirrored), title_text="activation, log scale")
    figure.update_yaxes(title_text="tokens", rangemode="tozero", nticks=4)
    if log_counts:
        most = max((n for (_, counts), _ in sides for n in counts), default=1)
        figure.update_yaxes(log_ticks(most))
    if marker:
        place = math.copysign(math.log10(abs(marker)) - floor, marker)
        figure.add_vline(place, line={"color": colours.text, "width": 1.5, "dash": "dot"})
    return figure


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
            x=middles, y=np.where(counts > 0, counts, np.nan), width=edges[1] - edges[0],
            marker={"color": colours.muted, "line": {"width": 0}},
            hovertext=texts, hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_scatter(
        x=[value for value, _ in tops], y=[0.72] * len(tops), mode="markers",
        marker={"symbol": "line-ns-open", "size": 9, "color": colours.accent},
        hovertext=[f"{text} {signed(value)}" for value, text in tops],
        hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip
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


def bars(start: int, counts: Sequence[int], sign: int, floor: float, fill: str) -> go.Bar:
    """One side's bars, placed by the logarithm of their edges; empty bins are left out."""
    middles, widths, heights, texts = [], [], [], []
    for offset, n in enumerate(counts):
        if not n:
            continue
        low, high = bin_edge(start + offset), bin_edge(start + offset + 1)
        middles.append(sign * ((math.log10(low) + math.log10(high)) / 2 - floor))
        widths.append(math.log10(high) - math.log10(low))
        heights.append(n)
        minus = "−" if sign < 0 else ""
        texts.append(f"{count(n)} tokens, {minus}{measure(low)} to {minus}{measure(high)}")
    return go.Bar(
        x=middles, y=heights, width=widths, marker={"color": fill, "line": {"width": 0}},
        hovertext=texts, hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip


def ticks(ends: Sequence[tuple[int, int]], floor: float, *, mirrored: bool) -> dict[str, object]:
    """Ticks at 1, 2, 5 of each decade, at the decades alone where those would crowd."""
    if not ends:
        return {"showticklabels": False}
    low = min(math.log10(bin_edge(start)) for start, _ in ends)
    high = max(math.log10(bin_edge(end)) for _, end in ends)
    steps = (1, 2, 5) if (high - low) * (2 if mirrored else 1) < 3 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    values = [m * 10.0**d for d in decades for m in steps if low <= math.log10(m * 10.0**d) <= high]
    signs = (-1, 1) if mirrored else (1,)
    return {
        "tickvals": [s * (math.log10(v) - floor) for s in signs for v in values],
        "ticktext": [f"{'−' if s < 0 else ''}{v:g}" for s in signs for v in values],
    }
