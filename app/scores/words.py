"""Scores in words: numbers with their intervals, who wrote, who judged, why a feature has none."""

from collections.abc import Mapping
from typing import Any, Protocol

from app.wording import ABSENT, plural, share
from autointerp.scorers import SCORERS
from feature_store.explanation_scores import ExplanationScore

REASONS = {
    "dead": "never fired",
    "few": "too few firing windows",
    "dense": "too few windows in which it is silent",
    "unexplained": "no explanation to score",
}
"""Why jobs leave features out."""
NULLS = {
    "borrowed": "the label of another feature of similar density, on the same windows",
    "token": "a label that names the feature's most frequent token, on the same windows",
    "constant": "the same sentence for every feature, on the same windows",
}


class Ranged(Protocol):
    """A number with its interval, or without either."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def decimal(value: float | None) -> str:
    """Two decimals; a dash for none."""
    if value is None:
        return ABSENT
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")  # no −0.00


def ranged(one: Ranged) -> str:
    """`0.84 [0.74, 0.91]`."""
    if one.value is None:
        return ABSENT
    if one.low is None or one.high is None:
        return decimal(one.value)
    return f"{decimal(one.value)} [{decimal(one.low)}, {decimal(one.high)}]"


def chance(scorer: str) -> float | None:
    """What guessing gives; None where that is not one number, or for an unknown scorer."""
    return SCORERS[scorer].chance if scorer in SCORERS else None


def title(scorer: str) -> str:
    """A scorer's name as people read it."""
    return SCORERS[scorer].title if scorer in SCORERS else scorer


def by(explainer: str, model: str) -> str:
    """Who explains: the method, and the language model behind it."""
    return " · ".join(filter(None, [explainer or "(no name)", model]))


def why_none(score: ExplanationScore) -> str:
    """Why a score has no value, or what else is to be said of it."""
    failed = f"{plural(score.failed, 'item')} without a usable answer" if score.failed else ""
    return "; ".join(filter(None, [score.note, failed]))


def skipped(reasons: Mapping[str, Any]) -> str:
    """`left out: 10 features (never fired)`, or nothing."""
    parts = [
        f"{plural(int(n), 'feature')} ({REASONS.get(name, name)})" for name, n in reasons.items()
    ]
    return f"left out: {', '.join(parts)}" if parts else ""


def says_yes(yes: Mapping[str, Any] | None) -> str:
    """`says yes to 52 % of windows`; empty where the judge does not say yes or no."""
    if not yes or yes["mean"] is None:
        return ""
    return f"says yes to {share(yes['mean'])} of windows"


def dollars(cost: float | None) -> str:
    """An amount, or that it is not known."""
    if not cost:
        return "cost not known" if cost is None else "$0"
    return f"${cost:,.4f}" if cost < 1 else f"${cost:,.2f}"
