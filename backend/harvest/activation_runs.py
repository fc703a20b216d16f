"""Activation runs: the sparse activations of one chunk of whole sequences, sorted and cut into
runs.

A run is all activations of one slot (feature and sign) in one window. Triples arrive in token
order; one stable sort by slot leaves them ordered by slot, then by token. Counts, histograms and
context candidates are all computed from runs.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.base import Triples
from backend.harvest.segments import segment_ends, segment_max, segment_starts, select_rows


@dataclass(frozen=True)
class TokenRows:
    """Table of the tokens in one chunk of a harvest, sequence after sequence, BOS and special
    tokens included: one row per token, with its window, document, split and position."""

    window: Int[Tensor, "row"]
    """Number of the token's window in the window grid, int32."""
    window_hash: Int[Tensor, "row"]
    """Hash of the token's window under the harvest's seed."""
    split: Int[Tensor, "row"]
    """Split of the token's document, int32: 0 explain, 1 score."""
    document: Int[Tensor, "row"]
    position: Int[Tensor, "row"]
    """Position of the token in its sequence, int32."""
    token_id: Int[Tensor, "row"]
    document_start: Int[Tensor, "row"]
    """Row where the token's document begins in this sequence; `document_end` is one past the row
    where that document ends."""
    document_end: Int[Tensor, "row"]
    window_start: Int[Tensor, "row"]
    """Row where the token's grid window begins; `window_end` is one past the row where that window
    ends."""
    window_end: Int[Tensor, "row"]
    level: Int[Tensor, "row"]
    """Level of the token for samples of tokens, int32: one token in 2^n has level n or more."""
    in_token_sample: Tensor
    """Whether the token belongs to the token sample: bool [row]."""
    in_silent_pool: Tensor
    """Whether the token lies in a window of the silent pool: bool [row]."""


@dataclass(frozen=True)
class ActivationRuns:
    """Sparse activations of one dictionary in one chunk, sorted by slot (feature and sign) and
    token, and the runs that they form: a run is all activations of one slot in one window."""

    slot: Int[Tensor, "nnz"]
    row: Int[Tensor, "nnz"]
    value: Float[Tensor, "nnz"]
    size: Float[Tensor, "nnz"]
    """Magnitude |value| of each activation."""
    start: Int[Tensor, "run"]
    """Index of the first triple of each run."""
    end: Int[Tensor, "run"]
    peak: Float[Tensor, "run"]
    """Largest activation magnitude of each run."""
    run_slot: Int[Tensor, "run"]
    run_row: Int[Tensor, "run"]
    """Row of the first triple of each run, which identifies the run's window."""
    sort_key: Int[Tensor, "nnz"]
    """Sort key of every triple, feature << 32 | row, in ascending order; both signs of a feature
    are together."""
    sorted_value: Float[Tensor, "nnz"]
    """Activation values in the order of `sort_key`."""
    signed: bool

    @property
    def run_feature(self) -> Int[Tensor, "run"]:
        """Feature of each run, derived from its slot."""
        return self.run_slot >> 1 if self.signed else self.run_slot


def sort_into_runs(
    triples: Triples, rows: TokenRows, *, signed: bool, n_slots: int
) -> ActivationRuns:
    """Sort the triples of one chunk by slot and cut them into activation runs, one per slot and
    window. `triples.token` holds row numbers of the chunk."""
    slot = triples.feature.to(torch.int32)
    if signed:  # even slots are positive activations, odd slots negative
        slot = slot * 2 + (triples.value < 0)
    # The sort is a radix sort: int16 keys need half the passes of int32.
    narrow = torch.int16 if n_slots < 1 << 15 else torch.int32
    order = torch.sort(slot.to(narrow), stable=True).indices
    slot, value = select_rows(slot, order), select_rows(triples.value, order)
    row = select_rows(triples.token.to(torch.int32), order)
    start = segment_starts(slot, select_rows(rows.window, row))
    size = value.abs()
    sort_key, sorted_value = slot.long() << 32 | row, value
    if signed:  # by slot, the two signs of a feature are apart: sort by feature instead
        found = torch.sort((slot >> 1).long() << 32 | row)
        sort_key, sorted_value = found.values, select_rows(value, found.indices)
    return ActivationRuns(
        slot=slot,
        row=row,
        value=value,
        size=size,
        start=start,
        end=segment_ends(start, len(slot)),
        peak=segment_max(size, start),
        run_slot=select_rows(slot, start),
        run_row=select_rows(row, start),
        sort_key=sort_key,
        sorted_value=sorted_value,
        signed=signed,
    )
