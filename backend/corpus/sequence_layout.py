"""How documents are laid out in sequences: cut, by blocks, or packed.

A run is a stretch of one document that is all on one side of the split. Normally a document is
one run. In a corpus of few documents each is divided into blocks on alternating sides, with a gap
of `context_size` tokens that no sequence covers. Runs are cut into sequences, or packed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8, UInt32

MIN_REMAINDER_TOKENS = 4
"""A document's remainder of fewer tokens is dropped, as there is too little before it to read."""
MAX_BLOCK_SEQUENCES = 16
"""Sequences in a block, at most: the gaps then cost 6 % of the text."""
TARGET_BLOCKS = 8
"""How many blocks a small corpus is divided into, about."""


@dataclass(frozen=True)
class DocumentRun:
    """Tokens `start` to `stop` of a document, all in split `side` (0 explain, 1 score)."""

    document: int
    start: int
    stop: int
    side: int


@dataclass(frozen=True)
class SequenceSegment:
    """What one sequence takes of one document: `tokens` from token `start` of it on."""

    document: int
    start: int
    tokens: UInt32[np.ndarray, "tokens"]


@dataclass
class SequenceDraft:
    """A sequence in the making: all of one split, without BOS."""

    side: int
    segments: list[SequenceSegment] = field(default_factory=list)
    length: int = 0

    def add(self, segment: SequenceSegment) -> None:
        """Put `segment` behind what is there."""
        self.segments.append(segment)
        self.length += len(segment.tokens)


def sequences_per_block(lengths: list[int], room: int) -> int:
    """How many sequences a block has, for documents of these lengths in tokens."""
    total = sum(-(-length // room) for length in lengths)
    return min(MAX_BLOCK_SEQUENCES, max(1, total // TARGET_BLOCKS))


def whole_document_runs(
    lengths: list[int], sides: UInt8[np.ndarray, "documents"]
) -> list[list[DocumentRun]]:
    """Each document as one run."""
    return [[DocumentRun(i, 0, n, int(sides[i]))] for i, n in enumerate(lengths)]


def block_runs(
    lengths: list[int], sides: UInt8[np.ndarray, "documents"], block: int, gap: int
) -> list[list[DocumentRun]]:
    """Each document as blocks of `block` tokens on alternating sides, `gap` tokens between.

    A document's first block is on the document's own side, so copies are divided alike.
    """
    return [
        [
            DocumentRun(i, start, min(start + block, n), (int(sides[i]) + number) % 2)
            for number, start in enumerate(range(0, n, block + gap))
        ]
        for i, n in enumerate(lengths)
    ]


def cut_run(
    run: DocumentRun, tokens: UInt32[np.ndarray, "tokens"], room: int
) -> Iterator[SequenceDraft]:
    """The run as sequences of up to `room` tokens; `tokens` are the whole document's."""
    for start in range(run.start, run.stop, room):
        stop = min(start + room, run.stop)
        if stop - start >= MIN_REMAINDER_TOKENS or start == 0:
            draft = SequenceDraft(run.side)
            draft.add(SequenceSegment(run.document, start, tokens[start:stop]))
            yield draft


class SequencePacker:
    """Fills sequences with runs of one split after each other, cutting where one is full."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._least = min(MIN_REMAINDER_TOKENS, room)
        self._open = [SequenceDraft(0), SequenceDraft(1)]

    def add(
        self, run: DocumentRun, tokens: UInt32[np.ndarray, "tokens"]
    ) -> Iterator[SequenceDraft]:
        """The sequences that this run fills; what is left stays open."""
        start = run.start
        while run.stop - start >= self._least or (start == 0 and run.stop > 0):
            if self._room - self._open[run.side].length < self._least:
                yield self._taken(run.side)
            draft = self._open[run.side]
            stop = min(run.stop, start + self._room - draft.length)
            draft.add(SequenceSegment(run.document, start, tokens[start:stop]))
            start = stop

    def rest(self) -> Iterator[SequenceDraft]:
        """The sequences that are still open."""
        for side in (0, 1):
            if self._open[side].segments:
                yield self._taken(side)

    def _taken(self, side: int) -> SequenceDraft:
        draft, self._open[side] = self._open[side], SequenceDraft(side)
        return draft
