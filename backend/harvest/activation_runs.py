"""A chunk of whole sequences as sorted triples: everything after is work on segments.

Triples arrive in the order of the tokens. One stable sort by slot (feature and sign) leaves them
ordered by slot, then by token; the activations of one feature in one window then stand together: a
run. Counts, histograms and candidates all come from runs and segments.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from backend.dictionaries.base import Triples
from backend.harvest.segments import segment_ends, segment_max, segment_starts, select_rows


@dataclass(frozen=True)
class TokenRows:
    """The tokens of a chunk, sequence after sequence, BOS and special tokens included."""

    window: Int[Tensor, "row"]
    """Number of the token's window in the grid, int32."""
    hashed: Int[Tensor, "row"]
    """Its window's hash."""
    split: Int[Tensor, "row"]
    """0 explain, 1 score, int32."""
    document: Int[Tensor, "row"]
    position: Int[Tensor, "row"]
    """Position in the sequence, int32."""
    token_id: Int[Tensor, "row"]
    first: Int[Tensor, "row"]
    """Row where its document begins in this sequence, and one past the row where it ends."""
    end: Int[Tensor, "row"]
    grid_first: Int[Tensor, "row"]
    """Row where its window begins, and one past the row where it ends."""
    grid_end: Int[Tensor, "row"]
    level: Int[Tensor, "row"]
    """The token's level in samples of tokens, int32: one in 2^n has level n or more."""
    sampled: Tensor
    """bool [row]: counted for the token sample."""
    silent: Tensor
    """bool [row]: inside a window of the silent pool."""


@dataclass(frozen=True)
class ActivationRuns:
    """Sorted triples of one dictionary, and its runs of one slot in one window."""

    slot: Int[Tensor, "nnz"]
    row: Int[Tensor, "nnz"]
    value: Float[Tensor, "nnz"]
    size: Float[Tensor, "nnz"]
    """|value|."""
    start: Int[Tensor, "run"]
    """Index of each run's first triple."""
    end: Int[Tensor, "run"]
    peak: Float[Tensor, "run"]
    """Largest |value| of the run."""
    run_slot: Int[Tensor, "run"]
    run_row: Int[Tensor, "run"]
    """Row of the run's first triple: leads to its window."""
    place: Int[Tensor, "nnz"]
    """feature << 32 | row of every triple, rising, both signs of a feature together."""
    placed: Float[Tensor, "nnz"]
    """The values in that order."""
    signed: bool

    @property
    def run_feature(self) -> Int[Tensor, "run"]:
        """The feature of each run."""
        return self.run_slot >> 1 if self.signed else self.run_slot


def sort_into_runs(
    triples: Triples, rows: TokenRows, *, signed: bool, n_slots: int
) -> ActivationRuns:
    """Order triples by slot and cut them into runs. `triples.token` are rows of the chunk."""
    slot = triples.feature.to(torch.int32)
    if signed:
        slot = slot * 2 + (triples.value < 0)
    narrow = torch.int16 if n_slots < 1 << 15 else torch.int32  # a radix sort: half the passes
    order = torch.sort(slot.to(narrow), stable=True).indices
    slot, value = select_rows(slot, order), select_rows(triples.value, order)
    row = select_rows(triples.token.to(torch.int32), order)
    start = segment_starts(slot, select_rows(rows.window, row))
    size = value.abs()
    place, placed = slot.long() << 32 | row, value
    if signed:
        found = torch.sort((slot >> 1).long() << 32 | row)
        place, placed = found.values, select_rows(value, found.indices)
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
        place=place,
        placed=placed,
        signed=signed,
    )
