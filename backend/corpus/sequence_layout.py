"""Sequence layout: how documents are laid out in token sequences, cut, in blocks or packed.

A run is a stretch of one document that is all in one split. Normally a document is one run. In a
corpus of few documents each document is divided into blocks of alternating splits, separated by
gaps of `context_size` tokens that no sequence covers. Runs are then cut into sequences, or packed
into them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8, UInt32

MIN_REMAINDER_TOKENS = 4
"""Tokens below which the remainder of a document is dropped, since it has too little context."""
MAX_BLOCK_SEQUENCES = 16
"""Maximum number of sequences in a block: the gaps then cost 6 % of the text."""
TARGET_BLOCKS = 8
"""Number of blocks that a small corpus is divided into, about."""


@dataclass(frozen=True)
class DocumentRun:
    """Stretch of a document that is all in one split: tokens `start` to `stop` of the document, in
    split `side` (0 explain, 1 score)."""

    document: int
    start: int
    stop: int
    side: int


@dataclass(frozen=True)
class SequenceSegment:
    """Segment of a token sequence: the tokens that the sequence takes from one document, beginning
    at the document's token `start`."""

    document: int
    start: int
    tokens: UInt32[np.ndarray, "tokens"]


@dataclass
class SequenceDraft:
    """Draft of one token sequence for the model: segments of documents of one split, still without
    BOS."""

    side: int
    segments: list[SequenceSegment] = field(default_factory=list)
    length: int = 0

    def add(self, segment: SequenceSegment) -> None:
        """Append a document's segment to the drafted sequence."""
        self.segments.append(segment)
        self.length += len(segment.tokens)


def sequences_per_block(lengths: list[int], room: int) -> int:
    """Return how many sequences of `room` tokens make up one block, where a corpus of few documents
    is divided into blocks of alternating splits. `lengths` are the documents' lengths in tokens."""
    total = sum(-(-length // room) for length in lengths)
    return min(MAX_BLOCK_SEQUENCES, max(1, total // TARGET_BLOCKS))


def whole_document_runs(
    lengths: list[int], sides: UInt8[np.ndarray, "documents"]
) -> list[list[DocumentRun]]:
    """Return for each document a list of a single run, the whole document in its own split."""
    return [[DocumentRun(i, 0, n, int(sides[i]))] for i, n in enumerate(lengths)]


def block_runs(
    lengths: list[int], sides: UInt8[np.ndarray, "documents"], block: int, gap: int
) -> list[list[DocumentRun]]:
    """Return each document divided into runs (blocks) of `block` tokens in alternating splits,
    separated by gaps of `gap` tokens that no sequence covers.

    A document's first block is in the document's own split, so copies are divided alike.
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
    """Cut a document's run (its stretch in one split) into sequence drafts of up to `room` tokens.
    `tokens` are those of the whole document."""
    for start in range(run.start, run.stop, room):
        stop = min(start + room, run.stop)
        if stop - start >= MIN_REMAINDER_TOKENS or start == 0:
            draft = SequenceDraft(run.side)
            draft.add(SequenceSegment(run.document, start, tokens[start:stop]))
            yield draft


class SequencePacker:
    """Packs runs of documents end to end into token sequences, each sequence of one split, cutting
    a run where a sequence is full."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._least = min(MIN_REMAINDER_TOKENS, room)
        self._open = [SequenceDraft(0), SequenceDraft(1)]

    def add(
        self, run: DocumentRun, tokens: UInt32[np.ndarray, "tokens"]
    ) -> Iterator[SequenceDraft]:
        """Pack a document's run and yield the sequences that it fills; the remainder waits in an
        open sequence for the next run of the same split."""
        start = run.start
        while run.stop - start >= self._least or (start == 0 and run.stop > 0):
            if self._room - self._open[run.side].length < self._least:
                yield self._taken(run.side)
            draft = self._open[run.side]
            stop = min(run.stop, start + self._room - draft.length)
            draft.add(SequenceSegment(run.document, start, tokens[start:stop]))
            start = stop

    def finish(self) -> Iterator[SequenceDraft]:
        """Yield the sequences, at most one of each split, that are only partly filled when the
        documents end."""
        for side in (0, 1):
            if self._open[side].segments:
                yield self._taken(side)

    def _taken(self, side: int) -> SequenceDraft:
        """Return the packer's partly filled sequence of split `side`, and begin an empty one for
        that split."""
        draft, self._open[side] = self._open[side], SequenceDraft(side)
        return draft
