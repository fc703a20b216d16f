"""Contexts' activations on disk: appended while the harvest runs, read back at its end.

A record is int32 words: how many pairs, the peak's position, the window's start, the positions, the
activations' bits. Only records that the tables still point to matter; the others are left behind.
"""

import os
from pathlib import Path

import numpy as np

HEADER_WORDS = 3


class ActivationSpool:
    """An append-only file of records. What lies beyond a checkpoint is cut off on resume."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open `path`, keeping its first `length` words."""
        path.touch()
        self.path = path
        self.length = length
        os.truncate(path, length * 4)
        self._file = path.open("ab")

    def append(
        self,
        count: np.ndarray,
        peak: np.ndarray,
        start: np.ndarray,
        positions: np.ndarray,
        values: np.ndarray,
    ) -> np.ndarray:
        """Write a record for each entry of `count`; their offsets in words, int64.

        `positions` and `values` hold the pairs of all records one after the other.
        """
        size = count.astype(np.int64) * 2 + HEADER_WORDS
        begin = np.cumsum(size) - size
        words = np.empty(int(size.sum()), dtype=np.int32)
        words[begin], words[begin + 1], words[begin + 2] = count, peak, start
        owner = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
        at = begin[owner] + HEADER_WORDS + within
        words[at] = positions
        words[at + count[owner]] = values.astype(np.float32).view(np.int32)
        offsets = begin + self.length
        self._file.write(words.tobytes())
        self.length += len(words)
        return offsets

    def sync(self) -> int:
        """Force what was written to disk; the length in words to note in the checkpoint."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.length

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class SpoolRecords:
    """The records that a table's rows point to, read from one spool or several."""

    def __init__(self, spools: list[np.ndarray]) -> None:
        """`spools` are memory maps of int32 words; offsets count through them in order."""
        self._spools = spools
        self._base = np.concatenate([[0], np.cumsum([len(words) for words in spools])])

    def read(self, offsets: np.ndarray) -> tuple[np.ndarray, ...]:
        """count, peak, start [record], and positions, values of all pairs in order."""
        count = self._gather(offsets)
        owner = np.repeat(np.arange(len(offsets)), count)
        within = np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
        at = offsets[owner] + HEADER_WORDS + within
        values = self._gather(at + count[owner]).view(np.float32)
        peak, start = self._gather(offsets + 1), self._gather(offsets + 2)
        return count, peak, start, self._gather(at), values

    def _gather(self, at: np.ndarray) -> np.ndarray:
        if len(self._spools) == 1:
            return np.asarray(self._spools[0][at])
        out = np.empty(len(at), dtype=np.int32)
        which = np.searchsorted(self._base, at, side="right") - 1
        for number, words in enumerate(self._spools):
            mine = which == number
            out[mine] = words[at[mine] - self._base[number]]
        return out


def map_spool_words(path: Path, length: int) -> np.ndarray:
    """A spool's first `length` words, memory-mapped."""
    if not length:
        return np.empty(0, dtype=np.int32)
    return np.memmap(path, dtype=np.int32, mode="r", shape=(length,))
