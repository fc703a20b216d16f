"""A histogram of activations as plain data: the page's own component draws it.

Plotly would be 4.7 MB of JavaScript before a feature page is painted for the first time, and some
tenths of a second each time after that; nothing that one does with these bars needs it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.wording import count, measure
from feature_store.activation_histogram import bin_edge

Side = tuple[int, Sequence[int]]
"""Number of the first bin, counts; bins as in feature_store.activation_histogram."""
ROUND = (1, 2, 5)
MARGIN = 0.1
"""Between the two halves of a mirrored axis, in decades."""
CROWDED = 3
"""Decades from which on an axis has room for powers of ten alone."""


@dataclass(frozen=True)
class Bar:
    """One bin; places are shares of the axis, from its left end."""

    left: float
    width: float
    count: int
    sign: int
    hint: str


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: a share of its length, or a count."""

    at: float
    text: str


@dataclass(frozen=True)
class ActivationAxis:
    """Activations on a log axis from `low` to `high`, base-10 logarithms; mirrored if `signed`."""

    low: float
    high: float
    signed: bool

    def place(self, value: float) -> float:
        """Where an activation stands; beyond an end at that end."""
        reach = self.high - self.low
        along = min(max(math.log10(abs(value)) - self.low, 0.0), reach) / reach
        return 0.5 + math.copysign(along / 2, value) if self.signed else along

    def ticks(self) -> list[Tick]:
        """At 1, 2, 5 of each decade, at the decades alone where those would crowd."""
        steps = ROUND if (self.high - self.low) * (1 + self.signed) < CROWDED else (1,)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        values = [m * 10.0**d for d in decades for m in steps]
        shown = [v for v in values if self.low <= math.log10(v) <= self.high]
        signs = (-1, 1) if self.signed else (1,)
        return [
            Tick(self.place(s * v), f"{'−' if s < 0 else ''}{v:g}") for s in signs for v in shown
        ]


def histogram(
    positive: Side | None, negative: Side | None, marker: float | None = None
) -> dict[str, Any]:
    """Tokens by activation, |a| on a log axis; a negative side is mirrored to the left.

    `marker` is an activation to draw a line at, beyond the last bin at the axis' end.
    """
    sides = [
        (side, sign) for side, sign in ((negative, -1), (positive, 1)) if side and any(side[1])
    ]
    if not sides:
        return {"bars": [], "ticks": [], "log": [], "linear": [], "marker": None}
    lows = [math.log10(bin_edge(start)) for (start, _), _ in sides]
    highs = [math.log10(bin_edge(start + len(counts))) for (start, counts), _ in sides]
    signed = negative is not None
    axis = ActivationAxis(min(lows) - MARGIN * signed, max(highs), signed)
    bars = [bar for side, sign in sides for bar in drawn(side, sign, axis)]
    most = max(bar.count for bar in bars)
    return {
        "bars": [asdict(bar) for bar in bars],
        "ticks": [asdict(tick) for tick in axis.ticks()],
        "log": [asdict(tick) for tick in log_counts(most)],
        "linear": [asdict(tick) for tick in linear_counts(most)],
        "marker": axis.place(marker) if marker else None,
    }


def drawn(side: Side, sign: int, axis: ActivationAxis) -> list[Bar]:
    """One side's bars; empty bins are left out."""
    start, counts = side
    found = []
    for number, n in enumerate(counts, start):
        if not n:
            continue
        low, high = bin_edge(number), bin_edge(number + 1)
        ends = sorted((axis.place(sign * low), axis.place(sign * high)))
        minus = "−" if sign < 0 else ""
        hint = f"{count(n)} tokens, {minus}{measure(low)} to {minus}{measure(high)}"
        found.append(Bar(ends[0], ends[1] - ends[0], n, sign, hint))
    return found


def log_counts(most: int) -> list[Tick]:
    """Ticks of a log axis of counts."""
    steps = ROUND if most < 100 else (1,)
    values = [m * 10**d for d in range(len(str(most))) for m in steps]
    return [Tick(v, count(v)) for v in values if v <= most]


def linear_counts(most: int) -> list[Tick]:
    """About four ticks of a linear axis of counts, zero among them."""
    step = next(
        m * 10**d for d in range(len(str(most)) + 1) for m in ROUND if m * 10**d * 4 >= most
    )
    return [Tick(v, count(v)) for v in range(0, most + 1, step)]
