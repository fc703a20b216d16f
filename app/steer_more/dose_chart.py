"""A sweep as figures: concept, KL and perplexity against strength, with the controls' band."""

import math
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.charts import template
from app.theme import Palette
from app.wording import measure
from backend.steering.sweep_results import ControlBand, SweepOutcome
from feature_store.statistics.estimate import Estimate

HEIGHT_PX = 300
NAMES = {
    "max": "largest activation",
    "mean": "mean activation",
    "rate": "share of tokens",
    "nearest": "nearest feature",
    "match": "share of texts",
    "judge": "judge’s score",
    "judge_concept": "concept, judged",
    "judge_instruction": "instruction, judged",
    "judge_fluency": "fluency, judged",
    "nll": "perplexity",
    "kl": "KL, nats per token",
    "shift": "‖Δh‖ ÷ ‖h‖",
    "repetition": "repetition",
}
KINDS = {"features": "matched features", "directions": "random directions"}


def figure(
    outcome: SweepOutcome, concept: str, equal: str, colours: Palette, unit: str = "strength"
) -> go.Figure:
    """Panels of the concept, KL and perplexity; `equal`: shift or kl, what is alike in feature and
    controls; `unit`: of the strengths."""
    panels = [name for name in (concept, "kl", "nll") if name in outcome.measures]
    found = make_subplots(1, len(panels), horizontal_spacing=0.1)
    for column, name in enumerate(panels, 1):
        for trace in traces(outcome, name, equal, colours, first=column == 1):
            found.add_trace(trace, 1, column)
        found.update_yaxes(title_text=NAMES[name], rangemode="tozero", row=1, col=column)
    if "nll" in panels:
        found.update_yaxes(type="log", row=1, col=panels.index("nll") + 1)
    found.update_xaxes(title_text=unit)
    found.update_layout(
        template=template(colours),
        height=HEIGHT_PX,
        showlegend=True,
        margin={"t": 32, "l": 68},
        legend={"orientation": "h", "y": 1.16, "x": 0},
    )
    return found


def traces(
    outcome: SweepOutcome, name: str, equal: str, colours: Palette, *, first: bool
) -> list[go.Scatter]:
    """Bands behind, the edit in front, and the unedited text as a dotted line."""
    shown = math.exp if name == "nll" else float
    bands = [
        band(kind, outcome, name, equal, shown, colour, first)
        for kind, colour in (("directions", colours.muted), ("features", colours.negative))
    ]
    strengths = outcome.strengths
    found = [one for pair in bands for one in pair]
    default = outcome.default.mean(name)
    if math.isfinite(default):
        found.append(
            go.Scatter(
                x=[strengths[0], strengths[-1]],
                y=[shown(default)] * 2,
                mode="lines",
                line={"color": colours.muted, "width": 1, "dash": "dot"},
                name="without the edit",
                showlegend=first,
                hoverinfo="skip",
            )
        )
    found.append(edited(outcome, name, shown, colours, first))
    return found


def edited(
    outcome: SweepOutcome, name: str, shown: Callable[[float], float], colours: Palette, first: bool
) -> go.Scatter:
    """The edit's own means with their intervals."""
    pairs = [(d.strength, e) for d in outcome.doses if (e := d.estimate(name)) is not None]
    values = [shown(e.number) for _, e in pairs]
    above = [shown(e.high) - shown(e.number) if e.high is not None else 0.0 for _, e in pairs]
    below = [shown(e.number) - shown(e.low) if e.low is not None else 0.0 for _, e in pairs]
    return go.Scatter(
        x=[s for s, _ in pairs],
        y=values,
        mode="lines+markers",
        name="this edit",
        line={"color": colours.accent, "width": 2},
        marker={"size": 5},
        showlegend=first,
        error_y={"array": above, "arrayminus": below, "thickness": 1, "width": 2},
        hovertext=[said(s, e, shown) for s, e in pairs],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def said(strength: float, one: Estimate, shown: Callable[[float], float]) -> str:
    """An estimate in words."""
    head = f"strength {measure(strength)}: {measure(shown(one.number))}"
    if one.low is None or one.high is None:
        return f"{head}, n {one.n}: no interval"
    return f"{head} [{measure(shown(one.low))}, {measure(shown(one.high))}], n {one.n}"


def band(
    kind: str,
    outcome: SweepOutcome,
    name: str,
    equal: str,
    shown: Callable[[float], float],
    colour: str,
    first: bool,
) -> Sequence[go.Scatter]:
    """The controls' 95 % band: two lines with the area between."""
    if kind not in outcome.controls:
        return []
    by_kl = equal == "kl" and name != "kl"
    found = outcome.at_equal_kl(kind, name) if by_kl else outcome.at_equal_shift(kind, name)
    there: list[tuple[float, ControlBand]] = [
        (s, b) for s, b in zip(outcome.strengths, found, strict=True) if b is not None
    ]
    x = [s for s, _ in there]
    n = sorted({b.n for _, b in there})
    label = (
        f"{KINDS[kind]}, 95 % of {'–'.join(map(str, dict.fromkeys((n[0], n[-1]))))}" if n else ""
    )
    line = {"width": 0, "color": colour}
    low = go.Scatter(
        x=x,
        y=[shown(b.low) for _, b in there],
        mode="lines",
        line=line,
        showlegend=False,
        hoverinfo="skip",
    )
    high = go.Scatter(
        x=x,
        y=[shown(b.high) for _, b in there],
        mode="lines",
        line=line,
        fill="tonexty",
        fillcolor=faint(colour),
        name=label,
        showlegend=first and bool(there),
        hovertext=[
            f"{measure(shown(b.low))} to {measure(shown(b.high))}, n {b.n}" for _, b in there
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    return [low, high]


def faint(colour: str) -> str:
    """#rrggbb as rgba."""
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},0.25)"
