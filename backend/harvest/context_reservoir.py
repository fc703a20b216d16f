"""The best contexts of each group, kept while the corpus streams by.

A group is a slot and a split. Which rows are kept depends on the rows alone, never on the order in
which they came, so parts merge and a resumed harvest ends where an undisturbed one does.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

MIN_BUFFER_ROWS = 1 << 16
"""Rows gathered before the first merge; later as many as are held."""
MERGE_BLOCK_ROWS = 1 << 20
"""Rows merged at a time: what a merge may hold besides the table."""


class ContextCandidates(NamedTuple):
    """Rows of a table: numpy arrays of one length."""

    group: np.ndarray
    """slot · 2 + split, int32."""
    window: np.ndarray
    value: np.ndarray
    """Magnitude of the window's peak, float32."""
    offset: np.ndarray
    """Where its record lies in the spool, int64."""

    def take(self, index: np.ndarray | slice) -> "ContextCandidates":
        """The rows at `index`: a mask, numbers or a slice."""
        return ContextCandidates(*(column[index] for column in self))

    @classmethod
    def join(cls, parts: list["ContextCandidates"]) -> "ContextCandidates":
        """All rows of all parts."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @classmethod
    def none(cls) -> "ContextCandidates":
        """No rows."""
        return cls(
            np.empty(0, np.int32),
            np.empty(0, np.int32),
            np.empty(0, np.float32),
            np.empty(0, np.int64),
        )


KeepRule = Callable[[ContextCandidates], np.ndarray]
"""Rows → the numbers of those to keep, ordered by group."""
WriteRecords = Callable[[np.ndarray], np.ndarray]
"""Numbers of rows → where the records written for them begin."""


class ContextReservoir:
    """Rows ordered by group, and a buffer of newer ones not yet merged."""

    def __init__(self, keep: KeepRule) -> None:
        self._keep = keep
        self.rows = ContextCandidates.none()
        self._buffer: list[ContextCandidates] = []
        self._buffered = 0

    def add(self, new: ContextCandidates) -> bool:
        """Take rows in; True when that led to a merge, so that thresholds have moved."""
        self._buffer.append(new)
        self._buffered += len(new.group)
        if self._buffered < self._limit:
            return False
        self.merge()
        return True

    def offer(self, new: ContextCandidates, write: WriteRecords) -> bool:
        """Take in what may be kept of a chunk, writing records only for that; True when it merged.

        Where the rows are enough for a merge they are sorted with the table at once; else the
        chunk's own best wait in the buffer.
        """
        if self._buffered + len(new.group) < self._limit:
            kept = self._keep(new)
            return len(kept) > 0 and self.add(new.take(kept)._replace(offset=write(kept)))
        self._buffer.append(new._replace(offset=-1 - np.arange(len(new.group))))
        self._buffered += len(new.group)
        self.merge()
        fresh = np.flatnonzero(self.rows.offset < 0)
        index = -1 - self.rows.offset[fresh]
        order = np.argsort(index)
        self.rows.offset[fresh[order]] = write(index[order])
        return True

    @property
    def _limit(self) -> int:
        return max(MIN_BUFFER_ROWS, len(self.rows.group))

    def merge(self) -> None:
        """Fold the buffer into the table, a block of groups at a time."""
        if not self._buffered:
            return
        new = ContextCandidates.join(self._buffer)
        self._buffer, self._buffered = [], 0
        n_blocks = (len(self.rows.group) + len(new.group)) // MERGE_BLOCK_ROWS + 1
        highest = max(int(part.group.max(initial=0)) for part in (self.rows, new)) + 1
        edges = np.linspace(0, highest, n_blocks + 1).astype(np.int64)
        kept = []
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            a, b = np.searchsorted(self.rows.group, [low, high])
            mine = (new.group >= low) & (new.group < high) if n_blocks > 1 else slice(None)
            block = ContextCandidates.join([self.rows.take(slice(a, b)), new.take(mine)])
            kept.append(block.take(self._keep(block)))
        self.rows = ContextCandidates.join(kept)

    @property
    def nbytes(self) -> int:
        """Memory of the rows and the buffer."""
        return sum(column.nbytes for part in (self.rows, *self._buffer) for column in part)


def order_rows(group: np.ndarray, order_key: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Row numbers by group, then by descending `order_key` (31 bits), then by window.

    One radix sort of packed keys; only rows that tie are looked at again.
    """
    packed = group.astype(np.int64) << 31 | (0x7FFFFFFF - order_key)
    found = torch.sort(torch.from_numpy(packed), stable=True)
    keys, order = found.values.numpy(), found.indices.numpy()
    tied = keys[1:] == keys[:-1]
    if tied.any():
        member = np.zeros(len(keys), dtype=bool)
        member[1:] |= tied
        member[:-1] |= tied
        places = np.flatnonzero(member)
        rows = order[places]
        order[places] = rows[np.lexsort((window[rows], keys[places]))]
    return order


def stable_order(key: np.ndarray) -> np.ndarray:
    """Row numbers by key, equal ones in their order."""
    return torch.sort(torch.from_numpy(key), stable=True).indices.numpy()


def rank_within_groups(group: np.ndarray) -> np.ndarray:
    """0, 1, 2… inside each stretch of equal values."""
    new = np.empty(len(group), dtype=bool)
    new[:1] = True
    np.not_equal(group[1:], group[:-1], out=new[1:])
    begin = np.flatnonzero(new)
    return np.arange(len(group)) - np.repeat(begin, np.diff(begin, append=len(group)))


def keep_strongest(k: int, document_of: np.ndarray) -> KeepRule:
    """The k rows of largest value in each group, one per document; ties: the earlier window."""

    def keep(rows: ContextCandidates) -> np.ndarray:
        order = order_rows(rows.group, rows.value.view(np.int32), rows.window)
        group = rows.group[order]
        pair = group.astype(np.int64) << 32 | document_of[rows.window[order]]
        by_document = stable_order(pair)
        first = rank_within_groups(pair[by_document]) == 0
        best = np.zeros(len(order), dtype=bool)
        best[by_document[first]] = True  # the strongest of its document
        order, group = order[best], group[best]
        return order[rank_within_groups(group) < k]

    return keep


def keep_by_octave(
    uniform: int,
    per_octave: int,
    priority_of: Callable[[ContextCandidates], np.ndarray],
    octave_of: Callable[[np.ndarray], np.ndarray],
    n_octaves: int,
) -> KeepRule:
    """The `uniform` rows of highest priority in each group, and the `per_octave` of each octave.

    Priorities are hashes. Inside an octave the rows kept are those of highest priority, whatever
    the two numbers are: a simple random sample of the octave's windows.
    """

    def keep(rows: ContextCandidates) -> np.ndarray:
        order = order_rows(rows.group, priority_of(rows), rows.window)
        cell = (rows.group * n_octaves + octave_of(rows.value))[order]
        kept = rank_within_groups(rows.group[order]) < uniform
        rest = np.flatnonzero(~kept)
        rest = rest[stable_order(cell[rest])]
        # Within a cell the uniform rows come before the rest, so they take its first places.
        taken = np.bincount(cell[kept], minlength=int(cell.max(initial=-1)) + 1)
        place = rank_within_groups(cell[rest]) + taken[cell[rest]]
        kept[rest[place < per_octave]] = True
        return order[kept]

    return keep
