"""The pieces of text that a self-check reads, in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from backend.lm import Lm
from backend.positions import counted, pad_right

POSITIONS = 128
PIECES = 50
ROUND = 10
"""Pieces after each of which a run may end; they are drawn at random, so that any first few rounds
are a fair sample."""
ROWS = 5
AT_ONCE = 1 << 27
"""At most so many logits, or dense activations, at once (half a gigabyte)."""


@dataclass(frozen=True)
class Piece:
    """Token ids of a stretch of a document, BOS in front where that is wanted."""

    tokens: Sequence[int]
    document: int


@dataclass(frozen=True)
class Masks:
    """Which tokens of a batch count. Losses are counted where activations are edited, since what
    BOS predicts never changes."""

    counted: Int[Tensor, "n"]
    """Flat indices of the counted tokens in [batch · pos]."""
    scored: Bool[Tensor, "batch pos-1"]
    """Positions whose prediction counts."""
    n_scored: list[int]
    """How many those are in each piece."""
    targets: np.ndarray
    """The tokens that they predict."""


@dataclass(frozen=True)
class Batch:
    """Pieces of one round as one matrix."""

    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    """Both on the host; `on_device` are the tokens where the model is."""
    on_device: Int[Tensor, "batch pos"]
    documents: list[int]
    last_of_round: bool
    _masks: dict[frozenset[int], Masks] = field(default_factory=dict)

    def masks(self, uncounted: frozenset[int]) -> Masks:
        """What counts when these ids do not; made once, without waiting for the device."""
        if uncounted not in self._masks:
            at = counted(self.tokens, self.real, uncounted)
            scored = at[:, :-1] & self.real[:, 1:]
            device = self.on_device.device
            self._masks[uncounted] = Masks(
                at.flatten().nonzero()[:, 0].to(device),
                scored.to(device),
                scored.sum(1).tolist(),
                self.tokens[:, 1:][scored].numpy(),
            )
        return self._masks[uncounted]


def batches_of(lm: Lm, pieces: Sequence[Piece]) -> Iterator[Batch]:
    """The first 50 pieces in a random order, cut into rounds, each round by length."""
    length = min(POSITIONS, lm.n_ctx)
    cut = [Piece(list(p.tokens[:length]), p.document) for p in pieces[:PIECES] if len(p.tokens) > 1]
    order = np.random.default_rng(0).permutation(len(cut))
    rows = max(1, min(ROWS, AT_ONCE // (length * lm.d_vocab)))
    for begin in range(0, len(cut), ROUND):
        group = sorted((cut[i] for i in order[begin : begin + ROUND]), key=lambda p: len(p.tokens))
        for start in range(0, len(group), rows):
            some = group[start : start + rows]
            tokens, real = pad_right([one.tokens for one in some], fill=lm.bos or 0)
            yield Batch(
                tokens,
                real,
                tokens.to(lm.placement.device),
                [one.document for one in some],
                start + rows >= len(group),
            )
