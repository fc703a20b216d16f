"""What becomes of the probe: accuracies before and after, beside what chance and skill give."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from app import session
from app.ablate.outcome import grid
from app.wording import ABSENT, count, plural

ROWS = {
    "before": "the original probe",
    "removed": "without the marked features",
    "retrained": "without them, retrained",
    "skyline": "trained on texts like the test texts",
}
CHANGED = {"removed": "Without the marked features", "retrained": "Retrained without them"}


def draw(judged: Mapping[str, Any]) -> None:
    """The table and the sentences below it."""
    st.subheader("Before and after", anchor=False)
    conditions = judged["conditions"]
    cells = list(conditions["before"].get("cells", {}))
    heads = [
        ("", ""),
        ("accuracy", "number"),
        *([("worst group", "number")] if cells else []),
        *((name, "number") for name in cells),
    ]
    lines = [line(words, conditions[name], cells) for name, words in ROWS.items()]
    lines.append(line("the most frequent label, always", judged["majority"], cells))
    lines += controls(judged["controls"], len(heads))
    grid("shift_outcome", heads, lines)
    st.caption(session.literal(note(judged, bool(cells))))
    for name, words in CHANGED.items():
        st.markdown(session.literal(told(words, judged, name)))


def line(words: str, told: Mapping[str, Any], cells: Sequence[str]) -> list[str]:
    """One condition: rates with their intervals."""
    found = [words, interval(told["accuracy"])]
    if cells:
        found.append(interval(told["worst"]))
        found += [percent(told["cells"][name]["value"]) for name in cells]
    return found


def controls(found: Mapping[str, Any], width: int) -> list[list[str]]:
    """Random sets of features: median, and in brackets where 95 % of them lie."""
    lines = []
    for name, words in (("removed", "without random features"), ("retrained", "…, retrained")):
        rates = found[name]
        if not rates:
            continue
        columns = list(zip(*rates, strict=True))
        row = [f"{words} ({plural(len(rates), 'set')})", spread(columns[0])]
        if columns[1][0] is not None:
            row.append(spread(columns[1]))
        lines.append([*row, *[ABSENT] * (width - len(row))])
    return lines


def spread(values: Sequence[float]) -> str:
    """Median and central 95 %."""
    low, middle, high = np.quantile(values, [0.025, 0.5, 0.975])
    return f"{percent(middle)} ({percent(low)}–{percent(high)})"


def interval(one: Mapping[str, Any]) -> str:
    """A rate and its 95 % interval."""
    return f"{percent(one['value'])} ({percent(one['low'])}–{percent(one['high'])})"


def percent(value: float) -> str:
    """In hundredths, with a tenth."""
    return f"{100 * value:.1f}"


def note(judged: Mapping[str, Any], grouped: bool) -> str:
    """What the numbers are."""
    n, controls = judged["n"], judged["controls"]
    said = (
        f"Per cent of {count(n[1])} held-out texts, with Wilson's 95 % interval; trained on "
        f"{count(n[0])}. "
    )
    if grouped:
        said += (
            "The worst group is the one with the lowest share: picked after the fact, its share "
            "tends to be too low. "
        )
    said += (
        "The probe trained on texts like the test texts is cross-fitted on two halves: each text "
        "is judged by a probe that was not trained on it. "
    )
    if controls["draws"]:
        apart = controls["factor"]
        said += (
            f"Random sets: as many active features of the same dictionaries, "
            f"{'not all alike' if apart is None else f'within {apart:g} ×'} in how many texts they "
            "are active on and in mean activation."
        )
    elif judged["features"]:
        said += "No random sets: none were asked for, or a marked feature has no counterpart."
    return said


def told(words: str, judged: Mapping[str, Any], name: str) -> str:
    """The change on the same texts, with Newcombe's interval for pairs."""
    said = f"{words}: accuracy {changed(judged['changes'][name])}"
    worst = judged["worst_changes"]
    if worst:
        said += f"; in the group that was worst before, {worst['cell']}, {changed(worst[name])}"
    return said + "."


def changed(one: Mapping[str, Any]) -> str:
    """A change in percentage points."""
    low, value, high = (points(one[side]) for side in ("low", "value", "high"))
    return f"{value} points ({low} to {high}, n {count(one['n'])})"


def points(change: float) -> str:
    """With a sign, to a tenth."""
    rounded = round(100 * change, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"
