"""The three figures above the graph: faithfulness, error share, nodes; and what they rest on."""

from collections import defaultdict

import streamlit as st

from app import session
from app.circuits import layout
from app.circuits.opened import Open
from app.wording import ABSENT, count, measure, plural, share
from backend.circuits.faithfulness_text import (
    describe_effect_check,
    describe_faithfulness_null,
    format_faithfulness,
)
from backend.circuits.records import EffectCheck, ErrorTermMode, Faithfulness
from backend.circuits.subcircuit_figures import SubcircuitFigures
from feature_store.circuit_graphs import CircuitSubgraph
from feature_store.statistics.estimate import Estimate

Measured = SubcircuitFigures | str | None
"""Of what is shown; a sentence where it cannot be had; None while it is on its way."""
STABLE = 0.95
"""Of draws of the prompts."""
NAMES: dict[ErrorTermMode, str] = {"count": "errors counted", "keep": "kept", "remove": "removed"}
ERRORS_SAID: dict[ErrorTermMode, str] = {"count": "counted", "keep": "kept", "remove": "removed"}
HELD = "with attention patterns and norms held"


def draw(found: Open, part: CircuitSubgraph, measured: Measured) -> None:
    """One line; hover tells what each is. `measured`: of what is shown, when it is there."""
    n = len(part.ablatable_nodes)
    parts = [
        *scores(found),
        f"**faithfulness** {faithfulness(found, n, measured)}",
        *([f"**error share** {shown}"] if (shown := errors(part)) != ABSENT else []),
        f"**nodes** {count(n)} of {count(found.graph.n_ablatable)}",
        *stable(found, part),
        *effect_agreement(found.circuit.effect_check),
    ]
    st.markdown("&emsp;".join(parts), help=HELP)


HELP = (
    "Faithfulness: (F(C) − F(∅)) ÷ (F(M) − F(∅)), with the rest of the nodes really ablated; error "
    "terms in the circuit count as nodes. Beside it the 95th percentile of random sets: as many "
    "active nodes of every dictionary and slot, run alike. Attribution graphs, traces and paths "
    "speak of a model whose attention patterns and norms stay as on the prompt: they are run with "
    "both left free, and with both held. Error share: |error effects| ÷ all |effects| among the "
    "shown nodes of the dictionary where it is largest; successive cuts of a stream are not "
    "summed. Stable edges: those that keep their sign and stay above the weakest edge of the "
    "graph in at least 95 % of bootstrap draws of the prompts; each edge's own share stands beside "
    "its node. Effects against ablation: the strongest nodes were ablated one by one, and their "
    "estimated effects are compared with what that measured."
)


def stable(found: Open, part: CircuitSubgraph) -> list[str]:
    """How many of the shown edges hold over prompts; nothing where it is not known of any."""
    held = found.graph.stability
    known = [held[source, target] for source, target, _ in part.edges if (source, target) in held]
    if not known:
        return []
    n = sum(share >= STABLE for share in known)
    return [f"**stable edges** {count(n)} of {count(len(known))}"]


def effect_agreement(check: EffectCheck | None) -> list[str]:
    """How well estimated effects agree with exact ablation of the strongest nodes."""
    if check is None or check.spearman is None:
        return []
    text = f"**effects against ablation** {describe_effect_check(check)}"
    return [text if check.reached or check.paths is None else f":red[{text}]"]


def scores(found: Open) -> list[str]:
    """What an attribution graph says of itself, before any pruning."""
    names = {"replacement_score": "replacement", "completeness_score": "completeness of the graph"}
    facts = found.circuit.facts
    return [
        f"**{names[name]}** {measure(facts[name], 2)}"
        for name in names
        if facts.get(name) is not None
    ]


def faithfulness(found: Open, n: int, measured: Measured = None) -> str:
    """Of exactly the `n` nodes shown, when that is measured; else of the whole graph."""
    if isinstance(measured, SubcircuitFigures):
        return of_shown(measured)
    told = whole(found, n)
    if measured:
        return f"{told} (not of what is shown: {session.literal(measured)})"
    return told


