"""Faithfulness and completeness over the number of nodes, measured when a circuit was found."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from app import session, theme
from app.charts import template
from app.circuits.figures import HELD, NAMES, ratio
from app.circuits.opened import Open
from app.theme import Palette
from app.wording import count, plural, share
from backend.circuits.records import Estimate, Point

HEIGHT_PX = 260
DASHES = {"count": "solid", "keep": "dash", "remove": "dot"}


def draw(found: Open) -> None:
    """The curves, where there are any."""
    points = [p for p in found.circuit.curves if p.faithfulness]
    if not points:
        return
    st.subheader("Proof by ablation", anchor=False)
    st.plotly_chart(
        figure(points, theme.palette(st.context.theme.type)), theme=None, key="circuits_curves",
        config={"displaylogo": False, "displayModeBar": False},
    )  # fmt: skip
    st.caption(session.literal(sentence(found, points)))


def figure(points: Sequence[Point], colours: Palette) -> go.Figure:
    """Faithfulness in the accent, completeness muted; the null of random nodes as a bar."""
    shown = go.Figure()
    for way, name in NAMES.items():
        line = sorted((p for p in points if p.errors == way), key=lambda p: p.nodes)
        for what, colour in (("faithfulness", colours.accent), ("completeness", colours.muted)):
            found = [(p.nodes, one) for p in line if (one := getattr(p, what))]
            shown.add_scatter(
                x=[n for n, _ in found], y=[one.value for _, one in found], mode="lines+markers",
                line={"color": colour, "width": 1.5, "dash": DASHES[way]}, marker={"size": 4},
                hovertext=[f"{what}, {name}: {told(one)} at {count(n)}" for n, one in found],
                hovertemplate="%{hovertext}<extra></extra>",
            )  # fmt: skip
    nulls = [(p.nodes, p.null) for p in points if p.null]
    shown.add_scatter(
        x=[n for n, _ in nulls], y=[one.value for _, one in nulls], mode="markers",
        marker={"symbol": "x-thin-open", "size": 9, "color": colours.amber},
        error_y={"type": "data", "symmetric": False, "color": colours.amber,
                 "array": [(one.high or one.value) - one.value for _, one in nulls],
                 "arrayminus": [one.value - (one.low or one.value) for _, one in nulls]},
        hovertext=[f"random nodes: {told(one)} at {count(n)}" for n, one in nulls],
        hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip
    shown.update_layout(template=template(colours), height=HEIGHT_PX)
    few = max(p.nodes for p in points) < 1000
    shown.update_xaxes(type="log", title_text="nodes, the strongest of all that there are",
                       dtick="D2" if few else 1)  # fmt: skip
    shown.update_yaxes(title_text="share of F(M) − F(∅)")
    return shown


def told(one: Estimate) -> str:
    """A value and its interval."""
    if one.low is None or one.high is None:
        return ratio(one.value)
    return f"{ratio(one.value)} [{ratio(one.low)}, {ratio(one.high)}]"


def sentence(found: Open, points: Sequence[Point]) -> str:
    """What the lines are, on how many prompts, and the null."""
    n = max(p.faithfulness.n for p in points if p.faithfulness)
    said = [
        "Faithfulness in green, completeness (all but the nodes; low is good) in grey; errors "
        f"counted as nodes: solid, kept: dashed, removed: dotted. By {found.circuit.baseline} "
        f"ablation on {plural(n, 'prompt')}."
    ]
    for p in points:
        if p.null:
            said.append(
                f"Random active nodes of the same make, {count(p.null.n)} draws of {count(p.nodes)}"
                f": {reached(p)}."
            )
    return " ".join([*said, *held(found.circuit.held)])


def reached(point: Point) -> str:
    """By random nodes; and how many of their draws end further from the whole model."""
    assert point.null is not None, "asked of points with a null"
    said = [f"median {ratio(point.null.value)}"]
    if point.null_95 is not None:
        said.append(f"95th percentile {ratio(point.null_95)}")
    if point.nearer is not None:
        said.append(f"{share(point.nearer)} of draws end further from the whole model than these")
    return ", ".join(said)


def held(points: Sequence[Point]) -> list[str]:
    """The whole graph in the model held still."""
    shares = {p.errors: ratio(p.faithfulness.value) for p in points if p.faithfulness}
    whole = next((p for p in points if p.errors == "count" and p.faithfulness), None)
    if whole is None:
        return []
    values = ", ".join(f"{name} {shares[way]}" for way, name in NAMES.items() if way in shares)
    random = f"; random ones: {reached(whole)}" if whole.null else ""
    return [
        f"All {count(whole.nodes)} nodes {HELD} as on the prompt, which is what the graph speaks "
        f"of: {values}{random}."
    ]
