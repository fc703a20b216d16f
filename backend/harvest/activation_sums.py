"""Activation sums: counts, power sums, maxima and histograms of every feature's activations,
accumulated so that the sums of two parts can be added."""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.harvest.activation_runs import ActivationRuns, TokenRows
from backend.harvest.segments import (
    segment_ends,
    segment_max,
    segment_starts,
    segment_sum,
    select_rows,
    true_indices,
)
from feature_store.activation_histogram import BIN_SHIFT, BINS_PER_OCTAVE

N_OCTAVES = 16
"""Octaves that an activation histogram covers; smaller values count in the lowest bin."""
N_BINS = N_OCTAVES * BINS_PER_OCTAVE
"""Bins of an activation histogram."""
HEADROOM_OCTAVES = 4
"""Octaves left in the histogram above the largest activation that the self-check saw."""
OCTAVE_SHIFT = 23
"""Bits of a float32 below its exponent."""


def highest_histogram_octave(largest: float) -> int:
    """Return the highest octave (power of two, as a biased float32 exponent) that an activation
    histogram covers, with headroom above the largest activation seen so far."""
    bits = int(torch.tensor([max(largest, 1e-30)], dtype=torch.float32).view(torch.int32))
    return (bits >> OCTAVE_SHIFT) + HEADROOM_OCTAVES


class ActivationSums:
    """Counts, power sums, maxima and histograms of activations over all counted tokens, for each
    slot (a feature, or a feature and a sign).

    Every field is a sum or a maximum, so the order of updates does not matter (floating-point sums
    up to rounding) and two parts merge by addition.
    """

    def __init__(self, n_slots: int, highest_octave: int, device: torch.device) -> None:
        self.n_slots = n_slots
        self.first_octave = highest_octave - N_OCTAVES + 1
        self.first_bin = self.first_octave * BINS_PER_OCTAVE
        zeros = partial(torch.zeros, device=device)
        self.n_active: Tensor = zeros(n_slots, dtype=torch.int64)
        self.n_windows: Tensor = zeros(n_slots, dtype=torch.int64)
        self.n_windows_both: Tensor = zeros(n_slots, dtype=torch.int64)
        """Windows in which both signs of a feature fire, stored at the feature's even slot."""
        self.position_sum: Tensor = zeros(n_slots, dtype=torch.int64)
        self.powers: Tensor = zeros(4, n_slots, dtype=torch.float64)
        """Power sums Σ|a|, Σ|a|², Σ|a|³ and Σ|a|⁴ of the activations: [4, slot]."""
        self.largest: Tensor = zeros(n_slots, dtype=torch.float32)
        self.histogram: Tensor = zeros(n_slots * N_BINS, dtype=torch.int32)
        self.window_histogram: Tensor = zeros(n_slots * N_BINS, dtype=torch.int32)
        self.score_octaves: Tensor = zeros(n_slots * N_OCTAVES, dtype=torch.int32)
        """Firing windows of the score split by octave; those of the explain split are the rest of
        the window histogram."""

    def bins(self, size: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Return the histogram bin of each activation magnitude, int32."""
        return ((size.view(torch.int32) >> BIN_SHIFT) - self.first_bin).clamp_(0, N_BINS - 1)

    def octaves(self, size: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Return the octave (power of two) of each activation magnitude, int32, where 0 is the
        lowest octave of the histogram."""
        number = (size.view(torch.int32) >> OCTAVE_SHIFT) - self.first_octave
        return number.clamp_(0, N_OCTAVES - 1)

    def update(self, runs: ActivationRuns, rows: TokenRows, *, signed: bool) -> None:
        """Add the activation runs of one chunk to the activation sums: counts, power sums and
        histograms."""
        if not len(runs.slot):
            return
        begin = segment_starts(runs.slot)
        present = select_rows(runs.slot, begin).long()
        self.n_active[present] += segment_ends(begin, len(runs.slot)) - begin
        positions = select_rows(rows.position, runs.row).long()
        self.position_sum[present] += segment_sum(positions, begin)
        size = runs.size.double()
        power = size
        for row in self.powers:
            row[present] += segment_sum(power, begin)
            power = power * size
        self._count(self.histogram, runs.slot * N_BINS + self.bins(runs.size))
        self._update_windows(runs, rows, signed=signed)

    def _update_windows(self, runs: ActivationRuns, rows: TokenRows, *, signed: bool) -> None:
        """Add the peaks of one chunk's runs to the activation sums of windows: counts, maxima and
        histograms."""
        slot, peak = runs.run_slot, runs.peak
        begin = segment_starts(slot)
        present = select_rows(slot, begin).long()
        self.n_windows[present] += segment_ends(begin, len(slot)) - begin
        largest = torch.maximum(select_rows(self.largest, present), segment_max(peak, begin))
        self.largest[present] = largest
        self._count(self.window_histogram, slot * N_BINS + self.bins(peak))
        score = true_indices(select_rows(rows.split, runs.run_row) == 1)
        self._count(self.score_octaves, select_rows(slot * N_OCTAVES + self.octaves(peak), score))
        if signed:
            key = (slot >> 1).long() << 32 | select_rows(rows.window, runs.run_row).long()
            window_keys, count = torch.sort(key).values.unique_consecutive(return_counts=True)
            both = (window_keys[count == 2] >> 32) * 2
            self.n_windows_both.index_add_(0, both, torch.ones_like(both))

    @staticmethod
    def _count(histogram: Tensor, bins: Tensor) -> None:
        """Add 1 to the given bins of an activation histogram, once for each entry of `bins`."""
        one = torch.ones(1, dtype=histogram.dtype, device=histogram.device)
        histogram.index_add_(0, bins, one.expand(len(bins)))

    def state(self) -> dict[str, Tensor]:
        """Return all activation sums by name for a checkpoint."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def add(self, state: dict[str, Tensor]) -> None:
        """Add the activation sums of another shard or checkpoint to these."""
        for name, own in self.state().items():
            added = state[name].to(own.device)
            if name == "largest":
                torch.maximum(own, added, out=own)
            else:
                own += added
