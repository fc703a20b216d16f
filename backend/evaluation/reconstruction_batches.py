"""Batches of text pieces that a reconstruction check reads, with the masks of the tokens that
count."""

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
"""Number of pieces in a round, after which a reconstruction check may end; pieces are shuffled, so
that any first rounds are a fair sample."""
MAX_BATCH_ROWS = 5
MAX_BATCH_VALUES = 1 << 27
"""Maximum number of logits, or of dense activations, in memory at once in a batch (half a
gigabyte)."""


@dataclass(frozen=True)
class TextPiece:
    """Piece of a document for the reconstruction check: its token ids, with BOS in front where the
    dictionaries expect it."""

    tokens: Sequence[int]
    document: int


@dataclass(frozen=True)
class CountedMasks:
    """Masks of one batch of the reconstruction check: its counted tokens, and the positions whose
    next-token loss is scored. These are the counted ones, where activations are replaced: the
    prediction at BOS never changes."""

    counted: Int[Tensor, "n"]
    """Flat indices of the counted tokens of a batch in [batch · pos]."""
    scored: Bool[Tensor, "batch pos-1"]
    """Mask of the positions of a batch whose next-token loss counts."""
    n_scored: list[int]
    """Number of scored positions in each piece of the batch."""
    targets: np.ndarray
    """Token ids that are predicted at the scored positions of the batch."""


@dataclass(frozen=True)
class PieceBatch:
    """Batch of text pieces from one round of a reconstruction check, as one padded matrix."""

    tokens: Int[Tensor, "batch pos"]
    real: Bool[Tensor, "batch pos"]
    """Mask of real tokens; `tokens` and `real` are on the host, `on_device` is the batch's tokens
    on the model's device."""
    on_device: Int[Tensor, "batch pos"]
    documents: list[int]
    last_of_round: bool
    _masks: dict[frozenset[int], CountedMasks] = field(default_factory=dict)

    def masks(self, uncounted: frozenset[int]) -> CountedMasks:
        """Return the batch's masks for a dictionary that does not count these token ids; computed
        once for each set of ids, without waiting for the device."""
        if uncounted not in self._masks:
            mask = mark_counted_positions(self.tokens, self.real, uncounted)
            scored = mask[:, :-1] & self.real[:, 1:]
            device = self.on_device.device
            self._masks[uncounted] = CountedMasks(
                mask.flatten().nonzero()[:, 0].to(device),
                scored.to(device),
                scored.sum(1).tolist(),
                self.tokens[:, 1:][scored].numpy(),
            )
        return self._masks[uncounted]


def make_piece_batches(lm: LanguageModel, pieces: Sequence[TextPiece]) -> Iterator[PieceBatch]:
    """Make the batches of a reconstruction check: the first 50 pieces in random order, in rounds,
    each round sorted by length."""
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
            batch = group[start : start + rows]
            tokens, real = pad_right([one.tokens for one in batch], fill=lm.bos or 0)
            yield PieceBatch(
                tokens,
                real,
                tokens.to(lm.placement.device),
                [one.document for one in batch],
                start + rows >= len(group),
            )
