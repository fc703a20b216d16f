"""Token search: find the features that fire on a token, and those whose decoder direction
promotes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.arrow_arrays import column_array
from feature_store.harvest_reader import HarvestFile
from feature_store.vocabulary import Vocabulary
from feature_store.word_index import split_words

MAX_TOKENS = 64
"""Maximum number of tokens searched at once, when no token matches exactly and many begin with
the query."""
SHOWN_SPACES = {"↵": "\n", "⇥": "\t", "\\n": "\n", "\\t": "\t"}
TokenRelation = Literal["fires", "promotes", "both"]
UNRANKED = 2**31
"""Rank of a token that is not among a feature's stored promoted tokens."""
FACTS_QUERY = """
    SELECT dictionary, feature, density, max_act, top_token, top_token_share, top_token_n,
        promoted_tokens, coalesce(len(promoted_tokens), 0) AS promoted, first_context, n_contexts
    FROM feature ORDER BY rowid
"""


@dataclass(frozen=True)
class TokenQuery:
    """A parsed query of token search: the ids of the vocabulary's tokens to search for, and how
    they match the query's text."""

    ids: list[int]
    how: str
    """How the tokens match the query: `exactly`, `as a word` (ignoring leading space and case),
    `beginning so` (prefix), or `none`."""


def parse_token_query(query: str, vocabulary: Vocabulary) -> TokenQuery:
    """Return the tokens of the vocabulary that a text typed into token search matches: `" dog"` in
    quotes exactly, otherwise the word dog in any case.

    ↵ or \\n stands for a line break. If no token matches, each of the query's words is searched,
    and then tokens that begin with the query (three letters or more).
    """
    exact, bare = index_spellings(vocabulary)
    text = query
    for sign, meant in SHOWN_SPACES.items():
        text = text.replace(sign, meant)
    if len(text) > 2 and text[0] == text[-1] == '"':
        return TokenQuery(exact.get(text[1:-1], []), "exactly")
    plain = text.strip(" ").casefold()
    for asked in ({plain}, set(split_words(plain))):
        if ids := [i for word in asked if word for i in bare.get(word, [])]:
            return TokenQuery(sorted(ids), "as a word")
    if len(plain) >= 3:
        begin = sorted(i for word, ids in bare.items() if word.startswith(plain) for i in ids)
        return TokenQuery(begin[:MAX_TOKENS], "beginning so" if begin else "none")
    return TokenQuery([], "none")


