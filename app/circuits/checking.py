"""Predicted against measured: nodes and edges of the circuit, by intervention."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import session, theme
from app.ablate import chart
from app.ablate.outcome import grid
from app.circuits import measuring
from app.circuits.measuring import Check
from app.circuits.opened import Open
from app.costly import draw_costly_button
from app.session import Place
from app.wording import ABSENT, measure, plural, share, signed

WAYS = {
    "frozen": "patterns, norms and all other dictionaries held: a check of the arithmetic, not "
    "causal proof",
    "direct": "other dictionaries held, patterns and norms free",
    "free": "nothing held",
}
HELD = "predicted with patterns and norms held and gates as they are, measured with nothing held"
LEAST = 1e-5
FEW = 6
"""Pairs that are shown as a table."""


def buttons(place: Place, found: Open) -> None:
    """One click away: the strongest nodes, the strongest edges."""
    for what, hint in (
        ("nodes", "The 100 strongest, each ablated alone."),
        ("edges", "The 200 strongest: their sources ablated."),
    ):
        problem = measuring.why_not(place, found, what)
        if problem:
            hint = f"This cannot be checked: {problem}."
        draw_costly_button(
            f"Check {what}",
            measuring.ask,
            args=(found, what),
            disabled=bool(problem),
            key=f"circuits_check_{what}",
            type="tertiary",
            help=hint,
        )


def draw(place: Place, found: Open) -> int:
    """What was asked, the newest first; how much of it is still on its way."""
    waiting = 0
    for number, one in enumerate(measuring.checks(found)):
        got = measuring.check(place, found, one)
        with st.container(key=f"circuits_checked_{number}", gap="xxsmall"):
            with st.container(horizontal=True, gap="small", vertical_alignment="center"):
                st.markdown(f"**Check of {session.literal(named(one))}**", width="content")
                st.button(
                    "×",
                    key=f"circuits_drop_{number}",
                    type="tertiary",
                    on_click=measuring.drop,
                    args=(found, one),
                )
            if got is None:
                st.caption("Measuring…")
                waiting += 1
            elif isinstance(got, str):
                st.markdown(f":red[{session.literal(got)}]")
            elif one[0] == "nodes":
                nodes(found, got, number)
            else:
                edges(got, number)
    return waiting


def named(one: Check) -> str:
    """What a check is of."""
    what, ids = one
    if not ids:
        return f"the strongest {what}"
    return ids[0] if what == "nodes" else f"the edge {ids[0]} → {ids[1]}"


def nodes(found: Open, got: Mapping[str, Any], number: int) -> None:
    """Each ablated alone."""
    points = [(id, predicted, measured) for id, predicted, measured in got["pairs"]]
    held = "" if found.circuit.method == "sparse-features" else f"; {HELD}"
    pairs(
        points,
        number,
        f"on {plural(got['n_prompts'], 'prompt')}, each ablated alone{held}",
        got["agreement"],
    )


def edges(got: Mapping[str, Any], number: int) -> None:
    """Three ways to look at an edge."""
    ways = [way for way in ("free", "direct", "frozen") if got.get(way)]
    few = len(got["direct"]["pairs"]) <= FEW
    if few:
        rows = [
            [way, WAYS[way], signed(predicted, 3), signed(measured, 3)]
            for way in ways
            for _, _, predicted, measured in got[way]["pairs"]
        ]
        grid(
            f"circuits_edge_{number}",
            [("way", ""), ("", ""), ("predicted", "number"), ("measured", "number")],
            rows,
        )
    else:
        way = st.segmented_control(
            "Way",
            ways,
            default=ways[0],
            required=True,
            key=f"circuits_way_{number}",
            label_visibility="collapsed",
        )
        chosen = got[way]
        points = [
            (f"{a} → {b}", predicted, measured) for a, b, predicted, measured in chosen["pairs"]
        ]
        pairs(points, number, WAYS[way], chosen["agreement"])
    st.caption(session.literal(more(got)))


def more(got: Mapping[str, Any]) -> str:
    """On how many prompts; how exact the frozen edges are; what could not be frozen."""
    said = [got["means"], f"on {plural(got['n_prompts'], 'prompt')}"]
    frozen = got.get("frozen")
    if frozen and frozen["relative_error"] and len(frozen["pairs"]) > 1:
        error = frozen["relative_error"]
        said.append(
            f"frozen: relative error {small(error['median'])} in the median, at most "
            f"{small(error['largest'])}, of {plural(error['n'], 'edge')} (not negligible, no gate "
            "in the way switched)"
        )
    if n := got["direct"]["gate_changes"]:
        said.append(f"{plural(n, 'edge')} {'switches' if n == 1 else 'switch'} a feature on or off")
    return " · ".join([*said, *([got["note"]] if got["note"] else [])])


def small(error: float) -> str:
    """A relative error; below a thousandth of a percent it is rounding."""
    return share(error) if error >= LEAST else f"below {share(LEAST)}"


def pairs(
    points: list[tuple[str, float, float]], number: int, what: str, agreement: Mapping[str, Any]
) -> None:
    """A few as a table, many as a scatter, with how well both sides agree."""
    if len(points) <= FEW:
        rows = [[name, signed(a, 3), signed(b, 3)] for name, a, b in points]
        grid(
            f"circuits_pairs_{number}",
            [("", ""), ("predicted", "number"), ("measured", "number")],
            rows,
        )
        st.caption(session.literal(what))
        return
    shown = chart.scatter(points, theme.palette(st.context.theme.type))
    shown.update_xaxes(title_text="predicted change")
    shown.update_yaxes(title_text="measured change")
    st.plotly_chart(
        shown,
        theme=None,
        key=f"circuits_scatter_{number}",
        config={"displaylogo": False, "displayModeBar": False},
    )
    signs = agreement.get("signs")
    st.caption(
        session.literal(
            f"{what} · n {agreement['n']} · Spearman {figure(agreement['spearman'])} · Pearson "
            f"{figure(agreement['pearson'])} · slope {figure(agreement['slope'])} · signs agree "
            f"{share(signs)} of {agreement['signs_n']}"
        )
    )


def figure(value: float | None) -> str:
    """Two digits, or a dash."""
    return ABSENT if value is None else measure(value, 2)
