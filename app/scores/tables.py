"""The tables of the Scores page: plain data for the component, no Streamlit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.scores import words
from app.scores.means import SeriesMeans
from app.scores.read import Series
from app.wording import ABSENT, count, share
from feature_store.jobs import Job
from feature_store.statistics import MIN_JUDGEMENTS, Estimate

Cells = list[str]
CUT = 64
"""Characters of an explanation in a table."""
Column = tuple[str, str, str]
MEANS: tuple[Column, ...] = (
    ("explainer", "", "with its language model"),
    ("score", "", ""),
    ("features", "number", "with a value"),
    ("mean [95 %]", "number", f"over features, drawn at random; from {MIN_JUDGEMENTS} on"),
    ("chance", "number", "what guessing gives"),
    *(
        (f"above {name}", "number", f"mean difference by feature, 95 %, to {hint}")
        for name, hint in words.NULLS.items()
    ),
    (
        "says yes",
        "number",
        "share of yes over as many firing as silent windows; a judge that cannot "
        "tell has the same for both",
    ),
    ("hard", "number", "mean against silent windows that look alike"),
    ("no value", "number", "features scored without a value: too few, or undefined"),
    ("failed", "number", "items without a usable answer; in no number"),
)
AGREEMENT: tuple[Column, ...] = (
    ("scores", "", ""),
    ("Spearman’s ρ [95 %]", "number", "of ranks over features; features are the units"),
    ("features", "number", "with a value in both"),
)
FEATURES: tuple[Column, ...] = (
    ("feature", "", ""),
    ("value [95 %]", "number", ""),
    ("borrowed", "number", words.NULLS["borrowed"]),
    ("density", "number", "share of tokens on which it is active"),
    ("explanation", "", ""),
)
JOBS: tuple[Column, ...] = (
    ("started (UTC)", "", ""),
    ("explainer", "", ""),
    ("score", "", ""),
    ("features", "number", "with a value"),
    ("left out", "", "features without a score, and why"),
    ("failed", "number", "items without a usable answer"),
    ("calls", "number", "to language models"),
    ("tokens", "number", "in and out"),
    ("cost", "number", "US dollars"),
    ("per feature", "number", "cost of a value"),
)


def table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, ruled: bool = False
) -> dict[str, Any]:
    """What the component takes."""
    heads = [dict(zip(("name", "kind", "hint"), one, strict=True)) for one in columns]
    return {"ruled": ruled, "columns": heads, "rows": list(rows)}


def row(cells: Cells, href: str = "", target: str | None = None, note: str = "") -> dict[str, Any]:
    """A line of a table, its first cell a link where there is a target."""
    return {"href": href, "target": target, "cells": cells, "notes": [note] if note else []}


def means(line: SeriesMeans, judges: bool) -> Cells:
    """A series in one line."""
    one = line.series
    judge = f" · {one.judge}" if judges and one.judge else ""
    return [
        one.by,
        one.name + judge,
        count(line.mean.n),
        words.ranged(line.mean) if line.mean.value is not None else f"{ABSENT} (too few)",
        words.decimal(words.chance(one.scorer)),
        *(difference(line.above[name]) for name in words.NULLS),
        share(line.yes["mean"]) if line.yes else "",
        words.decimal(line.hard.value),
        count(line.without) if line.without else "",
        count(line.failed) if line.failed else "",
    ]


def difference(one: Estimate) -> str:
    """A mean difference with its sign."""
    text = words.ranged(one)
    return f"+{text}" if one.value is not None and one.value >= 0.005 else text


def agreement(one: Series, other: Series, found: Estimate) -> dict[str, Any]:
    """How two series agree, or why that cannot be said."""
    note = found.note if found.value is None else ""
    shown = words.ranged(found) if found.value is not None else f"{ABSENT} ({note})"
    return row([f"{one.name} · {other.name}", shown, count(found.n)])


def feature(series: Series, place: int) -> Cells:
    """One feature of a series."""
    numbers = {name: known(values[place]) for name, values in series.numbers.items()}
    value, low, high = (numbers[name] for name in ("value", "low", "high"))
    estimate = Estimate(value, low, high, 0, 0)
    return [
        str(series.feature[place]),
        words.ranged(estimate),
        words.decimal(numbers["borrowed"]),
        share(numbers["density"]),
        short(series.text[place], CUT),
    ]


def short(text: str, length: int) -> str:
    """At most so many characters, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def known(value: float) -> float | None:
    """A number; None for NaN."""
    return float(value) if np.isfinite(value) else None


def job(one: Job) -> list[dict[str, Any]]:
    """What a job of scores came to: a line for each explainer and scorer."""
    left = words.skipped(one.result.get("skipped", {})).removeprefix("left out: ")
    return [
        row(
            [
                f"{one.created:%Y-%m-%d %H:%M}",
                found["explainer"] or "(no name)",
                words.title(found["scorer"]),
                count(found["n"]),
                left,
                count(found["failed"]) if found["failed"] else "",
                count(found.get("calls", 0)),
                tokens(found),
                words.dollars(found.get("cost", 0.0)),
                per(found),
            ]
        )
        for found in one.result.get("results", [])
    ]


def tokens(found: Mapping[str, Any]) -> str:
    """As many as the server counted, where it counts any."""
    n = found.get("tokens", 0)
    return ABSENT if n is None else count(n)


def per(found: Mapping[str, Any]) -> str:
    """Dollars for one value."""
    cost, n = found.get("cost", 0.0), found["n"]
    if cost is None or not n:
        return ABSENT
    return f"${cost / n:,.5f}" if cost else "$0"
