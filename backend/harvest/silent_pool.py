"""Silent pool: one dictionary's activations in the pool of random windows, in bounded memory.

All non-zero activations of a window are stored, so a dictionary on which thousands of features
fire at once would fill the store. Such a dictionary keeps only the first windows of the pool's
random order whose activations fit, which are as random as the whole pool. Their number follows from
the activations alone, in whatever order they come.
"""

import numpy as np

MAX_ACTIVATIONS = 1 << 22
"""Activations stored for one dictionary's silent windows (10 bytes each in the file, before
compression)."""
MIN_WINDOWS = 64
"""Silent windows that a dictionary keeps whatever they hold: 32 of each split, where scores need
20."""
SLACK_ACTIVATIONS = 1 << 20
"""Activations gathered before those of silent windows that no longer fit are dropped."""
COLUMN_DTYPES = {"window": np.int32, "position": np.int32, "feature": np.int32, "value": np.float32}
"""Columns of the silent pool's activations and their data types."""

PoolColumns = dict[str, np.ndarray]
"""Columns `window`, `position`, `feature` and `value` of the silent pool, one entry per
activation."""


class SilentPool:
    """Silent pool of one dictionary: random windows of the corpus with all non-zero activations in
    them, so that windows where a feature is silent can serve as its negatives. It is limited to the
    first windows that fit into memory."""

    def __init__(self, order: np.ndarray) -> None:
        """Create an empty silent pool. `order` holds the pool's windows in their random order, the
        splits alternating."""
        self._order = order
        self._sorted = np.argsort(order)
        self._counts = np.zeros(len(order), dtype=np.int64)
        """Number of activations of each window, in the pool's random order, those of dropped
        windows included."""
        self._parts: list[PoolColumns] = []
        self._pending = 0

    @property
    def windows(self) -> np.ndarray:
        """Windows of the silent pool whose activations fit into memory, in ascending order."""
        fits = int(np.searchsorted(np.cumsum(self._counts), MAX_ACTIVATIONS, "right"))
        return np.sort(self._order[: max(fits, MIN_WINDOWS)])

    def add(self, columns: PoolColumns) -> None:
        """Add activations (window, position, feature, value) to the silent pool. Those of one
        window may come in several calls."""
        order_index = np.searchsorted(self._order[self._sorted], columns["window"])
        self._counts += np.bincount(self._sorted[order_index], minlength=len(self._order))
        self._gather(columns)

    def merge(self, columns: PoolColumns, counts: np.ndarray) -> None:
        """Add the silent-pool state of another shard or checkpoint."""
        self._counts += counts
        self._gather(columns)

    def _gather(self, columns: PoolColumns) -> None:
        """Append activations to the silent pool, and drop those of windows that no longer fit once
        too many have gathered."""
        self._parts.append(columns)
        self._pending += len(columns["window"])
        if self._pending > SLACK_ACTIVATIONS:
            self.columns()

    def columns(self) -> PoolColumns:
        """Return all activations in those windows of the silent pool that fit into memory, as
        columns."""
        joined = {
            name: np.concatenate([np.empty(0, kind), *(part[name] for part in self._parts)])
            for name, kind in COLUMN_DTYPES.items()
        }
        fits = np.isin(joined["window"], self.windows)
        if not fits.all():
            joined = {name: values[fits] for name, values in joined.items()}
        self._parts, self._pending = [joined], 0
        return joined

    def state(self) -> PoolColumns:
        """Return the silent pool's columns and counts for a checkpoint, in the form that `merge`
        takes."""
        return self.columns() | {"counts": self._counts}

    @property
    def nbytes(self) -> int:
        """Memory of the silent pool's activations, in bytes."""
        return sum(values.nbytes for part in self._parts for values in part.values())
