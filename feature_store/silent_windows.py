"""Silent windows: windows of the random pool in which a feature does not fire, split into random
and hard negatives.

Silent means activation 0 on every counted token of the window. Hard means that the window contains
a token at which the feature's own contexts peak, so that this token alone cannot be what the
feature fires on.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from feature_store.records import Context
from feature_store.token_sequences import TokenSequences
from feature_store.window_pool import PoolWindow, WindowPool

MIN_SILENT_WINDOWS = 20
"""Minimum number of silent windows per split; a feature with fewer is too dense for detection."""
SHOWN_WINDOWS = 20


@dataclass(frozen=True)
class SilentContexts:
    """Silent windows of a feature (windows of the random pool in which it does not fire), in the
    pool's order, as contexts of activation 0."""

    hard: list[Context]
    """Hard silent windows; `peak` is the token that they share with the feature's peaks."""
    random: list[Context]
    """Random silent windows; `peak` is the window's middle."""

    def has_too_few(self) -> bool:
        """Return whether the `explain` or the `score` split has fewer than MIN_SILENT_WINDOWS
        silent windows."""
        splits = Counter(context.split for context in (*self.hard, *self.random))
        return min(splits["explain"], splits["score"]) < MIN_SILENT_WINDOWS


def find_peak_tokens(contexts: list[Context], sequences: TokenSequences) -> np.ndarray:
    """Return the ids of the tokens at which a feature's top and bottom contexts peak."""
    strong = [c for c in contexts if c.stratum in ("top", "bottom")]
    return np.unique([int(sequences.tokens(c.sequence)[c.peak]) for c in strong])


def find_silent_windows(
    pool: WindowPool, feature: int, sequences: TokenSequences, tokens: np.ndarray
) -> SilentContexts:
    """Find all windows of the random pool in which a feature does not fire. Those that contain one
    of `tokens` (where its own contexts peak) are hard negatives, the others random ones."""
    fired = np.zeros(pool.n_tokens + 1, dtype=np.int64)
    np.add.at(fired, pool.activations_of(feature)[0] + 1, 1)
    before = np.cumsum(fired)  # firings on the pool's tokens before each
    silent = [w for w in pool.windows if before[w.first + w.length] == before[w.first]]
    found = SilentContexts([], [])
    if not silent:
        return found
    texts = [sequences.window(w.sequence, w.start, w.length) for w in silent]
    ends = np.cumsum([len(text) for text in texts]).tolist()
    shared = np.flatnonzero(np.isin(np.concatenate(texts), tokens))  # one look-up for all: quick
    following = np.append(shared, ends[-1])[np.searchsorted(shared, [0, *ends[:-1]])].tolist()
    for window, begin, end, at in zip(silent, [0, *ends[:-1]], ends, following, strict=True):
        if at < end:
            found.hard.append(make_silent_context(window, window.start + at - begin))
        else:
            found.random.append(make_silent_context(window, window.start + window.length // 2))
    return found


def make_silent_context(window: PoolWindow, peak: int) -> Context:
    """Return a silent window of the pool as a context without activations."""
    return Context(
        "range",
        0,
        None,
        window.split,
        window.document,
        window.sequence,
        window.start,
        window.length,
        peak,
        0.0,
        [],
        [],
    )
