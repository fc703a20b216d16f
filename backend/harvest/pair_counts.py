"""Pair counts: sparse counts of (feature, token id) pairs, from which a feature's most frequent
tokens follow."""

import numpy as np
import torch
from torch import Tensor

from backend.harvest.segments import select_rows

FLUSH_KEYS = 1 << 19
"""Pair keys gathered in a buffer before they are counted."""


class PairCounts:
    """Sparse table of how often each (feature, token id) pair occurs in a sample of tokens, with
    the sum of each pair's activation magnitudes. Left is the feature, right the token id (int32).

    Memory is proportional to the distinct pairs; the caller bounds their number by the sampling
    rate.
    """

    def __init__(self) -> None:
        self.keys = np.empty(0, dtype=np.int64)
        self.count = np.empty(0, dtype=np.int64)
        self.weight = np.empty(0, dtype=np.float64)
        self._raw: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._n_raw = 0

    def add(self, left: Tensor, right: Tensor, weight: Tensor | None = None) -> None:
        """Count (feature, token id) pairs, one for each entry of `left` and `right`, each with an
        optional weight (the activation's magnitude)."""
        keys = (left.long() << 32 | right.long()).cpu().numpy()
        self._raw.append((keys, None if weight is None else weight.double().cpu().numpy()))
        self._n_raw += len(keys)
        if self._n_raw >= max(FLUSH_KEYS, len(self.keys) // 2):
            self.flush()

    def flush(self) -> None:
        """Count the gathered (feature, token id) pairs and empty the buffer."""
        if not self._raw:
            return
        raw = [keys for keys, _ in self._raw]
        weights = [w if w is not None else np.zeros(len(k)) for k, w in self._raw]
        self._raw, self._n_raw = [], 0
        self._reduce(raw, [np.ones(len(keys), dtype=np.int64) for keys in raw], weights)

    def merge(self, keys: np.ndarray, count: np.ndarray, weight: np.ndarray) -> None:
        """Add the (feature, token id) pair counts of another shard or checkpoint."""
        self.flush()
        self._reduce([keys], [count], [weight])

    def _reduce(
        self, keys: list[np.ndarray], count: list[np.ndarray], weight: list[np.ndarray]
    ) -> None:
        """Merge new pair keys into the sorted pair counts, summing the counts and weights of equal
        keys."""
        found = torch.sort(torch.from_numpy(np.concatenate([self.keys, *keys])), stable=True)
        ordered, order = found.values.numpy(), found.indices
        begin = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(order)])
        self.keys = ordered[begin]
        if len(begin):
            both = (np.concatenate([self.count, *count]), np.concatenate([self.weight, *weight]))
            tallies = (select_rows(torch.from_numpy(column), order).numpy() for column in both)
            self.count, self.weight = (np.add.reduceat(column, begin) for column in tallies)

    @property
    def left(self) -> np.ndarray:
        """Feature (left number) of each counted (feature, token id) pair."""
        return self.keys >> 32

    @property
    def right(self) -> np.ndarray:
        """Token id (right number) of each counted (feature, token id) pair."""
        return self.keys & 0xFFFFFFFF

    @property
    def nbytes(self) -> int:
        """Memory of the pair counts, in bytes."""
        return self.keys.nbytes + self.count.nbytes + self.weight.nbytes
