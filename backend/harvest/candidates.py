"""From the runs of a chunk to the contexts worth keeping."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backend.harvest.chunk import Rows, Runs
from backend.harvest.mixing import priority, seeded
from backend.harvest.segments import at, begins, expand, where
from backend.harvest.spool import Spool
from backend.harvest.statistics import OCTAVES, Statistics
from backend.harvest.tables import Candidates, Table, keep_spread, keep_top
from backend.harvest.windows import Windows

PER_OCTAVE = 2
"""Samples that an octave keeps whatever its share, so that rare strong windows are seen."""


class Extract(NamedTuple):
    """The windows of some runs: what a spool record holds. Numpy arrays."""

    size: np.ndarray
    peak: np.ndarray
    start: np.ndarray
    positions: np.ndarray
    values: np.ndarray


class TopContexts:
    """For each group the strongest windows, one per document, centred on their peaks."""

    def __init__(self, k: int, n_slots: int, windows: Windows, device: torch.device) -> None:
        self.k = k
        self.width = windows.width
        self._keep = keep_top(k, windows.document)
        self.table = Table(self._keep)
        self._bar: Tensor = torch.zeros(n_slots * 2, device=device)
        """A run below its group's bar cannot be kept."""

    def update(self, runs: Runs, rows: Rows, spool: Spool) -> None:
        """Offer the chunk's runs."""
        group = runs.run_slot * 2 + at(rows.split, runs.run_row)
        chosen = where(runs.peak >= at(self._bar, group))

        def write(kept: np.ndarray) -> np.ndarray:
            mine = at(chosen, torch.from_numpy(kept).to(chosen.device))
            return spool.append(*centred(mine, runs, rows, self.width))

        if self.table.offer(as_candidates(chosen, runs, rows, group), write):
            self.raise_bar()

    def raise_bar(self) -> None:
        """After a merge: a full group admits only what reaches its weakest row."""
        rows = self.table.rows
        count = np.bincount(rows.group, minlength=len(self._bar))
        full = count >= self.k
        bar = np.zeros(len(self._bar), dtype=np.float32)
        bar[full] = rows.value[np.cumsum(count)[full] - 1]  # strongest first within a group
        self._bar.copy_(torch.from_numpy(bar))


class RangeContexts:
    """For each group a sample over the whole range of window maxima, stratified by octave."""

    def __init__(
        self, n: int, statistics: Statistics, windows: Windows, seed: int, device: torch.device
    ) -> None:
        self.n = n
        self.seed = seed
        self._statistics = statistics
        self._keep = keep_spread(n, PER_OCTAVE, self.priority_of, self.octave_of, OCTAVES)
        self.table = Table(self._keep)
        n_groups = statistics.n_slots * 2
        self._uniform: Tensor = torch.zeros(n_groups, dtype=torch.int32, device=device)
        self._octave: Tensor = torch.zeros(n_groups * OCTAVES, dtype=torch.int32, device=device)

    def priority_of(self, rows: Candidates) -> np.ndarray:
        """The hash that decides, int32."""
        hashed = seeded(torch.from_numpy(rows.window), self.seed)
        return priority(hashed, torch.from_numpy(rows.group >> 1)).numpy()

    def octave_of(self, value: np.ndarray) -> np.ndarray:
        """The octave of each magnitude, int32."""
        return self._statistics.octaves(torch.from_numpy(value)).numpy()

    def update(self, runs: Runs, rows: Rows, spool: Spool) -> None:
        """Offer the chunk's runs."""
        group = runs.run_slot * 2 + at(rows.split, runs.run_row)
        u = priority(at(rows.hashed, runs.run_row), runs.run_slot)
        cell = group * OCTAVES + self._statistics.octaves(runs.peak)
        chosen = where(u >= torch.minimum(at(self._uniform, group), at(self._octave, cell)))

        def write(kept: np.ndarray) -> np.ndarray:
            mine = at(chosen, torch.from_numpy(kept).to(chosen.device))
            return spool.append(*whole(mine, runs, rows))

        if self.table.offer(as_candidates(chosen, runs, rows, group), write):
            self.raise_bar()

    def raise_bar(self) -> None:
        """After a merge: what no full group and no full octave could still take is not offered."""
        rows = self.table.rows
        u = self.priority_of(rows)
        self._uniform.copy_(torch.from_numpy(kth_largest(rows.group, u, self.n, self._uniform)))
        cell = rows.group * OCTAVES + self.octave_of(rows.value)
        self._octave.copy_(torch.from_numpy(second_largest(cell, u, len(self._octave))))


