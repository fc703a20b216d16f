"""From the runs of a chunk to the contexts worth keeping."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backend.harvest.activation_runs import ActivationRuns, TokenRows
from backend.harvest.activation_spool import ActivationSpool
from backend.harvest.activation_sums import N_OCTAVES, ActivationSums
from backend.harvest.context_reservoir import (
    ContextCandidates,
    ContextReservoir,
    keep_by_octave,
    keep_strongest,
)
from backend.harvest.sampling_hashes import hash_ids, sampling_priority
from backend.harvest.segments import expand_segments, segment_starts, select_rows, true_indices
from backend.harvest.window_grid import WindowGrid

SAMPLES_PER_OCTAVE = 2
"""Samples that an octave keeps whatever its share, so that rare strong windows are seen."""


class WindowExtract(NamedTuple):
    """The windows of some runs: what a spool record holds. Numpy arrays."""

    size: np.ndarray
    peak: np.ndarray
    start: np.ndarray
    positions: np.ndarray
    values: np.ndarray


class TopContextSampler:
    """For each group the strongest windows, one per document, centred on their peaks."""

    def __init__(self, k: int, n_slots: int, windows: WindowGrid, device: torch.device) -> None:
        self.k = k
        self.width = windows.width
        self._keep = keep_strongest(k, windows.document)
        self.table = ContextReservoir(self._keep)
        self._bar: Tensor = torch.zeros(n_slots * 2, device=device)
        """A run below its group's bar cannot be kept."""

    def update(self, runs: ActivationRuns, rows: TokenRows, spool: ActivationSpool) -> None:
        """Offer the chunk's runs."""
        group = runs.run_slot * 2 + select_rows(rows.split, runs.run_row)
        chosen = true_indices(runs.peak >= select_rows(self._bar, group))

        def write(kept: np.ndarray) -> np.ndarray:
            mine = select_rows(chosen, torch.from_numpy(kept).to(chosen.device))
            return spool.append(*extract_centred_windows(mine, runs, rows, self.width))

        if self.table.offer(candidates_from_runs(chosen, runs, rows, group), write):
            self.raise_bar()

    def raise_bar(self) -> None:
        """After a merge: a full group admits only what reaches its weakest row."""
        rows = self.table.rows
        count = np.bincount(rows.group, minlength=len(self._bar))
        full = count >= self.k
        bar = np.zeros(len(self._bar), dtype=np.float32)
        bar[full] = rows.value[np.cumsum(count)[full] - 1]  # strongest first within a group
        self._bar.copy_(torch.from_numpy(bar))


class RangeContextSampler:
    """For each group a sample over the whole range of window maxima, stratified by octave."""

    def __init__(
        self,
        n: int,
        statistics: ActivationSums,
        windows: WindowGrid,
        seed: int,
        device: torch.device,
    ) -> None:
        self.n = n
        self.seed = seed
        self._statistics = statistics
        self._keep = keep_by_octave(
            n, SAMPLES_PER_OCTAVE, self.priority_of, self.octave_of, N_OCTAVES
        )
        self.table = ContextReservoir(self._keep)
        n_groups = statistics.n_slots * 2
        self._uniform: Tensor = torch.zeros(n_groups, dtype=torch.int32, device=device)
        self._octave: Tensor = torch.zeros(n_groups * N_OCTAVES, dtype=torch.int32, device=device)

    def priority_of(self, rows: ContextCandidates) -> np.ndarray:
        """The hash that decides, int32."""
        hashed = hash_ids(torch.from_numpy(rows.window), self.seed)
        return sampling_priority(hashed, torch.from_numpy(rows.group >> 1)).numpy()

    def octave_of(self, value: np.ndarray) -> np.ndarray:
        """The octave of each magnitude, int32."""
        return self._statistics.octaves(torch.from_numpy(value)).numpy()

    def update(self, runs: ActivationRuns, rows: TokenRows, spool: ActivationSpool) -> None:
        """Offer the chunk's runs."""
        group = runs.run_slot * 2 + select_rows(rows.split, runs.run_row)
        u = sampling_priority(select_rows(rows.hashed, runs.run_row), runs.run_slot)
        cell = group * N_OCTAVES + self._statistics.octaves(runs.peak)
        chosen = true_indices(
            u >= torch.minimum(select_rows(self._uniform, group), select_rows(self._octave, cell))
        )

        def write(kept: np.ndarray) -> np.ndarray:
            mine = select_rows(chosen, torch.from_numpy(kept).to(chosen.device))
            return spool.append(*extract_grid_windows(mine, runs, rows))

        if self.table.offer(candidates_from_runs(chosen, runs, rows, group), write):
            self.raise_bar()

    def raise_bar(self) -> None:
        """After a merge: what no full group and no full octave could still take is not offered."""
        rows = self.table.rows
        u = self.priority_of(rows)
        self._uniform.copy_(
            torch.from_numpy(kth_largest_per_group(rows.group, u, self.n, self._uniform))
        )
        cell = rows.group * N_OCTAVES + self.octave_of(rows.value)
        self._octave.copy_(torch.from_numpy(second_largest_per_cell(cell, u, len(self._octave))))


