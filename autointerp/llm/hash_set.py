"""A growing set of 64-bit hashes, 8 bytes each."""

import numpy as np

MAX_UNSORTED = 50_000
"""How many are held in the quick and large form."""


class HashSet:
    """Hashes that were added, and perhaps none of the others."""

    def __init__(self, hashes: np.ndarray) -> None:
        """From [n] uint64 in any order."""
        self._sorted = np.sort(hashes.astype(np.uint64))
        self._recent: set[int] = set()

    def add(self, value: int) -> None:
        """One more."""
        self._recent.add(value)
        if len(self._recent) >= MAX_UNSORTED:
            fresh = np.fromiter(self._recent, np.uint64, len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, fresh]))
            self._recent = set()

    def __contains__(self, value: int) -> bool:
        if value in self._recent:
            return True
        wanted = np.uint64(value)
        place = int(np.searchsorted(self._sorted, wanted))
        return place < len(self._sorted) and self._sorted[place] == wanted
