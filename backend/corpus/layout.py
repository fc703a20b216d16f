"""How documents are laid out in sequences: cut, by blocks, or packed.

A run is a stretch of one document that is all on one side of the split. Normally a document is
one run. In a corpus of few documents each is divided into blocks on alternating sides, with a gap
of `context_size` tokens that no sequence covers. Runs are cut into sequences, or packed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8, UInt32

SHORTEST = 4
"""A document's remainder of fewer tokens is dropped, as there is too little before it to read."""
LONGEST_BLOCK = 16
"""Sequences in a block, at most: the gaps then cost 6 % of the text."""
BLOCKS = 8
"""How many blocks a small corpus is divided into, about."""


@dataclass(frozen=True)
class Run:
    """Tokens `start` to `stop` of a document, all in split `side` (0 explain, 1 score)."""

    document: int
    start: int
    stop: int
    side: int


@dataclass(frozen=True)
class Segment:
    """What one sequence takes of one document: `tokens` from token `start` of it on."""

    document: int
    start: int
    tokens: UInt32[np.ndarray, "tokens"]


@dataclass
class Draft:
    """A sequence in the making: all of one split, without BOS."""

    side: int
    segments: list[Segment] = field(default_factory=list)
    length: int = 0

    def add(self, segment: Segment) -> None:
        """Put `segment` behind what is there."""
        self.segments.append(segment)
        self.length += len(segment.tokens)


def block_sequences(lengths: list[int], room: int) -> int:
    """How many sequences a block has, for documents of these lengths in tokens."""
    total = sum(-(-length // room) for length in lengths)
    return min(LONGEST_BLOCK, max(1, total // BLOCKS))


def whole_runs(lengths: list[int], sides: UInt8[np.ndarray, "documents"]) -> list[list[Run]]:
    """Each document as one run."""
    return [[Run(i, 0, n, int(sides[i]))] for i, n in enumerate(lengths)]


def block_runs(
    lengths: list[int], sides: UInt8[np.ndarray, "documents"], block: int, gap: int
) -> list[list[Run]]:
    """Each document as blocks of `block` tokens on alternating sides, `gap` tokens between.

    A document's first block is on the document's own side, so copies are divided alike.
    """
    return [
        [
            Run(i, start, min(start + block, n), (int(sides[i]) + number) % 2)
            for number, start in enumerate(range(0, n, block + gap))
        ]
        for i, n in enumerate(lengths)
    ]


def cut(run: Run, tokens: UInt32[np.ndarray, "tokens"], room: int) -> Iterator[Draft]:
    """The run as sequences of up to `room` tokens; `tokens` are the whole document's."""
    for start in range(run.start, run.stop, room):
        stop = min(start + room, run.stop)
        if stop - start >= SHORTEST or start == 0:
            draft = Draft(run.side)
            draft.add(Segment(run.document, start, tokens[start:stop]))
            yield draft


class Packer:
    """Fills sequences with runs of one split after each other, cutting where one is full."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._least = min(SHORTEST, room)
        self._open = [Draft(0), Draft(1)]

    def add(self, run: Run, tokens: UInt32[np.ndarray, "tokens"]) -> Iterator[Draft]:
        """The sequences that this run fills; what is left stays open."""
        start = run.start
        while run.stop - start >= self._least or (start == 0 and run.stop > 0):
            if self._room - self._open[run.side].length < self._least:
                yield self._taken(run.side)
            draft = self._open[run.side]
            stop = min(run.stop, start + self._room - draft.length)
            draft.add(Segment(run.document, start, tokens[start:stop]))
            start = stop

    def rest(self) -> Iterator[Draft]:
        """The sequences that are still open."""
        for side in (0, 1):
            if self._open[side].segments:
                yield self._taken(side)

    def _taken(self, side: int) -> Draft:
        draft, self._open[side] = self._open[side], Draft(side)
        return draft
