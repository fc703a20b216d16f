"""Pool of random windows: the same tokens with all their activations under every dictionary of a
harvest (fewer windows for a dictionary on which very many features fire at once).

Features of any two dictionaries can be compared on the pool without running the model.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from feature_store.arrow_arrays import concat_column, flatten_list_column
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Split

MIN_TOGETHER = 5
"""Minimum number of tokens on which two features fire together for their correlation to be
shown."""


class PoolWindow(NamedTuple):
    """Location of one window of the pool of random windows: its sequence, start and length."""

    sequence: int
    start: int
    length: int
    split: Split
    document: int
    first: int
    """Number of the window's first token within the pool."""


@dataclass(frozen=True)
class WindowPool:
    """Activations of one dictionary on the pool of random windows, ordered by feature."""

    n_tokens: int
    """Number of tokens in the pool's windows."""
    token: np.ndarray
    """Number within the pool of each activation's token, [n_activations]; `feature` and `value`
    are aligned to it."""
    feature: np.ndarray
    value: np.ndarray
    d_sae: int
    windows: list[PoolWindow] = field(default_factory=list)

    def activations_of(self, feature: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the pool tokens on which a feature fires, and its activations there."""
        low, high = np.searchsorted(self.feature, [feature, feature + 1])
        return self.token[low:high], self.value[low:high]


@dataclass(frozen=True)
class CorrelatedFeature:
    """A feature whose activations on the pool of random windows correlate with those of another
    feature."""

    feature: int
    correlation: float
    """Pearson's r of the two features' activations over all tokens of the pool."""
    together: int
    """Number of tokens of the pool on which both features fire."""


def read_pool(file: HarvestFile, dictionary: str) -> WindowPool:
    """Read a dictionary's activations on the pool of random windows from a harvest file."""
    info = file.dictionary(dictionary)
    table = file.rows(
        "SELECT w.sequence, w.start, length, w.split::VARCHAR AS split, positions, features, "
        "activations, document, documents, borders FROM silent_window w "
        'JOIN sequence USING (sequence) WHERE dictionary = ? ORDER BY "window"',
        [dictionary],
    )
    length = concat_column(table, "length").astype(np.int64)
    first = np.cumsum(length) - length
    base = first - concat_column(table, "start")
    position, count = flatten_list_column(table, "positions")
    feature, _ = flatten_list_column(table, "features")
    value, _ = flatten_list_column(table, "activations")
    token = np.repeat(base, count) + position
    order = np.argsort(feature, kind="stable")
    names = ("sequence", "start", "length", "split")
    columns = [table.column(name).to_pylist() for name in names]
    return WindowPool(
        int(length.sum()),
        token[order],
        feature[order],
        value[order].astype(float),
        info.d_sae,
        [
            PoolWindow(*row)
            for row in zip(*columns, find_window_documents(table), first.tolist(), strict=True)
        ],
    )


def find_window_documents(table: pa.Table) -> list[int]:
    """Return the document of each window of the pool; in a packed sequence that of the segment
    in which the window starts."""
    names = ("start", "document", "documents", "borders")
    rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return [
        inside[max(bisect_right(borders, start) - 1, 0)] if inside else document
        for start, document, inside, borders in rows
    ]


def align_pools(pools: Sequence[WindowPool]) -> list[WindowPool]:
    """Reduce several dictionaries' pools of random windows to the windows that all of them have, so
    that a token has the same number in each.

    A dictionary on which very many features fire at once has fewer windows than the others.
    """
    places = [[(w.sequence, w.start) for w in one.windows] for one in pools]
    if all(one == places[0] for one in places):
        return list(pools)
    shared = set(places[0]).intersection(*places[1:])
    return [keep_windows(one, shared) for one in pools]


def keep_windows(pool: WindowPool, places: set[tuple[int, int]]) -> WindowPool:
    """Return a pool of random windows reduced to those at the given (sequence, start) places, with
    its tokens renumbered."""
    kept = [w for w in pool.windows if (w.sequence, w.start) in places]
    number = np.full(pool.n_tokens, -1, dtype=np.int64)  # in the new pool, of each old token
    windows, n = [], 0
    for window in kept:
        number[window.first : window.first + window.length] = np.arange(n, n + window.length)
        windows.append(window._replace(first=n))
        n += window.length
    token = number[pool.token]
    inside = token >= 0
    columns = token[inside], pool.feature[inside], pool.value[inside]
    return WindowPool(n, *columns, pool.d_sae, windows)


def find_correlated_features(
    mine: WindowPool, feature: int, other: WindowPool, n: int
) -> list[CorrelatedFeature]:
    """Find the `n` features in the pool of random windows `other` whose activations correlate most
    with those of a feature in the pool `mine`; the pools may be of two dictionaries.

    Features that fire together with it on fewer than MIN_TOGETHER tokens are left out. r = (N·Σxy −
    Σx·Σy) ÷ √((N·Σx² − (Σx)²)(N·Σy² − (Σy)²)), with N the number of tokens of the pool.
    """
    mine, other = align_pools([mine, other])
    tokens, values = mine.activations_of(feature)
    x = np.zeros(mine.n_tokens)
    x[tokens] = values
    there = x[other.token]
    total = np.bincount(other.feature, weights=other.value, minlength=other.d_sae)
    square = np.bincount(other.feature, weights=other.value**2, minlength=other.d_sae)
    product = np.bincount(other.feature, weights=other.value * there, minlength=other.d_sae)
    together = np.bincount(other.feature, weights=there != 0, minlength=other.d_sae)
    size = mine.n_tokens
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (size * (x**2).sum() - x.sum() ** 2) * (size * square - total**2)
        r = (size * product - x.sum() * total) / np.sqrt(spread)
    r[(together < MIN_TOGETHER) | ~np.isfinite(r)] = -np.inf
    best = np.argsort(-r, kind="stable")[:n]
    return [
        CorrelatedFeature(int(i), float(r[i]), int(together[i])) for i in best if np.isfinite(r[i])
    ]
