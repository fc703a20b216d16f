"""Window grid: every sequence of the plan cut into windows of fixed width, the population from
which contexts and silent windows are drawn."""

from dataclasses import dataclass

import numpy as np
import torch

from backend.corpus import SequencePlan
from backend.harvest.sampling_hashes import hash_ids

SILENT_SEED = 0x51E7
"""Constant combined with the harvest's seed for drawing silent windows."""


@dataclass(frozen=True)
class WindowGrid:
    """Grid that divides all token sequences of a corpus into numbered windows, in which firing is
    counted and from which range contexts and silent windows are drawn.

    All windows have the same width; a document's last window may be shorter. Fields are numpy
    arrays with one entry per window.
    """

    width: int
    sequence: np.ndarray
    start: np.ndarray
    """Position of the window's first token in its sequence."""
    length: np.ndarray
    document: np.ndarray
    split: np.ndarray
    """Split of the window's document: 0 explain, 1 score."""
    stretch: np.ndarray
    """Tokens that the window's document has in this sequence."""
    first: np.ndarray
    """Number of each sequence's first window: [sequences + 1]."""

    def __len__(self) -> int:
        return len(self.sequence)


def lay_window_grid(plan: SequencePlan, width: int) -> WindowGrid:
    """Lay a grid of windows of `width` tokens over a plan's sequences, beginning with each segment.

    A segment is a document's stretch of a sequence; without packing, the whole sequence. BOS
    belongs to the first window of its sequence.
    """
    sequence = np.asarray(plan.segment_sequence)
    begin = np.where(np.diff(sequence, prepend=-1) != 0, 0, plan.segment_position)
    last = np.diff(sequence, append=-1) != 0
    end = np.where(last, plan.length[sequence], np.roll(begin, -1))
    count = -(-(end - begin) // width)
    segment = np.repeat(np.arange(len(sequence)), count)
    within = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
    start = (begin[segment] + within * width).astype(np.int32)
    window_sequence = sequence[segment].astype(np.int32)
    return WindowGrid(
        width=width,
        sequence=window_sequence,
        start=start,
        length=np.minimum(width, end[segment] - start).astype(np.int16),
        document=np.asarray(plan.segment_document)[segment].astype(np.int32),
        split=np.asarray(plan.split)[window_sequence],
        stretch=(end - begin)[segment].astype(np.int32),
        first=np.searchsorted(window_sequence, np.arange(plan.n_sequences + 1)).astype(np.int64),
    )


def draw_silent_windows(windows: WindowGrid, n: int, seed: int) -> np.ndarray:
    """Draw `n` windows of full width by hash for the silent pool, half of each split, in ascending
    order; fewer where the corpus has fewer."""
    return np.sort(order_silent_windows(windows, n, seed))


def order_silent_windows(windows: WindowGrid, n: int, seed: int) -> np.ndarray:
    """Return the silent pool's windows in the order of their hashes, the two splits alternating
    while both last. Any first few of them are a random pool, too."""
    ids = np.arange(len(windows), dtype=np.int32)
    hashed = hash_ids(torch.from_numpy(ids), seed ^ SILENT_SEED).numpy()
    full = windows.length == windows.width
    chosen, turn = [], []
    for split in (0, 1):
        candidates = ids[full & (windows.split == split)]
        order = np.lexsort((candidates, hashed[candidates]))
        chosen.append(candidates[order[: n // 2]])
        turn.append(np.arange(len(chosen[-1])) * 2 + split)
    return np.concatenate(chosen)[np.argsort(np.concatenate(turn))]
