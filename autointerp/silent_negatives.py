"""Silent windows as negatives for scoring: text windows of a random pool in which a feature is 0 on
all tokens.

Random negatives are drawn from all silent windows, so that their tokens are distributed as in the
corpus. Hard negatives are the silent windows that are most similar to those in which the feature
fires: they contain the tokens on which it peaks, or many rare words of its top windows.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from autointerp.text_windows import TextWindow
from feature_store import window_pool
from feature_store.harvest_reader import HarvestFile
from feature_store.records import Context, Split

MIN_HARD_WINDOWS = 20
"""Number of hard negatives to take, if there are as many, even where that is more than half of the
silent windows."""


class WindowLikeness(NamedTuple):
    """Similarity of all windows of the pool to a feature's top windows, for choosing hard
    negatives."""

    likeness: np.ndarray
    """Similarity of each window of the pool, from 0 to 2 [windows]."""
    peaks: Counter[int]
    """Tokens on which the feature's top windows peak, with their counts."""


class SilentWindows:
    """The pool of random text windows of one dictionary's harvest, from which silent negatives of
    any feature are drawn in about a millisecond."""

    def __init__(self, file: HarvestFile, dictionary: str) -> None:
        found = window_pool.read_pool(file, dictionary)
        self._file = file
        self.windows = found.windows
        self.few_documents = file.record.documents < 20
        ends = np.array([w.first + w.length for w in found.windows])
        # entries are sorted by feature, as in the pool
        self._window = np.searchsorted(ends, found.token, side="right")
        self._feature = found.feature
        splits = np.array([w.split for w in found.windows], dtype=object)
        self._in = {split: splits == split for split in ("explain", "score")}
        self._documents = {
            split: frozenset(w.document for w in found.windows if w.split == split)
            for split in self._in
        }
        self._examples: dict[int, TextWindow] = {}
        self._first_index: dict[int, dict[int, int]] = {}
        """Window number → (token → index of its first occurrence)."""
        texts = [file.sequences.window(w.sequence, w.start, w.length) for w in found.windows]
        sets = [np.unique(text) for text in texts]
        self._tokens = np.concatenate(sets) if sets else np.empty(0, np.int64)
        """Distinct tokens of each window of the pool, concatenated."""
        self._of = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
        self._first = np.flatnonzero(np.diff(self._of, prepend=-1))
        held = np.bincount(self._tokens, minlength=len(file.vocabulary))
        self._rarity = np.log((1 + len(sets)) / (1 + held))
        """log(windows ÷ windows that contain the token) for each token: common tokens carry little
        information."""
        square = np.bincount(self._of, self._rarity[self._tokens] ** 2, len(sets))
        self._norm = np.sqrt(np.maximum(square, 1e-12))

    def size(self, split: str) -> int:
        """Return how many windows the pool of silent negatives has in a split."""
        return int(self._in[split].sum())

    def documents(self, split: str) -> frozenset[int]:
        """Return the documents of the windows that the pool of silent negatives has in a split."""
        return self._documents[split]

    def count_silent_windows(self, n_features: int, split: str) -> np.ndarray:
        """Return for each feature the number of the split's windows in the pool in which it is
        silent: [n_features] int64."""
        new = np.ones(len(self._feature), bool)  # one entry per token, but a window counts once
        new[1:] = (np.diff(self._feature) != 0) | (np.diff(self._window) != 0)
        new &= self._in[split][self._window]
        return self.size(split) - np.bincount(self._feature[new], minlength=n_features)

    def silent_window_numbers(self, feature: int, split: str) -> np.ndarray:
        """Return the numbers of the windows of a split in which a feature is silent, that is 0 on
        all tokens: its possible negatives."""
        # in the array's own dtype: any other would copy the array
        ends = np.array([feature, feature + 1], self._feature.dtype)
        low, high = np.searchsorted(self._feature, ends)
        is_silent = self._in[split].copy()
        is_silent[self._window[low:high]] = False
        return np.flatnonzero(is_silent)

    def draw(
        self, feature: int, split: Split, like: WindowLikeness, n: int, seed: int
    ) -> tuple[tuple[TextWindow, ...], tuple[TextWindow, ...]]:
        """Draw up to `n` random and `n` hard negatives of a feature; hard ones are at most half of
        its silent windows, or MIN_HARD_WINDOWS, the most similar first."""
        silent = self.silent_window_numbers(feature, split)
        generator = np.random.default_rng([seed, feature, split == "score"])
        random = np.sort(generator.permutation(silent)[:n])
        likeness = like.likeness[silent]
        most = min(n, max(len(silent) // 2, min(MIN_HARD_WINDOWS, len(silent))))
        order = np.lexsort((silent, -likeness))[:most]
        hard = [int(i) for i in silent[order[likeness[order] > 0]]]
        return (
            tuple(self.window_as_text(int(i)) for i in random),
            tuple(self._hard_negative(i, like.peaks) for i in hard),
        )

    def likeness_to(self, top: list[Context]) -> WindowLikeness:
        """Return the similarity of each window of the pool to a feature's top windows, for choosing
        hard negatives.

        It is the largest share of the top windows that peak on a token which the window contains,
        plus the cosine of token sets, with tokens weighted by their rarity in the pool.
        """
        sequences = self._file.sequences
        n_vocab = len(self._rarity)
        sets = [np.unique(sequences.window(c.sequence, c.start, c.length)) for c in top]
        query = np.bincount(np.concatenate(sets), minlength=n_vocab) / len(top) * self._rarity
        length = max(float(np.linalg.norm(query)), 1e-12)
        dot = np.bincount(
            self._of, (query * self._rarity)[self._tokens], minlength=len(self.windows)
        )
        tokens = sequences.tokens
        peaks = Counter(int(tokens(c.sequence)[c.peak]) for c in top)
        share = np.zeros(n_vocab)
        for token, count in peaks.items():
            share[token] = count / len(top)
        largest = np.zeros(len(self.windows))
        if len(self._first):
            largest[self._of[self._first]] = np.maximum.reduceat(share[self._tokens], self._first)
        return WindowLikeness(largest + dot / (length * self._norm), peaks)

    def window_as_text(self, number: int) -> TextWindow:
        """Return a window of the pool as a text window, for a feature that is silent in it."""
        if (found := self._examples.get(number)) is None:
            w = self.windows[number]
            ids = self._file.sequences.window(w.sequence, w.start, w.length)
            found = self._examples[number] = TextWindow(
                tuple(ids.tolist()),
                tuple(self._file.vocabulary.display(ids)),
                (0.0,) * len(ids),
                -1,
                w.document,
                w.split,
                "random",
                None,
                w.sequence,
                w.start,
            )
            places: dict[int, int] = {}
            for place, token in enumerate(ids.tolist()):
                places.setdefault(token, place)
            self._first_index[number] = places
        return found

    def _hard_negative(self, number: int, peaks: Counter[int]) -> TextWindow:
        """Return a window of the pool as a hard negative, with the index of the token on which most
        top windows peak."""
        plain, places = self.window_as_text(number), self._first_index[number]
        held = [token for token in peaks if token in places]
        at = max(((peaks[token], -places[token]) for token in held), default=(0, 1))[1]
        return TextWindow(
            plain.token_ids,
            plain.tokens,
            plain.activations,
            -1,
            plain.document,
            plain.split,
            "hard",
            None,
            plain.sequence,
            plain.start,
            -at,
        )


CACHED_POOLS: WeakKeyDictionary[HarvestFile, dict[str, SilentWindows]] = WeakKeyDictionary()
CACHED_POOLS_LOCK = threading.Lock()  # guards CACHED_POOLS: jobs may sample in threads


def get_silent_windows(file: HarvestFile, dictionary: str) -> SilentWindows:
    """Return the pool of silent windows of a dictionary, read once per open harvest file; only the
    newest pool is cached."""
    with CACHED_POOLS_LOCK:
        kept = CACHED_POOLS.setdefault(file, {})
        if dictionary not in kept:
            kept.clear()
            kept[dictionary] = SilentWindows(file, dictionary)
        return kept[dictionary]


def overlaps_any(context: Context, others: Iterable[Context]) -> bool:
    """Return whether a stored context shares a token position with one of the others, so that no
    token is sampled twice."""
    return any(
        context.sequence == c.sequence
        and context.start < c.start + c.length
        and c.start < context.start + context.length
        for c in others
    )
