"""One dictionary's activations in the random windows of the silent pool, in bounded memory.

All non-zero activations of a window are stored, so a dictionary on which thousands of features fire
at once would fill a store with them. It gets fewer of the pool's windows: the first of their random
order whose activations fit, which are as random as all of them. How many follows from the
activations alone, whatever order they come in.
"""

import numpy as np

MAX_ACTIVATIONS = 1 << 22
"""Activations stored for a dictionary (10 bytes each in the file, before compression)."""
MIN_WINDOWS = 64
"""Windows that a dictionary gets whatever they hold: 32 of each split, where 20 silent ones are
wanted for scores."""
SLACK_ACTIVATIONS = 1 << 20
"""Activations gathered before those of windows that no longer fit are let go."""
COLUMN_DTYPES = {"window": np.int32, "position": np.int32, "feature": np.int32, "value": np.float32}

PoolColumns = dict[str, np.ndarray]
"""`window`, `position`, `feature` and `value` of each activation."""


class SilentPool:
    """Non-zero activations in the first windows of the pool that fit."""

    def __init__(self, order: np.ndarray) -> None:
        """`order`: the pool's windows in their random order, splits taking turns."""
        self._order = order
        self._sorted = np.argsort(order)
        self._counts = np.zeros(len(order), dtype=np.int64)
        """Activations of each window, in the random order; of windows that were let go, too."""
        self._parts: list[PoolColumns] = []
        self._pending = 0

    @property
    def windows(self) -> np.ndarray:
        """The windows that fit, rising."""
        fits = int(np.searchsorted(np.cumsum(self._counts), MAX_ACTIVATIONS, "right"))
        return np.sort(self._order[: max(fits, MIN_WINDOWS)])

    def add(self, columns: PoolColumns) -> None:
        """Take activations in. A window's may come in several parts."""
        place = np.searchsorted(self._order[self._sorted], columns["window"])
        self._counts += np.bincount(self._sorted[place], minlength=len(self._order))
        self._gather(columns)

    def merge(self, columns: PoolColumns, counts: np.ndarray) -> None:
        """Add another part's state."""
        self._counts += counts
        self._gather(columns)

    def _gather(self, columns: PoolColumns) -> None:
        self._parts.append(columns)
        self._pending += len(columns["window"])
        if self._pending > SLACK_ACTIVATIONS:
            self.columns()

    def columns(self) -> PoolColumns:
        """The activations of the windows that fit."""
        joined = {
            name: np.concatenate([np.empty(0, kind), *(part[name] for part in self._parts)])
            for name, kind in COLUMN_DTYPES.items()
        }
        kept = np.isin(joined["window"], self.windows)
        if not kept.all():
            joined = {name: values[kept] for name, values in joined.items()}
        self._parts, self._pending = [joined], 0
        return joined

    def state(self) -> PoolColumns:
        """For a checkpoint: what `merge` takes."""
        return self.columns() | {"counts": self._counts}

    @property
    def nbytes(self) -> int:
        """Memory of the activations."""
        return sum(values.nbytes for part in self._parts for values in part.values())