def of_shown(measured: SubcircuitFigures) -> str:
    """The figure of what is shown, its null beside it, and what else was measured of it."""
    figure = measured.faithfulness
    if figure is None:
        return f"{ABSENT} (the model is not clearly better than the empty circuit)"
    shares = {way: point.share for way, point in measured.points.items() if point.share}
    others = [
        f"{name} {ratio(shares[way].number)}"
        for way, name in NAMES.items()
        if way in shares and way != "count"
    ]
    complete = measured.points["count"].completeness
    others += [f"completeness {ratio(complete.number)}"] if complete else []
    said = (
        f"{estimate(figure)} ({null(figure)}; errors counted; {'; '.join(others)}; of what is "
        f"shown, measured now on {plural(figure.n, 'prompt')}{beyond(figure)})"
    )
    if measured.held is None:
        return said
    return f"{said}, {HELD} **{estimate(measured.held)}** ({null(measured.held)})"


def whole(found: Open, n: int) -> str:
    """The stored figure of the whole graph, with its null."""
    figure = found.circuit.faithfulness
    if figure is None:
        return f"{ABSENT} not measured"
    others = [
        f"{NAMES[p.errors]} {ratio(p.share.number)}"
        for p in found.circuit.curves
        if p.nodes == figure.nodes and p.errors != figure.errors and p.share
    ]
    more = f"; {', '.join(others)}" if others else ""
    where = "" if figure.nodes == n else f"; of all {count(figure.nodes)} nodes"
    said = f"{null(figure)}; errors {ERRORS_SAID[figure.errors]}{more}{where}{beyond(figure)}"
    return f"{estimate(figure)} ({said})"


def null(figure: Faithfulness) -> str:
    """What random sets reach; in red where the circuit is not better."""
    said = describe_faithfulness_null(figure)
    return said if figure.better_than_random else f":red[{said}]"


def beyond(found: Faithfulness) -> str:
    """What a share outside of 0 to 1 means, in words."""
    if not -1 <= found.value <= 2:
        return "; far outside 0 to 1: F(M) − F(∅) is small beside what nodes do, so it means little"
    if round(found.value, 2) > 1:
        return "; above 1: nodes left out worked against the target, and without them it overshoots"
    if round(found.value, 2) < 0:
        return "; below 0: these nodes alone take the target further away than none does"
    return ""


def ratio(value: float) -> str:
    """A share of F(M) - F(∅): two decimals are all that it deserves."""
    return format_faithfulness(value)


def estimate(one: Faithfulness | Estimate | None) -> str:
    """0.91 [0.86, 0.95]"""
    if one is None:
        return ABSENT
    value = one.value if isinstance(one, Faithfulness) else one.number
    if one.low is None or one.high is None:
        return ratio(value)
    bounds = f"\\[{ratio(one.low)}, {ratio(one.high)}\\]"
    return f"{ratio(value)} {bounds}"


def whole_of(name: str) -> str | None:
    """What an MLP without a dictionary is called; None for dictionaries."""
    return None if (called := layout.whole(name)) == name else called


def errors(part: CircuitSubgraph) -> str:
    """The largest of any dictionary's."""
    whole, wrong = defaultdict(float), defaultdict(float)
    for node in part.ablatable_nodes:
        # An MLP that no dictionary reads is nothing but error: it would drown what is asked here.
        if node.dictionary and node.effect is not None and whole_of(node.dictionary) is None:
            whole[node.dictionary] += abs(node.effect)
            wrong[node.dictionary] += abs(node.effect) * (node.kind == "error")
    shares = {name: wrong[name] / whole[name] for name in whole if whole[name]}
    if not shares:
        return ABSENT
    name = max(shares, key=shares.__getitem__)
    return f"{share(shares[name])} (at {session.literal(name)})"
