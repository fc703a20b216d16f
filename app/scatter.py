"""Points → figure: a map in WebGL, coloured by a number or by cluster; no Streamlit, no store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.charts import template
from app.points import SHORT, Cluster, Points, cut
from app.theme import Palette, blend
from app.wording import share

HEIGHT_PX = 520
HOVER_LIMIT = 40_000
"""Up to so many points carry their texts for the hover; more would be tens of megabytes."""
NAMED = 14
"""Clusters whose name stands in the picture."""
EXTREMES = (0.02, 0.98)
"""Beyond these quantiles colours differ no more."""
HUES = ("#4c78a8", "#b5793b", "#5a9367", "#a05d7d", "#7a6bb0", "#8a8d2f", "#3d8f94", "#b0605a")
"""Neighbouring clusters are told apart; a colour means nothing else."""


@dataclass(frozen=True)
class Colour:
    """A way to colour the points."""

    title: str
    unit: str
    column: str | None
    """A number of the points; none for the cluster."""
    log: bool = False


COLOURS = {
    "density": Colour("density", "share of tokens, log scale", "density", log=True),
    "max": Colour("max", "largest activation", "max_act"),
    "score": Colour("score", "detection score of its label or newest explanation", "score"),
    "token": Colour("one token", "share of activation on one token", "top_token_share"),
    "position": Colour("position", "mean position where active", "mean_position"),
    "cosine": Colour("enc·dec", "cosine of encoder and decoder", "encoder_decoder_cosine"),
    "cluster": Colour("cluster", "", None),
}


def figure(
    points: Points, clusters: Sequence[Cluster], by: str, marked: np.ndarray, colours: Palette
) -> go.Figure:
    """The map; points where `marked` holds are ringed and the others dimmed, if there are any."""
    found = go.Figure()
    some = bool(marked.any())
    found.add_trace(
        go.Scattergl(
            **placed(points, slice(None)),
            mode="markers",
            opacity=0.25 if some else 1.0,
            marker={"size": size(len(marked)), "line": {"width": 0}, **paint(points, by, colours)},
            selected={"marker": {"opacity": 1.0}},
            unselected={"marker": {"opacity": 0.2}},
            **hover(points, slice(None)),
        )
    )
    if some:
        ring = {
            "color": colours.accent,
            "size": size(len(marked)) + 3,
            "line": {"width": 1, "color": colours.text},
        }
        found.add_trace(
            go.Scattergl(
                **placed(points, marked), mode="markers", marker=ring, **hover(points, marked)
            )
        )
    found.update_layout(template=template(colours), height=HEIGHT_PX, **manner(colours))
    if by == "cluster":
        tags = [name_tag(points, one, colours) for one in clusters[:NAMED]]
        found.update_layout(annotations=tags)
    return found


def manner(colours: Palette) -> dict[str, Any]:
    """How the map is handled; nothing stands on its axes, which mean nothing."""
    blank = {"visible": False, "constrain": "domain"}
    return {
        "dragmode": "pan",  # Streamlit ignores clicks while a drag draws a lasso
        "clickmode": "event+select",
        "hovermode": "closest",
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "xaxis": blank,
        "yaxis": {**blank, "scaleanchor": "x"},
        "uirevision": "map",  # what was zoomed stays so when colours change
        "hoverlabel": {"font": {"family": "Source Sans, sans-serif", "size": 13}, "align": "left"},
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)",
            "color": colours.muted,
            "activecolor": colours.accent,
        },
    }


def placed(points: Points, which: slice | np.ndarray) -> dict[str, np.ndarray]:
    """Where points stand, and which feature each is."""
    xy = points.map.xy[which]
    feature = points.map.feature[which]
    return {"x": xy[:, 0], "y": xy[:, 1], "customdata": feature[:, None]}


def size(n: int) -> float:
    """Diameter of a point, in pixels: many are small."""
    return 7 if n < 2_000 else 5 if n < 10_000 else 3.5 if n < 50_000 else 2.5


def paint(points: Points, by: str, colours: Palette) -> dict[str, object]:
    """The points' colours, with a scale beside them where they stand for numbers."""
    colour = COLOURS[by]
    if colour.column is None:
        number = points.map.cluster
        hues = np.array([*HUES, blend(colours.muted, colours.background, 0.45)])
        return {"color": hues[np.where(number < 0, len(HUES), number % len(HUES))]}
    values = points.numbers[colour.column]
    ticks: dict[str, object] = {}
    if colour.log:
        values = np.log10(np.where(values > 0, values, np.nan))
        low, high = np.nanmin(values, initial=0), np.nanmax(values, initial=-9)
        powers = list(range(int(np.floor(low)), int(np.ceil(high)) + 1))
        ticks = {"tickvals": powers, "ticktext": [share(10.0**p) for p in powers]}
    known = values[np.isfinite(values)]
    if not len(known):
        return {"color": blend(colours.muted, colours.background, 0.35)}
    span = dict(zip(("cmin", "cmax"), np.quantile(known, EXTREMES), strict=True))
    faint, strong = blend(colours.muted, colours.background, 0.35), colours.text
    bar = {
        "title": {"text": colour.unit, "side": "right"},
        "thickness": 8,
        "outlinewidth": 0,
        "len": 0.6,
        "x": 1.0,
        "xanchor": "left",
        **ticks,
    }
    scale = [[0, faint], [0.5, colours.accent], [1, strong]]
    return {"color": values.astype(np.float32), "colorscale": scale, "colorbar": bar, **span}


def hover(points: Points, which: slice | np.ndarray) -> dict[str, object]:
    """What a point says of itself; the texts are escaped, for Plotly reads them as markup."""
    feature = points.map.feature
    if len(feature) > HOVER_LIMIT:
        return {"hovertemplate": "%{customdata[0]}<extra></extra>"}
    chosen = np.arange(len(feature))[which]
    return {
        "hovertext": [points.told[i] for i in chosen.tolist()],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def name_tag(points: Points, cluster: Cluster, colours: Palette) -> dict[str, object]:
    """A cluster's name, in its middle."""
    x, y = np.median(points.map.xy[cluster.members], axis=0)
    return {
        "x": float(x),
        "y": float(y),
        "text": cut(cluster.name, SHORT),
        "showarrow": False,
        "font": {"size": 11, "color": colours.text},
        "captureevents": False,
        "bgcolor": colours.background,
        "opacity": 0.85,
        "borderpad": 1,
    }