@lru_cache(maxsize=4)
def index_spellings(vocabulary: Vocabulary) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return two indexes of a vocabulary for token search, text -> token ids: by the exact text,
    and by the text without outer spaces and case."""
    exact: dict[str, list[int]] = {}
    bare: dict[str, list[int]] = {}
    for i in range(len(vocabulary)):
        text = vocabulary.text(i)
        exact.setdefault(text, []).append(i)
        bare.setdefault(text.strip(" ").casefold(), []).append(i)
    return exact, bare


@dataclass(frozen=True)
class TokenMatch:
    """A feature found by token search, with how it fires on or promotes the tokens."""

    dictionary: str
    feature: int
    density: float
    max_act: float | None
    top_token: int | None
    """Token with the largest share of the feature's activation, if it is one of the searched
    tokens."""
    share: float
    """Share of the feature's activation on `top_token`, estimated from a sample; 0 if there is
    none."""
    peaks: int
    """Number of the feature's `strong` stored top and bottom contexts that peak on a searched
    token."""
    strong: int
    promoted: int | None
    """The searched token that the feature promotes most; None if none is stored."""
    rank: int | None
    """Rank of `promoted` among the tokens that the feature promotes, from 1."""


class TokenIndex:
    """Index for token search: where every top and bottom context of a harvest peaks and which
    tokens every feature promotes. It is read once and takes six bytes per context and about a
    hundred per feature."""

    def __init__(self, file: HarvestFile) -> None:
        table = file.rows(FACTS_QUERY)
        self._names = sorted(file.dictionaries)
        coded = table["dictionary"].dictionary_encode().combine_chunks()
        places = np.array([self._names.index(name) for name in coded.dictionary.to_pylist()])
        self._dictionary = places[column_array(coded.indices)]
        self._feature = column_array(table["feature"])
        self._density, self._max = column_array(table["density"]), column_array(table["max_act"])
        self._top = column_array(pc.fill_null(table["top_token"], -1))
        self._share = column_array(pc.fill_null(table["top_token_share"], 0.0))
        self._sampled = column_array(table["top_token_n"])
        self._begins = np.concatenate([[0], np.cumsum(column_array(table["promoted"]))])
        parts = [column_array(part.flatten()) for part in table["promoted_tokens"].chunks]
        self._promoted = np.concatenate(parts or [np.empty(0, np.int32)])
        self._owner, self._peaks = read_strong_contexts(file, table)
        self.strong: np.ndarray = np.bincount(self._owner, minlength=len(table))
        """Number of stored top and bottom contexts of each feature."""

    def find(
        self,
        tokens: Sequence[int],
        dictionaries: Sequence[str],
        by: TokenRelation = "both",
        limit: int = 200,
    ) -> list[TokenMatch]:
        """Find the features that fire on one of `tokens`, promote it, or either, best first.

        Features are ordered by how much they fire on the token (the larger of its share of their
        activation and its share of their top and bottom contexts, each multiplied by n ÷ (n + 4),
        so that small samples count little), then by the token's rank among those they promote.
        """
        if not tokens or not dictionaries:
            return []
        asked = np.array(tokens)
        peaks = np.bincount(self._owner[np.isin(self._peaks, asked)], minlength=len(self.strong))
        share = np.where(np.isin(self._top, asked), self._share, 0.0)
        weighed = share * self._sampled / (self._sampled + 4)
        fires = np.maximum(weighed, peaks / (self.strong + 4))
        rank = self._ranks(asked)
        among = [i for i, name in enumerate(self._names) if name in dictionaries]
        found = np.isin(self._dictionary, among)
        does = {"fires": fires > 0, "promotes": rank < UNRANKED}
        found &= does[by] if by in does else does["fires"] | does["promotes"]
        rows = np.flatnonzero(found)
        first = (rank, -fires) if by == "promotes" else (-fires, -share, rank)
        keys = [key[rows] for key in (*first, self._dictionary, self._feature)]
        order = rows[np.lexsort(keys[::-1])][:limit]
        columns = (order, share[order], peaks[order], rank[order])
        return [self._match(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]

    def _ranks(self, asked: np.ndarray) -> np.ndarray:
        """Return for each feature the rank (1: promoted most) of the first searched token that it
        promotes; UNRANKED if none."""
        places = np.flatnonzero(np.isin(self._promoted, asked))
        owners = np.searchsorted(self._begins, places, side="right") - 1
        rank = np.full(len(self.strong), UNRANKED)
        np.minimum.at(rank, owners, places - self._begins[owners] + 1)
        return rank

    def _match(self, row: int, share: float, peaks: int, rank: int) -> TokenMatch:
        top = self._max[row]
        promotes = rank < UNRANKED
        return TokenMatch(
            dictionary=self._names[self._dictionary[row]],
            feature=int(self._feature[row]),
            density=float(self._density[row]),
            max_act=None if np.isnan(top) else float(top),
            top_token=int(self._top[row]) if share else None,
            share=share,
            peaks=peaks,
            strong=int(self.strong[row]),
            promoted=int(self._promoted[self._begins[row] + rank - 1]) if promotes else None,
            rank=rank if promotes else None,
        )


def read_strong_contexts(file: HarvestFile, features: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Read all top and bottom contexts of a harvest for token search: the row in `features` of each
    context's feature, and the token id at its peak."""
    rows = np.flatnonzero(column_array(features["n_contexts"]))
    first = column_array(features["first_context"])[rows]
    rows, first = (column[np.argsort(first)] for column in (rows, first))
    found = file.rows("SELECT rowid AS row, sequence, peak FROM context WHERE stratum <> 'range'")
    context = column_array(found["row"])
    owner = rows[np.searchsorted(first, context, side="right") - 1].astype(np.int32)
    flat, offsets = file.sequences.flat, file.sequences.offsets
    return owner, flat[offsets[column_array(found["sequence"])] + column_array(found["peak"])]
