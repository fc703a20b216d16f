"""Context samplers: pick from the activation runs of each chunk the windows that may become a
feature's contexts, and extract their activations.

One sampler keeps the strongest windows, one samples the whole range of activations.
"""

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
"""Windows that the range sampler keeps per octave of activation, whatever the octave's share, so
that rare strong windows are represented."""


class WindowExtract(NamedTuple):
    """Activations in several context windows, in the layout of spool records: for each window
    its number of activations, peak position and start, then positions and values of all (numpy
    arrays)."""

    size: np.ndarray
    peak: np.ndarray
    start: np.ndarray
    positions: np.ndarray
    values: np.ndarray


class TopContextSampler:
    """Sampler of top contexts: for each group (feature, sign and split) it keeps the `k` windows of
    strongest activation, at most one per document, centred on their peaks."""

    def __init__(self, k: int, n_slots: int, windows: WindowGrid, device: torch.device) -> None:
        self.k = k
        self.width = windows.width
        self._keep = keep_strongest(k, windows.document)
        self.table = ContextReservoir(self._keep)
        self._bar: Tensor = torch.zeros(n_slots * 2, device=device)
        """Threshold of each group: a run whose peak is below cannot enter the top contexts."""

    def update(self, runs: ActivationRuns, rows: TokenRows, spool: ActivationSpool) -> None:
        """Offer the activation runs of one chunk to the reservoir of top contexts, and write the
        kept windows to the spool."""
        group = runs.run_slot * 2 + select_rows(rows.split, runs.run_row)
        chosen = true_indices(runs.peak >= select_rows(self._bar, group))

        def write(kept: np.ndarray) -> np.ndarray:
            selected = select_rows(chosen, torch.from_numpy(kept).to(chosen.device))
            return spool.append(*extract_centred_windows(selected, runs, rows, self.width))

        if self.table.offer(candidates_from_runs(chosen, runs, rows, group), write):
            self.raise_bar()

    def raise_bar(self) -> None:
        """Raise the least activation that enters each group's top contexts, after the reservoir has
        merged: a full group admits only runs that reach its weakest context."""
        rows = self.table.rows
        count = np.bincount(rows.group, minlength=len(self._bar))
        full = count >= self.k
        bar = np.zeros(len(self._bar), dtype=np.float32)
        bar[full] = rows.value[np.cumsum(count)[full] - 1]  # strongest first within a group
        self._bar.copy_(torch.from_numpy(bar))


class RangeContextSampler:
    """Sampler of range contexts: for each group (feature, sign and split) it keeps a random sample
    of firing windows over the whole range of their maxima, stratified by octave (factor of two)."""

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
        """Return the sampling priority of each context candidate, a hash of window and slot as
        int32."""
        hashed = hash_ids(torch.from_numpy(rows.window), self.seed)
        return sampling_priority(hashed, torch.from_numpy(rows.group >> 1)).numpy()

    def octave_of(self, value: np.ndarray) -> np.ndarray:
        """Return the histogram octave of each activation magnitude as int32."""
        return self._statistics.octaves(torch.from_numpy(value)).numpy()

    def update(self, runs: ActivationRuns, rows: TokenRows, spool: ActivationSpool) -> None:
        """Offer the activation runs of one chunk to the reservoir of range contexts, and write the
        kept windows to the spool."""
        group = runs.run_slot * 2 + select_rows(rows.split, runs.run_row)
        u = sampling_priority(select_rows(rows.window_hash, runs.run_row), runs.run_slot)
        cell = group * N_OCTAVES + self._statistics.octaves(runs.peak)
        chosen = true_indices(
            u >= torch.minimum(select_rows(self._uniform, group), select_rows(self._octave, cell))
        )

        def write(kept: np.ndarray) -> np.ndarray:
            selected = select_rows(chosen, torch.from_numpy(kept).to(chosen.device))
            return spool.append(*extract_grid_windows(selected, runs, rows))

        if self.table.offer(candidates_from_runs(chosen, runs, rows, group), write):
            self.raise_bar()

    def raise_bar(self) -> None:
        """Raise the least sampling priority that enters the range contexts, after the reservoir has
        merged: a run is offered only where its group or its octave still has room, or holds a
        window of lower priority."""
        rows = self.table.rows
        u = self.priority_of(rows)
        self._uniform.copy_(
            torch.from_numpy(kth_largest_per_group(rows.group, u, self.n, self._uniform))
        )
        cell = rows.group * N_OCTAVES + self.octave_of(rows.value)
        self._octave.copy_(torch.from_numpy(second_largest_per_cell(cell, u, len(self._octave))))


