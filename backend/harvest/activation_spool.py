"""Activation spool: a file on disk that holds the activations of context windows, appended to while
the harvest runs and read at its end.

A record is int32 words: the number of activations, the peak's position, the window's start, the
positions, the activation values' bits. Records that no reservoir row points to any longer are never
read.
"""

import os
from pathlib import Path

import numpy as np

HEADER_WORDS = 3
"""Words at the beginning of a spool record: count, peak position, window start."""


class ActivationSpool:
    """Append-only spool file on disk of the activations in context windows. On resume, everything
    after the last checkpoint is cut off."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Open the spool file at `path` for appending, after cutting it to its first `length` int32
        words."""
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
        """Append spool records, one for each context window (entry of `count`, its number of
        activations), and return where each begins in the file, in int32 words, as int64.

        `positions` and `values` hold the activations of all records one after the other.
        """
        size = count.astype(np.int64) * 2 + HEADER_WORDS
        begin = np.cumsum(size) - size
        words = np.empty(int(size.sum()), dtype=np.int32)
        words[begin], words[begin + 1], words[begin + 2] = count, peak, start
        owner = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
        word_index = begin[owner] + HEADER_WORDS + within
        words[word_index] = positions
        words[word_index + count[owner]] = values.astype(np.float32).view(np.int32)
        offsets = begin + self.length
        self._file.write(words.tobytes())
        self.length += len(words)
        return offsets

    def sync(self) -> int:
        """Flush the spool to disk and return its length in words, which the checkpoint records."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.length

    def close(self) -> None:
        """Close the spool file; its records stay on disk."""
        self._file.close()


class SpoolRecords:
    """Reader of activation spool records, each the activations of one context window, from one
    spool file or several."""

    def __init__(self, spools: list[np.ndarray]) -> None:
        """Create a reader of spool records over `spools`, memory maps of int32 words. Record
        offsets count words as if the spools were joined end to end."""
        self._spools = spools
        self._base = np.concatenate([[0], np.cumsum([len(words) for words in spools])])

    def read(self, offsets: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return count, peak and start of the spool records at `offsets`, then the positions and
        values of all their activations in order."""
        count = self._gather(offsets)
        owner = np.repeat(np.arange(len(offsets)), count)
        within = np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
        word_index = offsets[owner] + HEADER_WORDS + within
        values = self._gather(word_index + count[owner]).view(np.float32)
        peak, start = self._gather(offsets + 1), self._gather(offsets + 2)
        return count, peak, start, self._gather(word_index), values

    def _gather(self, word_index: np.ndarray) -> np.ndarray:
        """Return the int32 words of the activation spool at the indices `word_index`, which count
        as if all spool files were joined end to end."""
        if len(self._spools) == 1:
            return np.asarray(self._spools[0][word_index])
        out = np.empty(len(word_index), dtype=np.int32)
        spool_number = np.searchsorted(self._base, word_index, side="right") - 1
        for number, words in enumerate(self._spools):
            in_spool = spool_number == number
            out[in_spool] = words[word_index[in_spool] - self._base[number]]
        return out


def map_spool_words(path: Path, length: int) -> np.ndarray:
    """Return the first `length` int32 words of an activation spool file, memory-mapped."""
    if not length:
        return np.empty(0, dtype=np.int32)
    return np.memmap(path, dtype=np.int32, mode="r", shape=(length,))
