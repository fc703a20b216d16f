"""A feature's activations in bars and intervals of equal width, as dashboards elsewhere show them.

A harvest counts activations in bins that grow with the activation (four to the octave). Counts of
equal bars are read off them, linear inside a bin, so they are estimates; their sum is exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_store.activation_histogram import bin_edge

N_BARS, N_INTERVALS = 40, 5
"""Bars of the histogram, and intervals of the contexts."""


@dataclass(frozen=True)
class ActivationInterval:
    """Activations from `low` to `high`, and the share of all tokens that have one."""

    low: float
    high: float
    share: float


def count_below_edges(row: dict[str, Any], edges: np.ndarray) -> np.ndarray:
    """How many of a feature's active tokens lie below each edge."""
    counts, start, top = row["histogram"], row["histogram_start"], row["max_act"]
    bins = [bin_edge(start + i) for i in range(len(counts) + 1)]
    bins[-1] = max(top, bins[-2])  # nothing lies between the maximum and its bin's end
    return np.interp(edges, bins, np.concatenate([[0], np.cumsum(counts)]))


def histogram_bars(row: dict[str, Any]) -> tuple[list[int], list[float]]:
    """(active tokens, middle) of BARS equal bars from 0 to the maximum; none if it never fired."""
    if not row["histogram"] or not row["max_act"]:
        return [], []
    edges = np.linspace(0, row["max_act"], N_BARS + 1)
    below = count_below_edges(row, edges).round()  # before the differences: their sum stays exact
    below[0] = 0
    middles = (edges[1:] + edges[:-1]) / 2
    return np.diff(below).astype(int).tolist(), middles.round(4).tolist()


def split_into_intervals(row: dict[str, Any]) -> list[ActivationInterval]:
    """INTERVALS equal intervals from 0 to the maximum, weakest first; none if it never fired."""
    if not row["histogram"] or not row["max_act"]:
        return []
    edges = np.linspace(0, row["max_act"], N_INTERVALS + 1)
    shares = np.diff(count_below_edges(row, edges)) / sum(row["histogram"]) * row["density"]
    return [
        ActivationInterval(round(low, 4), round(high, 4), share)
        for low, high, share in zip(edges[:-1].tolist(), edges[1:].tolist(), shares, strict=True)
    ]


def find_interval(value: float, top: float, found: list[ActivationInterval]) -> ActivationInterval:
    """The interval that a value lies in; `top` is the largest activation."""
    return found[min(int(value / top * len(found)), len(found) - 1)]
