"""Scores of a dictionary above those of its null dictionaries: a row each, on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import template
from app.scores import charts, words
from app.scores.read import Series
from app.theme import Palette
from app.wording import count, share
from feature_store.statistics import Estimate

ROW_PX, HEAD_PX, FOOT_PX, LEFT_PX = 44, 34, 30, 84
COLUMNS = 3
TALL = 0.8
"""Of a row, what the highest step takes."""


@dataclass(frozen=True)
class Row:
    """One dictionary's scores."""

    name: str
    values: np.ndarray
    """Of its features, NaN for none."""
    mean: Estimate


@dataclass(frozen=True)
class Panel:
    """One score of a dictionary and, below it, of its null dictionaries."""

    series: Series
    rows: tuple[Row, ...]
    """The dictionary's own first."""


def rows(panels: Sequence[Panel], names: Sequence[str], colours: Palette) -> go.Figure:
    """A panel a score, and in it a row for each of the dictionaries `names`, where it has one: what
    share of its features has which score, and their mean with its interval."""
    lines = -(-len(panels) // COLUMNS)
    height = HEAD_PX + ROW_PX * len(names) + FOOT_PX
    figure = make_subplots(
        lines,
        COLUMNS,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[title(panel, panels) for panel in panels],
        vertical_spacing=min(0.9 * (HEAD_PX + FOOT_PX) / (height * lines), 1 / max(lines - 1, 1)),
    )
    places = {name: len(names) - 1 - number for number, name in enumerate(names)}
    for number, panel in enumerate(panels):
        at: dict[str, Any] = {"row": number // COLUMNS + 1, "col": number % COLUMNS + 1}
        for trace in traces(panel, places, colours):
            figure.add_trace(trace, **at)
        if (known := words.chance(panel.series.scorer)) is not None:
            line = {"width": 1, "dash": "dot", "color": colours.muted}
            figure.add_vline(x=known, line=line, **at)
    figure.update_annotations(font={"size": 12, "color": colours.text})
    figure.update_layout(
        template=template(colours),
        height=height * lines,
        margin={"l": LEFT_PX, "t": HEAD_PX, "b": FOOT_PX},
    )
    figure.update_yaxes(
        tickvals=[place + TALL / 4 for place in places.values()],
        ticktext=[names[0], *(name.removeprefix(names[0]) for name in names[1:])],
        range=[-0.12, len(names)],
        showgrid=False,
        ticks="",
    )
    return figure


def title(panel: Panel, panels: Sequence[Panel]) -> str:
    """Of a score; with its judge where there are several."""
    one = panel.series
    judge = f" ({one.judge})" if charts.doubled(one, [p.series for p in panels]) else ""
    return f"{one.name}{judge}, {one.measure}"


def traces(panel: Panel, places: dict[str, int], colours: Palette) -> list[go.Scatter]:
    """The outline and the mean of every row."""
    known = np.concatenate([row.values[np.isfinite(row.values)] for row in panel.rows])
    low, high = charts.bounds(panel.series)
    least = max(low, float(np.floor(known.min(initial=high) * 10) / 10))
    bins = int(np.clip(2 * np.sqrt(min(row.mean.n for row in panel.rows)), *charts.BINS))
    edges = np.linspace(least, high, bins + 1)
    shares = [charts.counted(row.values, edges) / max(row.mean.n, 1) for row in panel.rows]
    highest = max(float(one.max()) for one in shares) or 1.0
    found = []
    for number, (row, heights) in enumerate(zip(panel.rows, shares, strict=True)):
        colour = colours.muted if number else colours.accent
        found += [
            *outline(row, heights, TALL / highest, edges, places[row.name], colour),
            *mean(row, places[row.name], colours),
            size(row, high, places[row.name], colours),
        ]
    return found


def outline(
    row: Row, heights: np.ndarray, scale: float, edges: np.ndarray, place: int, colour: str
) -> list[go.Scatter]:
    """The ground line, and steps that are filled down to it."""
    texts = [
        f"{row.name}: {share(part)} of {count(row.mean.n)} features, "
        f"{words.decimal(low)} to {words.decimal(high)}"
        for part, low, high in zip(heights.tolist(), edges[:-1], edges[1:], strict=True)
    ]
    ground = go.Scatter(
        x=edges[[0, -1]], y=[place, place], mode="lines", line={"width": 0}, hoverinfo="skip"
    )
    steps = go.Scatter(
        x=np.r_[edges[0], (edges[:-1] + edges[1:]) / 2, edges[-1]],
        y=place + scale * heights[[0, *range(len(heights)), -1]],
        mode="lines",
        fill="tonexty",
        hovertext=[texts[0], *texts, texts[-1]],
        hovertemplate="%{hovertext}<extra></extra>",
        line={"shape": "hvh", "width": 1.2, "color": colour},
    )
    return [ground, steps]


def mean(row: Row, place: int, colours: Palette) -> list[go.Scatter]:
    """A dot with its interval on the ground line; none where there are too few features."""
    one = row.mean
    if one.value is None or one.low is None or one.high is None:
        return []
    text = f"{row.name}: mean {words.ranged(one)} of {count(one.n)} features"
    return [
        go.Scatter(
            x=[one.value],
            y=[place],
            mode="markers",
            hovertext=[text],
            hovertemplate="%{hovertext}<extra></extra>",
            marker={"size": 6, "color": colours.text},
            error_x={
                "type": "data",
                "array": [one.high - one.value],
                "color": colours.text,
                "arrayminus": [one.value - one.low],
                "thickness": 1.5,
                "width": 4,
            },
        )
    ]


def size(row: Row, right: float, place: int, colours: Palette) -> go.Scatter:
    """How many features a row is of, at its end."""
    return go.Scatter(
        x=[right],
        y=[place + TALL / 2],
        mode="text",
        text=[f"n {count(row.mean.n)}"],
        textposition="middle left",
        textfont={"size": 11, "color": colours.muted},
        hoverinfo="skip",
    )
