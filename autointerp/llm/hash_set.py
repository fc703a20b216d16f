"""Memory-efficient set of 64-bit hashes that can grow: 8 bytes each in a sorted array."""

import numpy as np

MAX_UNSORTED = 50_000
"""Number of hashes that are held in a Python set, which is fast and large, before they are merged
into the sorted array of the hash set."""


class HashSet:
    """Set of 64-bit hashes, used to tell which requests have a recorded reply."""

    def __init__(self, hashes: np.ndarray) -> None:
        """Build the hash set from hashes [n] uint64 in any order."""
        self._sorted = np.sort(hashes.astype(np.uint64))
        self._recent: set[int] = set()

    def add(self, value: int) -> None:
        """Add one hash to the hash set."""
        self._recent.add(value)
        # sorting is expensive: many new hashes are merged at once
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
