"""Finding features by a token: those that fire on it, and those whose decoder promotes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from feature_store.reader import HarvestFile
from feature_store.search import split
from feature_store.vocabulary import Vocabulary

MOST_TOKENS = 64
"""Tokens looked for at once, when none is spelled as asked and many begin so."""
SIGNS = {"↵": "\n", "⇥": "\t", "\\n": "\n", "\\t": "\t"}
By = Literal["fires", "promotes", "both"]
MATCHES = """
    WITH peak AS (
        SELECT unnest($rows::BIGINT[]) AS row, unnest($hits::INTEGER[]) AS peaks,
            unnest($strong::INTEGER[]) AS strong
    ), found AS (
        SELECT feature.rowid AS row, dictionary, feature, density, max_act,
            if(list_contains($tokens::INTEGER[], top_token), top_token, NULL) AS top_token,
            if(list_contains($tokens::INTEGER[], top_token), top_token_share, 0) AS share,
            coalesce(peaks, 0) AS peaks, promoted_tokens,
            list_min(list_transform(
                list_intersect(promoted_tokens, $tokens::INTEGER[]),
                lambda t: list_position(promoted_tokens, t)
            )) AS rank,
            greatest(
                share * top_token_n / (top_token_n + 4), coalesce(peaks / (strong + 4), 0)
            ) AS fires
        FROM feature LEFT JOIN peak ON feature.rowid = peak.row
        WHERE list_contains($names::VARCHAR[], dictionary)
    )
    SELECT row, dictionary, feature, density, max_act, top_token, share, peaks,
        promoted_tokens[rank] AS promoted, rank
    FROM found WHERE {condition} ORDER BY {order}, dictionary, feature LIMIT $most
"""
CHOICES: dict[By, tuple[str, str]] = {
    "fires": ("fires > 0", "fires DESC, share DESC"),
    "promotes": ("rank IS NOT NULL", "rank, fires DESC"),
    "both": ("fires > 0 OR rank IS NOT NULL", "fires DESC, share DESC, rank NULLS LAST"),
}
"""Which features are found, and in which order."""


@dataclass(frozen=True)
class Wanted:
    """The tokens that a query means."""

    ids: list[int]
    how: str
    """`exactly`, `as a word` (leading space and case aside), `beginning so`, or `none`."""


def wanted_tokens(query: str, vocabulary: Vocabulary) -> Wanted:
    """The tokens meant by a query: `" dog"` in quotes exactly, else the word dog in any case.

    ↵ or \\n stand for a line break. Without a token of that spelling those that begin so (three
    letters or more); with several words, each of them.
    """
    texts = list(enumerate(vocabulary.text(i) for i in range(len(vocabulary))))
    text = query
    for sign, meant in SIGNS.items():
        text = text.replace(sign, meant)
    if len(text) > 2 and text[0] == text[-1] == '"':
        return Wanted([i for i, t in texts if t == text[1:-1]], "exactly")
    plain = text.strip(" ").casefold()
    bare = [(i, t.strip(" ").casefold()) for i, t in texts]
    for asked in ({plain}, set(split(plain))):
        if ids := [i for i, t in bare if t and t in asked]:
            return Wanted(ids, "as a word")
    if len(plain) >= 3 and (ids := [i for i, t in bare if t.startswith(plain)]):
        return Wanted(ids[:MOST_TOKENS], "beginning so")
    return Wanted([], "none")


@dataclass(frozen=True)
class TokenMatch:
    """How a feature has to do with the tokens asked for."""

    dictionary: str
    feature: int
    density: float
    max_act: float | None
    top_token: int | None
    """The token with most of its activation, if that is one of those asked for."""
    share: float
    """Share of its activation on `top_token`, sampled; 0 without one."""
    peaks: int
    """Of its `strong` strongest stored contexts, those that peak on a token asked for."""
    strong: int
    promoted: int | None
    """The token asked for that it promotes most, if one is among those stored."""
    rank: int | None
    """1 for the token that it promotes most."""


class TokenIndex:
    """Where every strong context of a harvest peaks: six bytes a context, read once."""

    def __init__(self, file: HarvestFile) -> None:
        self._file = file
        begins = file.rows("SELECT rowid AS row, first_context FROM feature WHERE n_contexts > 0")
        order = np.argsort(begins["first_context"].to_numpy())
        rows = begins["row"].to_numpy()[order]
        found = file.rows(
            "SELECT rowid AS row, sequence, peak FROM context WHERE stratum <> 'range'"
        )
        first = begins["first_context"].to_numpy()[order]
        owner = rows[np.searchsorted(first, found["row"].to_numpy(), side="right") - 1]
        self.owner: np.ndarray = owner.astype(np.int32)
        """The row of `feature` that a context belongs to."""
        flat, offsets = file.sequences.flat, file.sequences.offsets
        self.peaks: np.ndarray = flat[offsets[found["sequence"].to_numpy()] + found["peak"]]
        self.strong: np.ndarray = np.bincount(self.owner, minlength=sum_of_features(file))

    def find(
        self,
        tokens: Sequence[int],
        dictionaries: Sequence[str],
        by: By = "both",
        limit: int = 200,
    ) -> list[TokenMatch]:
        """The features that fire on one of `tokens` or promote it (or either alone), best first.

        Order: how much it fires on the token (the larger of the share of its activation and the
        share of its strong contexts, n ÷ (n + 4) of either, so that a few samples weigh little),
        then the token's rank among those it promotes.
        """
        if not tokens or not dictionaries:
            return []
        at_token = self.owner[np.isin(self.peaks, np.array(tokens))]
        rows, hits = np.unique(at_token, return_counts=True)
        condition, order = CHOICES[by]
        query = MATCHES.format(condition=condition, order=order)
        asked = {
            "rows": rows.tolist(), "hits": hits.tolist(), "strong": self.strong[rows].tolist(),
            "tokens": list(tokens), "names": list(dictionaries), "most": limit,
        }  # fmt: skip
        found = self._file.rows(query, asked).to_pylist()
        return [self._match(row) for row in found]

    def _match(self, row: dict) -> TokenMatch:
        strong = int(self.strong[row.pop("row")])
        return TokenMatch(**row, strong=strong)


def sum_of_features(file: HarvestFile) -> int:
    """Rows of the table `feature`."""
    return sum(info.d_sae for info in file.dictionaries.values())


def facts_of(file: HarvestFile, features: Sequence[tuple[str, int]]) -> dict[tuple[str, int], dict]:
    """(dictionary, index) → density and max_act, for features of this harvest."""
    names, numbers = ([f[i] for f in features] for i in (0, 1))
    found: pa.Table = file.rows(
        "SELECT dictionary, feature, density, max_act FROM feature JOIN (SELECT "
        "unnest(?::VARCHAR[]) AS dictionary, unnest(?::INTEGER[]) AS feature) "
        "USING (dictionary, feature)",
        [names, numbers],
    )
    return {(row["dictionary"], row["feature"]): row for row in found.to_pylist()}
