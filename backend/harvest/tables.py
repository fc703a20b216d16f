"""The best contexts of each group, kept while the corpus streams by.

A group is a slot and a split. Which rows are kept depends on the rows alone, never on the order in
which they came, so parts merge and a resumed harvest ends where an undisturbed one does.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BUFFER = 1 << 16
"""Rows gathered before the first merge; later half of what is held."""
BLOCK = 1 << 20
"""Rows merged at a time: what a merge may hold besides the table."""


class Candidates(NamedTuple):
    """Rows of a table: numpy arrays of one length."""

    group: np.ndarray
    """slot · 2 + split, int32."""
    window: np.ndarray
    value: np.ndarray
    """Magnitude of the window's peak, float32."""
    offset: np.ndarray
    """Where its record lies in the spool, int64."""

    def take(self, index: np.ndarray | slice) -> "Candidates":
        """The rows at `index`: a mask, numbers or a slice."""
        return Candidates(*(column[index] for column in self))

    @classmethod
    def join(cls, parts: list["Candidates"]) -> "Candidates":
        """All rows of all parts."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @classmethod
    def none(cls) -> "Candidates":
        """No rows."""
        return cls(
            np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32),
            np.empty(0, np.int64),
        )  # fmt: skip


Keep = Callable[[Candidates], np.ndarray]
"""Rows → the numbers of those to keep, ordered by group."""


class Table:
    """Rows ordered by group, and a buffer of newer ones not yet merged."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self.rows = Candidates.none()
        self._buffer: list[Candidates] = []
        self._buffered = 0

    def add(self, new: Candidates) -> bool:
        """Take rows in; True when that led to a merge, so that thresholds have moved."""
        self._buffer.append(new)
        self._buffered += len(new.group)
        if self._buffered < max(BUFFER, len(self.rows.group) // 2):
            return False
        self.merge()
        return True

    def merge(self) -> None:
        """Fold the buffer into the table, a block of groups at a time."""
        if not self._buffered:
            return
        new = Candidates.join(self._buffer)
        self._buffer, self._buffered = [], 0
        n_blocks = (len(self.rows.group) + len(new.group)) // BLOCK + 1
        highest = max(int(part.group.max(initial=0)) for part in (self.rows, new)) + 1
        edges = np.linspace(0, highest, n_blocks + 1).astype(np.int64)
        kept = []
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            a, b = np.searchsorted(self.rows.group, [low, high])
            mine = (new.group >= low) & (new.group < high) if n_blocks > 1 else slice(None)
            block = Candidates.join([self.rows.take(slice(a, b)), new.take(mine)])
            kept.append(block.take(self._keep(block)))
        self.rows = Candidates.join(kept)

    @property
    def nbytes(self) -> int:
        """Memory of the rows and the buffer."""
        return sum(column.nbytes for part in (self.rows, *self._buffer) for column in part)


def stable(order: Tensor, *keys: np.ndarray) -> Tensor:
    """Sort `order` by the last key, then by the one before within equal ones, and so on."""
    for key in keys:
        order = order[torch.sort(torch.from_numpy(key)[order], stable=True).indices]
    return order


def rank_within(group: np.ndarray) -> np.ndarray:
    """0, 1, 2… inside each stretch of equal values."""
    new = np.empty(len(group), dtype=bool)
    new[:1] = True
    np.not_equal(group[1:], group[:-1], out=new[1:])
    begin = np.flatnonzero(new)
    return np.arange(len(group)) - np.repeat(begin, np.diff(begin, append=len(group)))


def keep_top(k: int, document_of: np.ndarray) -> Keep:
    """The k rows of largest value in each group, one per document; ties: the earlier window."""

    def keep(rows: Candidates) -> np.ndarray:
        order = stable(torch.arange(len(rows.group)), rows.window, -rows.value)
        document = document_of[rows.window]
        by_document = stable(order, document, rows.group).numpy()
        pair = rows.group[by_document].astype(np.int64) << 32 | document[by_document]
        best = np.zeros(len(rows.group), dtype=bool)
        best[by_document[rank_within(pair) == 0]] = True
        ordered = stable(order[torch.from_numpy(best)[order]], rows.group).numpy()
        return ordered[rank_within(rows.group[ordered]) < k]

    return keep


def keep_spread(
    uniform: int,
    per_octave: int,
    priority_of: Callable[[Candidates], np.ndarray],
    octave_of: Callable[[np.ndarray], np.ndarray],
    n_octaves: int,
) -> Keep:
    """The `uniform` rows of highest priority in each group, and the `per_octave` of each octave.

    Priorities are hashes. Inside an octave the rows kept are those of highest priority, whatever
    the two numbers are: a simple random sample of the octave's windows.
    """

    def keep(rows: Candidates) -> np.ndarray:
        order = stable(torch.arange(len(rows.group)), rows.window, -priority_of(rows), rows.group)
        ordered = order.numpy()
        first = np.zeros(len(ordered), dtype=bool)
        first[ordered[rank_within(rows.group[ordered]) < uniform]] = True
        cell = rows.group * n_octaves + octave_of(rows.value)
        by_cell = stable(order, cell).numpy()
        first[by_cell[rank_within(cell[by_cell]) < per_octave]] = True
        return ordered[first[ordered]]

    return keep
