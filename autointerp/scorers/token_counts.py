"""How often each token stands in a harvest's corpus, to draw tokens that are as frequent."""

from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from feature_store.harvest_reader import HarvestFile

FREQUENCY_NEIGHBOURS = 20
"""Tokens next in frequency among which one is drawn."""


@dataclass(frozen=True)
class TokenCounts:
    """Every token's text and count; no text comes twice, none is empty."""

    tokens: tuple[str, ...]
    counts: np.ndarray
    """[tokens] int64."""

    @cached_property
    def _places(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @cached_property
    def _logs(self) -> np.ndarray:
        return np.log1p(self.counts)

    def near(self, token: str, but: Set[str], n: int, dice: np.random.Generator) -> tuple[str, ...]:
        """`n` tokens like `token` in frequency, none of `but`: drawn from the NEAR next by log
        count, those as far as the last of them included. Fewer where there are not so many."""
        place = self._places.get(token)
        away = np.abs(self._logs - (0.0 if place is None else self._logs[place]))
        most = min(FREQUENCY_NEIGHBOURS + len(but), len(away)) - 1
        if most < 0:
            return ()
        close = np.flatnonzero(away <= np.partition(away, most)[most])
        found = (self.tokens[i] for i in dice.permutation(close).tolist())
        return tuple(t for t in found if t not in but and t != token)[:n]


def count_corpus_tokens(file: HarvestFile) -> TokenCounts:
    """The counts of a harvest, of both splits."""
    vocabulary, flat = file.vocabulary, file.sequences.flat
    found: dict[str, int] = {}
    for token, count in enumerate(np.bincount(flat, minlength=len(vocabulary)).tolist()):
        if text := vocabulary.text(token):
            found[text] = found.get(text, 0) + count
    return TokenCounts(tuple(found), np.fromiter(found.values(), np.int64, len(found)))