def second_largest(cell: np.ndarray, u: np.ndarray, n: int) -> np.ndarray:
    """For each of `n` cells its second largest u (PER_OCTAVE is two), 0 where it has fewer.

    Within a cell u falls from row to row, so of the rows written backwards the largest is last.
    Among equal ones a lower value may come out: as a bar that admits more, never less.
    """
    largest, second = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
    largest[cell[::-1]] = u[::-1]
    rest = u != largest[cell]
    second[cell[rest][::-1]] = u[rest][::-1]
    return second


def kth_largest(group: np.ndarray, u: np.ndarray, k: int, like: Tensor) -> np.ndarray:
    """For each group its k-th largest u, 0 where it has fewer; rows sorted by group, then u."""
    count = np.bincount(group, minlength=len(like))
    begin, full = np.cumsum(count) - count, count >= k
    bar = np.zeros(len(like), dtype=np.int32)
    bar[full] = u[begin[full] + k - 1]
    return bar


def as_candidates(chosen: Tensor, runs: Runs, rows: Rows, group: Tensor) -> Candidates:
    """Rows for a table, their records not yet written."""
    window = at(rows.window, at(runs.run_row, chosen))
    columns = (at(group, chosen), window, at(runs.peak, chosen))
    g, w, v = (column.cpu().numpy() for column in columns)
    return Candidates(g, w, v, np.zeros(len(g), dtype=np.int64))


def peak_index(chosen: Tensor, runs: Runs) -> Tensor:
    """Index of the first triple of largest magnitude in each chosen run."""
    index, owner = expand(at(runs.start, chosen), at(runs.end, chosen))
    at_peak = where(at(runs.size, index) == at(at(runs.peak, chosen), owner))
    first = begins(at(owner, at_peak))
    return at(index, at(at_peak, first))


def whole(chosen: Tensor, runs: Runs, rows: Rows) -> Extract:
    """The grid windows of runs."""
    peak_row = at(runs.row, peak_index(chosen, runs))
    start, stop = at(rows.grid_first, peak_row), at(rows.grid_end, peak_row)
    return extract(chosen, peak_row, start, stop, runs, rows)


def centred(chosen: Tensor, runs: Runs, rows: Rows, width: int) -> Extract:
    """Windows of `width` tokens around the peaks of runs, inside their documents."""
    peak_row = at(runs.row, peak_index(chosen, runs))
    first, end = at(rows.first, peak_row), at(rows.end, peak_row)
    start = torch.minimum(torch.maximum(peak_row - width // 2, first), end - width)
    start = torch.maximum(start, first)
    return extract(chosen, peak_row, start, torch.minimum(start + width, end), runs, rows)


def extract(
    chosen: Tensor, peak_row: Tensor, start: Tensor, stop: Tensor, runs: Runs, rows: Rows
) -> Extract:
    """All activations of the runs' features in rows [start, stop), of either sign; on the host."""
    base = at(runs.run_feature, chosen).long() << 32
    low = torch.searchsorted(runs.place, base | start)
    high = torch.searchsorted(runs.place, base | stop)
    index, _ = expand(low, high)
    row = at(runs.place, index) & 0xFFFFFFFF
    columns = (
        high - low,
        at(rows.position, peak_row),
        at(rows.position, start),
        at(rows.position, row),
        at(runs.placed, index),
    )
    return Extract(*(column.cpu().numpy() for column in columns))
