"""Faithfulness and completeness over the number of nodes, measured when a circuit was found."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from app import session, theme
from app.charts import template
from app.circuits.figures import ERRORS_SAID, HELD, NAMES, ratio
from app.circuits.opened import Open
from app.theme import Palette
from app.wording import count, plural, share
from backend.circuits.faithfulness_text import describe_random_set_verdict
from backend.circuits.records import Circuit, Faithfulness, FaithfulnessPoint
from feature_store.statistics.estimate import Estimate

HEIGHT_PX = 260
DASHES = {"count": "solid", "keep": "dash", "remove": "dot"}


def draw(found: Open) -> None:
    """The curves, where there are any."""
    points = [p for p in found.circuit.curves if p.share]
    if not points:
        return
    st.subheader("Proof by ablation", anchor=False)
    st.plotly_chart(
        figure(points, found.circuit.faithfulness, theme.palette(st.context.theme.type)),
        theme=None,
        key="circuits_curves",
        config={"displaylogo": False, "displayModeBar": False},
    )
    st.caption(session.literal(sentence(found, points)))


def figure(
    points: Sequence[FaithfulnessPoint], whole: Faithfulness | None, colours: Palette
) -> go.Figure:
    """Faithfulness in the accent, completeness muted; the null of random nodes as a bar."""
    shown = go.Figure()
    for way, name in NAMES.items():
        line = sorted((p for p in points if p.errors == way), key=lambda p: p.nodes)
        for what, part, colour in (
            ("faithfulness", "share", colours.accent),
            ("completeness", "completeness", colours.muted),
        ):
            found = [(p.nodes, one) for p in line if (one := getattr(p, part))]
            shown.add_scatter(
                x=[n for n, _ in found],
                y=[one.value for _, one in found],
                mode="lines+markers",
                line={"color": colour, "width": 1.5, "dash": DASHES[way]},
                marker={"size": 4},
                hovertext=[f"{what}, {name}: {told(one)} at {count(n)}" for n, one in found],
                hovertemplate="%{hovertext}<extra></extra>",
            )
    if whole is not None:
        null = whole.null
        hover = f"random nodes: {ratio(null.median)} [{ratio(null.low)}, {ratio(null.high)}]"
        shown.add_scatter(
            x=[whole.nodes],
            y=[null.median],
            mode="markers",
            marker={"symbol": "x-thin-open", "size": 9, "color": colours.amber},
            error_y={
                "type": "data",
                "symmetric": False,
                "color": colours.amber,
                "array": [null.high - null.median],
                "arrayminus": [null.median - null.low],
            },
            hovertext=[f"{hover} at {count(whole.nodes)}"],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    shown.update_layout(template=template(colours), height=HEIGHT_PX)
    few = max(p.nodes for p in points) < 1000
    shown.update_xaxes(
        type="log",
        title_text="nodes, the strongest of all that there are",
        dtick="D2" if few else 1,
    )
    shown.update_yaxes(title_text="share of F(M) − F(∅)")
    return shown


def told(one: Estimate) -> str:
    """A value and its interval."""
    if one.low is None or one.high is None:
        return ratio(one.number)
    return f"{ratio(one.number)} [{ratio(one.low)}, {ratio(one.high)}]"


def sentence(found: Open, points: Sequence[FaithfulnessPoint]) -> str:
    """What the lines are, on how many prompts, and the null."""
    n = max(p.share.n for p in points if p.share)
    said = [
        "Faithfulness in green, completeness (all but the nodes; low is good) in grey; errors "
        f"counted as nodes: solid, kept: dashed, removed: dotted. By {found.circuit.baseline} "
        f"ablation on {plural(n, 'prompt')}."
    ]
    if whole := found.circuit.faithfulness:
        said.append(
            f"All {count(whole.nodes)} nodes, errors {ERRORS_SAID[whole.errors]}: "
            f"{ratio(whole.value)}. Random active nodes of the same composition, "
            f"{count(whole.null.draws)} draws: {reached(whole)}."
        )
    return " ".join([*said, *held(found.circuit)])


def reached(figure: Faithfulness) -> str:
    """What random nodes reach; how many of their draws end further from the whole model; and the
    verdict where the circuit is not better."""
    null = figure.null
    said = [
        f"median {ratio(null.median)}, 95th percentile {ratio(null.percentile_95)}",
        f"{share(null.nearer)} of draws end further from the whole model than these",
    ]
    if not figure.better_than_random:
        said.append(f"so this circuit is {describe_random_set_verdict(figure)}")
    return ", ".join(said)


def held(circuit: Circuit) -> list[str]:
    """The whole graph in the model held still."""
    whole = circuit.held_faithfulness
    if whole is None:
        return []
    shares = {p.errors: ratio(p.share.number) for p in circuit.held if p.share}
    values = ", ".join(f"{name} {shares[way]}" for way, name in NAMES.items() if way in shares)
    return [
        f"All {count(whole.nodes)} nodes {HELD} as on the prompt, which is what the graph speaks "
        f"of: {values}; random ones: {reached(whole)}."
    ]
