"""Activation intervals: histogram bars and intervals of equal width over a feature's activations,
as other tools' dashboards show them.

A harvest counts activations in logarithmic bins (four per octave). Counts of equal bars are
interpolated linearly within a bin, so they are estimates; their sum is exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_store.activation_histogram import bin_edge

N_BARS, N_INTERVALS = 40, 5
"""Numbers of bars of the activation histogram and of intervals of the contexts."""


@dataclass(frozen=True)
class ActivationInterval:
    """Interval of activations from `low` to `high`, and the share of all tokens with such an
    activation."""

    low: float
    high: float
    share: float


def count_below_edges(row: dict[str, Any], edges: np.ndarray) -> np.ndarray:
    """Return how many of a feature's active tokens have an activation below each edge."""
    counts, start, top = row["histogram"], row["histogram_start"], row["max_act"]
    bins = [bin_edge(start + i) for i in range(len(counts) + 1)]
    bins[-1] = max(top, bins[-2])  # nothing lies between the maximum and its bin's end
    return np.interp(edges, bins, np.concatenate([[0], np.cumsum(counts)]))


def histogram_bars(row: dict[str, Any]) -> tuple[list[int], list[float]]:
    """Return a feature's activation histogram in N_BARS equal bars from 0 to its maximum: active
    tokens and middle of each bar; empty if it never fired."""
    if not row["histogram"] or not row["max_act"]:
        return [], []
    edges = np.linspace(0, row["max_act"], N_BARS + 1)
    below = count_below_edges(row, edges).round()  # before the differences: their sum stays exact
    below[0] = 0
    middles = (edges[1:] + edges[:-1]) / 2
    return np.diff(below).astype(int).tolist(), middles.round(4).tolist()


def split_into_intervals(row: dict[str, Any]) -> list[ActivationInterval]:
    """Split a feature's activations into N_INTERVALS equal intervals from 0 to its maximum,
    weakest first; empty if it never fired."""
    if not row["histogram"] or not row["max_act"]:
        return []
    edges = np.linspace(0, row["max_act"], N_INTERVALS + 1)
    shares = np.diff(count_below_edges(row, edges)) / sum(row["histogram"]) * row["density"]
    return [
        ActivationInterval(round(low, 4), round(high, 4), share)
        for low, high, share in zip(edges[:-1].tolist(), edges[1:].tolist(), shares, strict=True)
    ]


def find_interval(value: float, top: float, found: list[ActivationInterval]) -> ActivationInterval:
    """Return the interval that contains an activation; `top` is the feature's largest
    activation."""
    return found[min(int(value / top * len(found)), len(found) - 1)]
