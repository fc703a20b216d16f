"""Token counts of a harvest's corpus, to draw control tokens of equal frequency."""

from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from feature_store.harvest_reader import HarvestFile

FREQUENCY_NEIGHBOURS = 20
"""Number of tokens next in frequency among which a control token is drawn."""


@dataclass(frozen=True)
class TokenCounts:
    """Text and corpus count of every token; texts are distinct and not empty."""

    tokens: tuple[str, ...]
    counts: np.ndarray
    """Corpus count of each token [tokens], int64."""

    @cached_property
    def _places(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @cached_property
    def _logs(self) -> np.ndarray:
        return np.log1p(self.counts)

    def near(
        self, token: str, excluded: Set[str], n: int, generator: np.random.Generator
    ) -> tuple[str, ...]:
        """Draw `n` tokens of similar corpus frequency to `token`, none of them in `excluded`, among
        the FREQUENCY_NEIGHBOURS next by log count (ties included); fewer where there are not
        enough."""
        place = self._places.get(token)
        distances = np.abs(self._logs - (0.0 if place is None else self._logs[place]))
        farthest = min(FREQUENCY_NEIGHBOURS + len(excluded), len(distances)) - 1
        if farthest < 0:
            return ()
        candidates = np.flatnonzero(distances <= np.partition(distances, farthest)[farthest])
        found = (self.tokens[i] for i in generator.permutation(candidates).tolist())
        return tuple(t for t in found if t not in excluded and t != token)[:n]


def count_corpus_tokens(file: HarvestFile) -> TokenCounts:
    """Return the token counts of a harvest's corpus, over both splits."""
    vocabulary, flat = file.vocabulary, file.sequences.flat
    found: dict[str, int] = {}
    for token, count in enumerate(np.bincount(flat, minlength=len(vocabulary)).tolist()):
        if text := vocabulary.text(token):
            found[text] = found.get(text, 0) + count
    return TokenCounts(tuple(found), np.fromiter(found.values(), np.int64, len(found)))
