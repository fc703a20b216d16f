"""Windows of the silent pool in which a feature is 0 throughout: random ones and hard ones.

Random negatives are drawn from all silent windows, whatever they hold, so that their rate is that
of the corpus. Hard ones are the silent windows most like those the feature fires in: they hold the
tokens at which it peaks, or many rare words of its top windows.
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
"""Hard windows taken, if there are so many, even where that is more than half of the silent."""


class WindowLikeness(NamedTuple):
    """A feature's top windows beside all windows of the pool."""

    likeness: np.ndarray
    """Of each window, from 0 to 2."""
    peaks: Counter[int]
    """Tokens at which top windows peak."""


class SilentWindows:
    """One dictionary's pool of random windows; `draw` takes about a millisecond."""

    def __init__(self, file: HarvestFile, dictionary: str) -> None:
        found = window_pool.read_pool(file, dictionary)
        self._file = file
        self.windows = found.windows
        self.few_documents = file.record.documents < 20
        ends = np.array([w.first + w.length for w in found.windows])
        self._window = np.searchsorted(ends, found.token, side="right")  # by feature, as the pool
        self._feature = found.feature
        splits = np.array([w.split for w in found.windows], dtype=object)
        self._in = {split: splits == split for split in ("explain", "score")}
        self._documents = {
            split: frozenset(w.document for w in found.windows if w.split == split)
            for split in self._in
        }
        self._examples: dict[int, TextWindow] = {}
        self._places: dict[int, dict[int, int]] = {}
        """Of each window among them: token → where it is first."""
        texts = [file.sequences.window(w.sequence, w.start, w.length) for w in found.windows]
        sets = [np.unique(text) for text in texts]
        self._tokens = np.concatenate(sets) if sets else np.empty(0, np.int64)
        """Distinct tokens of each window, one window after the other."""
        self._of = np.repeat(np.arange(len(sets)), [len(one) for one in sets])
        self._first = np.flatnonzero(np.diff(self._of, prepend=-1))
        held = np.bincount(self._tokens, minlength=len(file.vocabulary))
        self._rarity = np.log((1 + len(sets)) / (1 + held))
        """log of windows ÷ windows that hold the token: common tokens say little."""
        square = np.bincount(self._of, self._rarity[self._tokens] ** 2, len(sets))
        self._norm = np.sqrt(np.maximum(square, 1e-12))

    def size(self, split: str) -> int:
        """Windows of a split."""
        return int(self._in[split].sum())

    def documents(self, split: str) -> frozenset[int]:
        """Their documents."""
        return self._documents[split]

    def silences(self, n_features: int, split: str) -> np.ndarray:
        """For each feature the number of the split's windows in which it is silent, int64."""
        new = np.ones(len(self._feature), bool)  # one entry a token: a window counts once
        new[1:] = (np.diff(self._feature) != 0) | (np.diff(self._window) != 0)
        new &= self._in[split][self._window]
        return self.size(split) - np.bincount(self._feature[new], minlength=n_features)

    def silent(self, feature: int, split: str) -> np.ndarray:
        """Numbers of the windows of a split on all of whose tokens a feature is 0."""
        # In the array's own type: any other makes a copy of it.
        ends = np.array([feature, feature + 1], self._feature.dtype)
        low, high = np.searchsorted(self._feature, ends)
        quiet = self._in[split].copy()
        quiet[self._window[low:high]] = False
        return np.flatnonzero(quiet)

    def draw(
        self, feature: int, split: Split, like: WindowLikeness, n: int, seed: int
    ) -> tuple[tuple[TextWindow, ...], tuple[TextWindow, ...]]:
        """Up to `n` random and `n` hard silent windows; hard ones are at most half of the silent,
        or LEAST, hardest first."""
        silent = self.silent(feature, split)
        dice = np.random.default_rng([seed, feature, split == "score"])
        random = np.sort(dice.permutation(silent)[:n])
        likeness = like.likeness[silent]
        most = min(n, max(len(silent) // 2, min(MIN_HARD_WINDOWS, len(silent))))
        order = np.lexsort((silent, -likeness))[:most]
        hard = [int(i) for i in silent[order[likeness[order] > 0]]]
        return (
            tuple(self.example(int(i)) for i in random),
            tuple(self._hard(i, like.peaks) for i in hard),
        )

    def like(self, top: list[Context]) -> WindowLikeness:
        """How like each window is to a feature's top windows.

        The largest share of the top windows that peak on a token which it holds, plus the cosine
        of sets of tokens, each token weighted by its rarity in the pool.
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

    def example(self, number: int) -> TextWindow:
        """A window of the pool as text; only for a feature that is silent in it."""
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
            self._places[number] = places
        return found

    def _hard(self, number: int, peaks: Counter[int]) -> TextWindow:
        """The same, with the place of the token at which most top windows peak."""
        plain, places = self.example(number), self._places[number]
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
CACHED_POOLS_LOCK = threading.Lock()  # guards POOLS: jobs may sample in threads


def get_silent_windows(file: HarvestFile, dictionary: str) -> SilentWindows:
    """A dictionary's pool, read once for as long as the file is in use; the newest is kept."""
    with CACHED_POOLS_LOCK:
        kept = CACHED_POOLS.setdefault(file, {})
        if dictionary not in kept:
            kept.clear()
            kept[dictionary] = SilentWindows(file, dictionary)
        return kept[dictionary]


def overlaps_any(context: Context, others: Iterable[Context]) -> bool:
    """Whether a window shares a token with one of the others."""
    return any(
        context.sequence == c.sequence
        and context.start < c.start + c.length
        and c.start < context.start + context.length
        for c in others
    )
