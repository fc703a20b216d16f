"""Context reservoir: the best context candidates of each group (slot and split), kept while the
corpus streams by.

Which rows are kept depends on the rows alone, never on their order, so shards merge and a resumed
harvest gives the same contexts as an uninterrupted one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

MIN_BUFFER_ROWS = 1 << 16
"""Rows buffered before the reservoir's first merge; later, as many as the reservoir holds."""
MERGE_BLOCK_ROWS = 1 << 20
"""Rows merged at a time, which bounds the extra memory of a merge."""


class ContextCandidates(NamedTuple):
    """Windows that may become contexts of a feature, one per row: group (feature, sign and split),
    window number, peak magnitude and spool offset, as numpy arrays of one length."""

    group: np.ndarray
    """Group number, slot · 2 + split, int32."""
    window: np.ndarray
    value: np.ndarray
    """Magnitude of the window's peak activation, float32."""
    offset: np.ndarray
    """Offset of the candidate's record in the spool, in words, int64."""

    def take(self, index: np.ndarray | slice) -> "ContextCandidates":
        """Return the context candidates that `index` selects: row numbers, a mask or a slice."""
        return ContextCandidates(*(column[index] for column in self))

    @classmethod
    def join(cls, parts: list["ContextCandidates"]) -> "ContextCandidates":
        """Concatenate several sets of context candidates into one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @classmethod
    def none(cls) -> "ContextCandidates":
        """Return an empty set of context candidates."""
        return cls(
            np.empty(0, np.int32),
            np.empty(0, np.int32),
            np.empty(0, np.float32),
            np.empty(0, np.int64),
        )


KeepRule = Callable[[ContextCandidates], np.ndarray]
"""Rule of a reservoir: takes candidate rows, returns the numbers of those to keep, sorted by
group."""
WriteRecords = Callable[[np.ndarray], np.ndarray]
"""Function that writes the spool records of the rows with the given numbers, and returns their
offsets."""


class ContextReservoir:
    """Reservoir of context candidates: the rows kept so far by a rule, sorted by group (feature,
    sign and split), and a buffer of newer rows that are not merged yet."""

    def __init__(self, keep: KeepRule) -> None:
        self._keep = keep
        self.rows = ContextCandidates.none()
        self._buffer: list[ContextCandidates] = []
        self._buffered = 0

    def add(self, new: ContextCandidates) -> bool:
        """Add context candidates to the reservoir's buffer. Returns True where the full buffer was
        then merged, so that the samplers' thresholds have changed."""
        self._buffer.append(new)
        self._buffered += len(new.group)
        if self._buffered < self._limit:
            return False
        self.merge()
        return True

    def offer(self, new: ContextCandidates, write: WriteRecords) -> bool:
        """Offer a chunk's context candidates to the reservoir, writing spool records only for
        candidates that may be kept.

        Returns True where that caused a merge. Where the rows are enough for a merge, they are
        sorted together with the reservoir at once; otherwise only the chunk's own best rows enter
        the buffer.
        """
        if self._buffered + len(new.group) < self._limit:
            kept = self._keep(new)
            return len(kept) > 0 and self.add(new.take(kept)._replace(offset=write(kept)))
        self._buffer.append(new._replace(offset=-1 - np.arange(len(new.group))))
        self._buffered += len(new.group)
        self.merge()
        new_rows = np.flatnonzero(self.rows.offset < 0)
        index = -1 - self.rows.offset[new_rows]
        order = np.argsort(index)
        self.rows.offset[new_rows[order]] = write(index[order])
        return True

    @property
    def _limit(self) -> int:
        """Number of buffered rows at which the reservoir merges."""
        return max(MIN_BUFFER_ROWS, len(self.rows.group))

    def merge(self) -> None:
        """Merge the buffered rows into the reservoir, a block of groups at a time."""
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
            in_block = (new.group >= low) & (new.group < high) if n_blocks > 1 else slice(None)
            block = ContextCandidates.join([self.rows.take(slice(a, b)), new.take(in_block)])
            kept.append(block.take(self._keep(block)))
        self.rows = ContextCandidates.join(kept)

    @property
    def nbytes(self) -> int:
        """Memory of the reservoir's rows and buffer, in bytes."""
        return sum(column.nbytes for part in (self.rows, *self._buffer) for column in part)


def order_rows(group: np.ndarray, order_key: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Return the numbers of reservoir rows sorted by group, then by descending `order_key` (31
    bits), then by window.

    One radix sort of packed keys does most of the work; only rows that tie are sorted a second
    time.
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
    """Return the numbers of reservoir rows sorted by key; rows of equal key keep their order."""
    return torch.sort(torch.from_numpy(key), stable=True).indices.numpy()


def rank_within_groups(group: np.ndarray) -> np.ndarray:
    """Return the rank 0, 1, 2, … of each reservoir row inside its stretch of equal group values."""
    new = np.empty(len(group), dtype=bool)
    new[:1] = True
    np.not_equal(group[1:], group[:-1], out=new[1:])
    begin = np.flatnonzero(new)
    return np.arange(len(group)) - np.repeat(begin, np.diff(begin, append=len(group)))


def keep_strongest(k: int, document_of: np.ndarray) -> KeepRule:
    """Return the rule by which a reservoir keeps the k rows of largest activation in each group, at
    most one per document; of equal rows, the earlier window."""

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
    """Return the rule by which a reservoir keeps the `uniform` rows of highest priority in each
    group, and the `per_octave` rows of highest priority in each octave.

    Priorities are hashes, so the rows kept in an octave are a simple random sample of its windows.
    """

    def keep(rows: ContextCandidates) -> np.ndarray:
        order = order_rows(rows.group, priority_of(rows), rows.window)
        cell = (rows.group * n_octaves + octave_of(rows.value))[order]
        kept = rank_within_groups(rows.group[order]) < uniform
        rest = np.flatnonzero(~kept)
        rest = rest[stable_order(cell[rest])]
        # Within a cell the uniform rows come before the rest, so they take its first places.
        n_uniform = np.bincount(cell[kept], minlength=int(cell.max(initial=-1)) + 1)
        place = rank_within_groups(cell[rest]) + n_uniform[cell[rest]]
        kept[rest[place < per_octave]] = True
        return order[kept]

    return keep