def second_largest_per_cell(cell: np.ndarray, u: np.ndarray, n: int) -> np.ndarray:
    """For each of `n` cells its second largest u (PER_OCTAVE is two), 0 where it has fewer.

    Within a cell u falls from row to row, so of the rows written backwards the largest is last.
    Among equal ones a lower value may come out: as a bar that admits more, never less.
    """
    largest, second = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
    largest[cell[::-1]] = u[::-1]
    rest = u != largest[cell]
    second[cell[rest][::-1]] = u[rest][::-1]
    return second


def kth_largest_per_group(group: np.ndarray, u: np.ndarray, k: int, like: Tensor) -> np.ndarray:
    """For each group its k-th largest u, 0 where it has fewer; rows sorted by group, then u."""
    count = np.bincount(group, minlength=len(like))
    begin, full = np.cumsum(count) - count, count >= k
    bar = np.zeros(len(like), dtype=np.int32)
    bar[full] = u[begin[full] + k - 1]
    return bar


def candidates_from_runs(
    chosen: Tensor, runs: ActivationRuns, rows: TokenRows, group: Tensor
) -> ContextCandidates:
    """Rows for a table, their records not yet written."""
    window = select_rows(rows.window, select_rows(runs.run_row, chosen))
    columns = (select_rows(group, chosen), window, select_rows(runs.peak, chosen))
    g, w, v = (column.cpu().numpy() for column in columns)
    return ContextCandidates(g, w, v, np.zeros(len(g), dtype=np.int64))


def find_peak_indices(chosen: Tensor, runs: ActivationRuns) -> Tensor:
    """Index of the first triple of largest magnitude in each chosen run."""
    index, owner = expand_segments(select_rows(runs.start, chosen), select_rows(runs.end, chosen))
    at_peak = true_indices(
        select_rows(runs.size, index) == select_rows(select_rows(runs.peak, chosen), owner)
    )
    first = segment_starts(select_rows(owner, at_peak))
    return select_rows(index, select_rows(at_peak, first))


def extract_grid_windows(chosen: Tensor, runs: ActivationRuns, rows: TokenRows) -> WindowExtract:
    """The grid windows of runs."""
    peak_row = select_rows(runs.row, find_peak_indices(chosen, runs))
    start, stop = select_rows(rows.grid_first, peak_row), select_rows(rows.grid_end, peak_row)
    return extract_activations(chosen, peak_row, start, stop, runs, rows)


def extract_centred_windows(
    chosen: Tensor, runs: ActivationRuns, rows: TokenRows, width: int
) -> WindowExtract:
    """Windows of `width` tokens around the peaks of runs, inside their documents."""
    peak_row = select_rows(runs.row, find_peak_indices(chosen, runs))
    first, end = select_rows(rows.first, peak_row), select_rows(rows.end, peak_row)
    start = torch.minimum(torch.maximum(peak_row - width // 2, first), end - width)
    start = torch.maximum(start, first)
    return extract_activations(
        chosen, peak_row, start, torch.minimum(start + width, end), runs, rows
    )


def extract_activations(
    chosen: Tensor,
    peak_row: Tensor,
    start: Tensor,
    stop: Tensor,
    runs: ActivationRuns,
    rows: TokenRows,
) -> WindowExtract:
    """All activations of the runs' features in rows [start, stop), of either sign; on the host."""
    base = select_rows(runs.run_feature, chosen).long() << 32
    low = torch.searchsorted(runs.place, base | start)
    high = torch.searchsorted(runs.place, base | stop)
    index, _ = expand_segments(low, high)
    row = select_rows(runs.place, index) & 0xFFFFFFFF
    columns = (
        high - low,
        select_rows(rows.position, peak_row),
        select_rows(rows.position, start),
        select_rows(rows.position, row),
        select_rows(runs.placed, index),
    )
    return WindowExtract(*(column.cpu().numpy() for column in columns))
