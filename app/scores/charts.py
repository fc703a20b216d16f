"""Scores as figures: distributions beside their nulls, one score against another or density."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import template
from app.points import cut
from app.scores import words
from app.scores.read import Series
from app.theme import Palette
from app.wording import share
from autointerp.scorers import SCORERS
from feature_store.score_storage import NULL_LABELS

ROW_PX, SCATTER_PX = 190, 300
COLUMNS = 3
BINS = 10, 40
"""Fewest and most; between them two for each root of the features."""
DASHES = {"borrowed": "solid", "token": "dash", "constant": "dot"}
LONG = 60
"""Characters of a sentence on hover."""


@dataclass(frozen=True)
class ScatterAxis:
    """One side of a scatter plot."""

    title: str
    values: np.ndarray
    chance: float | None = None
    log: bool = False


def distributions(series: Sequence[Series], colours: Palette) -> go.Figure:
    """A panel for each series: features by score, what the null labels got as lines, chance."""
    rows = -(-len(series) // COLUMNS)
    titles = [one.name + (f" ({one.judge})" if doubled(one, series) else "") for one in series]
    figure = make_subplots(
        rows,
        COLUMNS,
        subplot_titles=[
            f"{cut(title, 34)}, {one.measure}" for title, one in zip(titles, series, strict=True)
        ],
        horizontal_spacing=0.06,
        vertical_spacing=0.34 / rows,
    )
    figure.update_layout(
        template=template(colours),
        height=ROW_PX * rows + 30,
        showlegend=True,
        margin={"t": 46, "l": 40},
        legend={"orientation": "h", "x": 0, "y": 0.995, "yanchor": "top", "yref": "container"},
    )
    figure.update_annotations(font={"size": 12, "color": colours.text})
    for number, one in enumerate(series):
        place: dict[str, Any] = {"row": number // COLUMNS + 1, "col": number % COLUMNS + 1}
        traces, most = panel(one, colours, first=number == 0)
        figure.add_traces(
            traces, rows=[place["row"]] * len(traces), cols=[place["col"]] * len(traces)
        )
        figure.update_yaxes(range=[0, most], **place)
        known = words.chance(one.scorer)
        if known is not None:
            figure.add_vline(
                x=known, line={"width": 1, "dash": "dot", "color": colours.muted}, **place
            )
    figure.update_yaxes(title_text="features", col=1)
    return figure


def doubled(one: Series, series: Sequence[Series]) -> bool:
    """Whether another judge gave the same score."""
    return sum(other.scorer == one.scorer for other in series) > 1


def panel(one: Series, colours: Palette, *, first: bool) -> tuple[list[go.Scatter], float]:
    """The series filled, its nulls as lines, in steps of equal bins; and the upper end of counts:
    a null that is the same for all features runs out of the picture."""
    bins = int(np.clip(2 * np.sqrt(one.valued.sum()), *BINS))
    edges = np.linspace(*span(one), bins + 1)
    own, most = counted(one.value, edges), 0
    found = [steps(own, edges, "this explainer", colours.accent, "solid", first, fill=True)]
    for name in NULL_LABELS:
        counts = counted(one.numbers[name], edges)
        if counts.any():
            title = f"{name} label"
            found.append(steps(counts, edges, title, colours.muted, DASHES[name], first))
            most = max(most, int(counts.max()))
    return found, 1.15 * max(own.max(), min(most, 1.5 * own.max()), 1)


def counted(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Features in each bin."""
    return np.histogram(values[np.isfinite(values)], edges)[0]


def span(one: Series) -> tuple[float, float]:
    """The scorer's bounds, the lower one no further down than there are values."""
    low, high = bounds(one)
    values = np.concatenate([one.value, *(one.numbers[name] for name in NULL_LABELS)])
    least = float(np.nanmin(values, initial=high))
    floor = 0.0 if low < 0 <= least else low
    return (max(floor, np.floor(least * 10) / 10) if least > floor else floor), high


def bounds(one: Series) -> tuple[float, float]:
    """The least and the largest value of a scorer."""
    return SCORERS[one.scorer].bounds if one.scorer in SCORERS else (0.0, 1.0)


def steps(
    counts: np.ndarray,
    edges: np.ndarray,
    name: str,
    colour: str,
    dash: str,
    legend: bool,
    *,
    fill: bool = False,
) -> go.Scatter:
    """Counts in bins as an outline."""
    texts = [
        f"{name}: {n} of {int(counts.sum())}, {words.decimal(a)} to {words.decimal(b)}"
        for n, a, b in zip(counts.tolist(), edges[:-1], edges[1:], strict=True)
    ]
    return go.Scatter(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=legend,
        fill="tozeroy" if fill else None,
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
        line={"shape": "hvh", "width": 1.5 if fill else 1.2, "color": colour, "dash": dash},
    )


def scatter(
    features: np.ndarray,
    texts: Sequence[str],
    x: ScatterAxis,
    y: ScatterAxis,
    colours: Palette,
    aside: str = "",
) -> go.Figure:
    """A point a feature; dotted lines at chance. `aside` is written at the bottom right."""
    hover = [
        f"{feature} {cut(text, LONG)}<br>{shown(x, a)}, {shown(y, b)}"
        for feature, text, a, b in zip(features.tolist(), texts, x.values, y.values, strict=True)
    ]
    figure = go.Figure(
        go.Scattergl(
            x=x.values,
            y=y.values,
            mode="markers",
            customdata=features[:, None],
            hovertext=hover,
            hovertemplate="%{hovertext}<extra></extra>",
            marker={
                "size": 5 if len(features) < 4_000 else 3,
                "color": colours.accent,
                "opacity": 0.55,
                "line": {"width": 0},
            },
        )
    )
    line = {"width": 1, "dash": "dot", "color": colours.muted}
    if x.chance is not None:
        figure.add_vline(x=x.chance, line=line)
    if y.chance is not None:
        figure.add_hline(y=y.chance, line=line)
    if aside:
        figure.add_annotation(
            text=aside,
            xref="paper",
            yref="paper",
            x=1,
            y=0,
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            font={"size": 11, "color": colours.muted},
        )
    figure.update_layout(
        template=template(colours),
        height=SCATTER_PX,
        dragmode="select",
        margin={"l": 52, "b": 44},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": colours.muted, "activecolor": colours.accent},
    )
    figure.update_xaxes(title_text=x.title, **logged(x))
    figure.update_yaxes(title_text=y.title, **logged(y))
    return figure


def shown(axis: ScatterAxis, value: float) -> str:
    """A coordinate as the hover says it."""
    return f"density {share(value)}" if axis.log else f"{axis.title} {words.decimal(value)}"


def logged(axis: ScatterAxis) -> dict[str, Any]:
    """A log axis of shares, or nothing."""
    if not axis.log:
        return {}
    kept = axis.values[axis.values > 0]
    low, high = (np.log10(kept.min()), np.log10(kept.max())) if len(kept) else (-4, 0)
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    ticks = [m * 10.0**p for p in powers for m in ((1, 2, 5) if len(powers) < 5 else (1,))]
    return {"type": "log", "tickvals": ticks, "ticktext": [share(tick) for tick in ticks]}
