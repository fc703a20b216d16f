"""The pieces of text that a self-check reads, in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from backend.model.counted_positions import mark_counted_positions, pad_right
from backend.model.language_model import LanguageModel

MAX_PIECE_TOKENS = 128
MAX_PIECES = 50
PIECES_PER_ROUND = 10
"""Pieces after each of which a run may end; they are drawn at random, so that any first few rounds
are a fair sample."""
MAX_BATCH_ROWS = 5
MAX_BATCH_VALUES = 1 << 27
"""At most so many logits, or dense activations, at once (half a gigabyte)."""


@dataclass(frozen=True)
class TextPiece:
    """Token ids of a stretch of a document, BOS in front where that is wanted."""

    tokens: Sequence[int]
    document: int


@dataclass(frozen=True)
class CountedMasks:
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
class PieceBatch:
    """Pieces of one round as one matrix."""

    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    """Both on the host; `on_device` are the tokens where the model is."""
    on_device: Int[Tensor, "batch pos"]
    documents: list[int]
    last_of_round: bool
    _masks: dict[frozenset[int], CountedMasks] = field(default_factory=dict)

    def masks(self, uncounted: frozenset[int]) -> CountedMasks:
        """What counts when these ids do not; made once, without waiting for the device."""
        if uncounted not in self._masks:
            at = mark_counted_positions(self.tokens, self.real, uncounted)
            scored = at[:, :-1] & self.real[:, 1:]
            device = self.on_device.device
            self._masks[uncounted] = CountedMasks(
                at.flatten().nonzero()[:, 0].to(device),
                scored.to(device),
                scored.sum(1).tolist(),
                self.tokens[:, 1:][scored].numpy(),
            )
        return self._masks[uncounted]


def make_piece_batches(lm: LanguageModel, pieces: Sequence[TextPiece]) -> Iterator[PieceBatch]:
    """The first 50 pieces in a random order, cut into rounds, each round by length."""
    length = min(MAX_PIECE_TOKENS, lm.n_ctx)
    cut = [
        TextPiece(list(p.tokens[:length]), p.document)
        for p in pieces[:MAX_PIECES]
        if len(p.tokens) > 1
    ]
    order = np.random.default_rng(0).permutation(len(cut))
    rows = max(1, min(MAX_BATCH_ROWS, MAX_BATCH_VALUES // (length * lm.d_vocab)))
    for begin in range(0, len(cut), PIECES_PER_ROUND):
        group = sorted(
            (cut[i] for i in order[begin : begin + PIECES_PER_ROUND]), key=lambda p: len(p.tokens)
        )
        for start in range(0, len(group), rows):
            some = group[start : start + rows]
            tokens, real = pad_right([one.tokens for one in some], fill=lm.bos or 0)
            yield PieceBatch(
                tokens,
                real,
                tokens.to(lm.placement.device),
                [one.document for one in some],
                start + rows >= len(group),
            )