def second_largest_per_cell(cell: np.ndarray, u: np.ndarray, n: int) -> np.ndarray:
    """Return the second-largest sampling priority `u` of each of `n` cells (group and octave) of
    the range contexts, or 0 where a cell has fewer than two rows.

    In each cell `u` falls from row to row, so of the rows written in reverse order the largest
    comes last. Where two are equal a lower value may come out: the threshold then admits more,
    never less.
    """
    largest, second = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int32)
    largest[cell[::-1]] = u[::-1]
    rest = u != largest[cell]
    second[cell[rest][::-1]] = u[rest][::-1]
    return second


def kth_largest_per_group(
    group: np.ndarray, u: np.ndarray, k: int, thresholds: Tensor
) -> np.ndarray:
    """Return the k-th largest sampling priority `u` of each group of range contexts, or 0 where a
    group has fewer than k rows. Rows must be sorted by group, then by falling `u`."""
    count = np.bincount(group, minlength=len(thresholds))
    begin, full = np.cumsum(count) - count, count >= k
    bar = np.zeros(len(thresholds), dtype=np.int32)
    bar[full] = u[begin[full] + k - 1]
    return bar


def candidates_from_runs(
    chosen: Tensor, runs: ActivationRuns, rows: TokenRows, group: Tensor
) -> ContextCandidates:
    """Turn the chosen activation runs (activations of one feature in one window) into context
    candidates, still without spool records."""
    window = select_rows(rows.window, select_rows(runs.run_row, chosen))
    columns = (select_rows(group, chosen), window, select_rows(runs.peak, chosen))
    g, w, v = (column.cpu().numpy() for column in columns)
    return ContextCandidates(g, w, v, np.zeros(len(g), dtype=np.int64))


def find_peak_indices(chosen: Tensor, runs: ActivationRuns) -> Tensor:
    """Return for each activation run that a context sampler chose the index of its peak: the first
    triple whose magnitude is the largest of the run."""
    index, owner = expand_segments(select_rows(runs.start, chosen), select_rows(runs.end, chosen))
    at_peak = true_indices(
        select_rows(runs.size, index) == select_rows(select_rows(runs.peak, chosen), owner)
    )
    first = segment_starts(select_rows(owner, at_peak))
    return select_rows(index, select_rows(at_peak, first))


def extract_grid_windows(chosen: Tensor, runs: ActivationRuns, rows: TokenRows) -> WindowExtract:
    """Extract for range contexts the activations in the fixed grid windows that the chosen runs lie
    in."""
    peak_row = select_rows(runs.row, find_peak_indices(chosen, runs))
    start, stop = select_rows(rows.window_start, peak_row), select_rows(rows.window_end, peak_row)
    return extract_activations(chosen, peak_row, start, stop, runs, rows)


def extract_centred_windows(
    chosen: Tensor, runs: ActivationRuns, rows: TokenRows, width: int
) -> WindowExtract:
    """Extract for top contexts the activations in windows of `width` tokens centred on the peaks of
    the chosen runs, shifted where needed to stay inside their documents."""
    peak_row = select_rows(runs.row, find_peak_indices(chosen, runs))
    first, end = (
        select_rows(rows.document_start, peak_row),
        select_rows(rows.document_end, peak_row),
    )
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
    """Extract for context windows all activations of the chosen runs' features in the rows [start,
    stop), of either sign, as numpy arrays on the host."""
    # sort_key is feature << 32 | row, so a window of one feature is one range of keys.
    base = select_rows(runs.run_feature, chosen).long() << 32
    low = torch.searchsorted(runs.sort_key, base | start)
    high = torch.searchsorted(runs.sort_key, base | stop)
    index, _ = expand_segments(low, high)
    row = select_rows(runs.sort_key, index) & 0xFFFFFFFF
    columns = (
        high - low,
        select_rows(rows.position, peak_row),
        select_rows(rows.position, start),
        select_rows(rows.position, row),
        select_rows(runs.sorted_value, index),
    )
    return WindowExtract(*(column.cpu().numpy() for column in columns))
