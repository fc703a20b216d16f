"""The pruning: how many nodes, which edges by weight and by stability; all in the URL."""

from dataclasses import dataclass

import streamlit as st

from app.circuits.opened import Open
from app.wording import count
from feature_store.circuit_graphs import MAX_NODES, SubgraphSelection

USUAL_NODES, USUAL_SHARE = 50, 0.9
STEPS = (
    0,
    1,
    2,
    3,
    5,
    8,
    12,
    16,
    20,
    25,
    30,
    40,
    50,
    60,
    80,
    100,
    120,
    150,
    200,
    250,
    300,
    400,
    500,
    600,
    800,
    1000,
    1200,
    1500,
    MAX_NODES,
)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0)
HOLDS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
NODES, SHARE, STABLE = "circuits_nodes", "circuits_share", "circuits_stable"
"""Widget keys."""
STABILITY = (
    "Of 1 000 bootstrap draws of the prompts, the share in which the edge has the same sign and is "
    "no weaker than the weakest edge of the graph."
)


@dataclass(frozen=True)
class Pruning:
    """So many of the strongest nodes, and edges up to a share, of those that are stable enough."""

    nodes: int
    share: float
    holds: float = 0.0

    def choice(self, found: Open, also: list[str]) -> SubgraphSelection:
        """With what is marked in the circuit; `also` nodes are shown whatever their strength."""
        marks = found.marks
        kept = list(
            dict.fromkeys([*marks.pins, *(i for g in marks.groups.values() for i in g), *also])
        )
        return SubgraphSelection(
            self.nodes, self.share, kept, marks.hidden, marks.groups, self.holds
        )


def steps(found: Open) -> list[int]:
    """The numbers of nodes that one can choose: usual ones, those of the curves, and all."""
    most = min(found.graph.n_ablatable, MAX_NODES)
    measured = {point.nodes for point in found.circuit.curves}
    return sorted({n for n in (*STEPS, *measured, most) if n <= most})


def draw(found: Open) -> Pruning:
    """Two sliders, and a third where it is known how stable edges are over prompts."""
    known = bool(found.graph.stability)
    nodes, choices = asked("nodes"), steps(found)
    wanted = USUAL_NODES if nodes is None else nodes
    if st.session_state.get("circuits_pruned") != found.id:  # another circuit: what its link says
        st.session_state["circuits_pruned"] = found.id
        st.session_state[NODES] = nearest(choices, wanted)
        st.session_state[SHARE] = nearest(list(SHARES), asked("edges") or USUAL_SHARE)
        st.session_state[STABLE] = nearest(list(HOLDS), asked("stable") or 0.0) if known else 0.0
    with st.container(horizontal=True, gap="large"):
        st.select_slider(
            "nodes, the strongest by |effect|",
            choices,
            key=NODES,
            on_change=put,
            width=200,
            format_func=count,
            disabled=len(choices) < 2,
        )
        st.select_slider(
            "edges, up to this share of Σ|weight|",
            SHARES,
            key=SHARE,
            on_change=put,
            format_func=lambda share: f"{share:.0%}",
            width=200,
        )
        if known:
            st.select_slider(
                "edges, at least so stable",
                HOLDS,
                key=STABLE,
                on_change=put,
                width=200,
                format_func=lambda least: f"{least:.0%}" if least else "any",
                help=STABILITY,
            )
    return Pruning(*(st.session_state[key] for key in (NODES, SHARE, STABLE)))


def asked(name: str) -> float | None:
    """A number of the URL; None where there is none."""
    try:
        return float(st.query_params[name])
    except (KeyError, ValueError):
        return None


def nearest(choices: list, wanted: float) -> float:
    """The choice that is nearest."""
    return min(choices, key=lambda one: abs(one - wanted))


def put() -> None:
    """Callback: what the sliders say, in the URL."""
    st.query_params["nodes"] = str(st.session_state[NODES])
    st.query_params["edges"] = f"{st.session_state[SHARE]:g}"
    if st.session_state[STABLE]:
        st.query_params["stable"] = f"{st.session_state[STABLE]:g}"
    else:
        st.query_params.pop("stable", None)
