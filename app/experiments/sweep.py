"""A kept sweep as a table: a row a strength, a column a measure."""

from collections.abc import Mapping
from typing import Any

from app.wording import ABSENT, count, measure
from backend.steering.sweep_results import SWEEP_MEASURES, StrengthTexts, SweepOutcome

NAMES = {
    "max": "largest act.",
    "mean": "mean act.",
    "rate": "share of tokens",
    "match": "match",
    "judge": "judge",
    "judge_concept": "concept",
    "judge_instruction": "instruction",
    "judge_fluency": "fluency",
    "nll": "nats/token",
    "kl": "KL",
}
LEFT_OUT = ("shift", "nearest", "repetition")
HINTS = "Means over a strength's texts, 95 % intervals. Controls and texts: open the run."


def table(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the component `rows` takes. KeyError or TypeError for what is no sweep's result."""
    outcome = SweepOutcome.from_json(result)
    names = [name for name in outcome.measures if name not in LEFT_OUT]
    heads = [("strength", "number", ""), ("texts", "number", "")]
    heads += [(NAMES[name], "number", SWEEP_MEASURES[name]) for name in names]
    doses = [("none", outcome.default)]
    doses += [(measure(dose.strength), dose) for dose in outcome.doses]
    return {
        "ruled": True,
        "columns": [{"name": n, "kind": kind, "hint": hint} for n, kind, hint in heads],
        "rows": [
            {
                "href": "",
                "target": None,
                "notes": [],
                "cells": [strength, count(len(dose.heard)), *(cell(dose, name) for name in names)],
            }
            for strength, dose in doses
        ],
    }


def cell(dose: StrengthTexts, name: str) -> str:
    """A mean with its interval."""
    one = dose.estimate(name)
    if one is None:
        return ABSENT
    if one.low is None or one.high is None:
        return measure(one.value, 2)
    return f"{measure(one.value, 2)} [{measure(one.low, 2)}, {measure(one.high, 2)}]"
