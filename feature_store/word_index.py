"""Word index: search texts by words, ranked, tolerant of typing errors, without a network."""

import re
import unicodedata
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa

WORD = re.compile(r"\w+")
MAX_WORDS = 12
"""Maximum number of words of a query that the word index uses."""
# How alike a word is to one that was asked for, at least: exact, its beginning, a typing error.
EXACT, PREFIX, TYPO, INSIDE = 1.0, 0.8, 0.6, 0.5
SIMILARITY_QUERY = f"""
    SELECT number, CASE
        WHEN word = $asked THEN {EXACT}
        WHEN starts_with(word, $asked)
            THEN {PREFIX} + {EXACT - PREFIX} * length($asked) / (length(word) + 1)
        WHEN $slips > 0 AND abs(length(word) - length($asked)) <= $slips
            AND damerau_levenshtein(word, $asked) <= $slips
            THEN {TYPO} + {PREFIX - TYPO} / (1 + damerau_levenshtein(word, $asked))
        WHEN length($asked) >= 3 AND contains(word, $asked) THEN {INSIDE}
    END AS alike
    FROM words WHERE alike IS NOT NULL
"""


class WordIndex:
    """Word index of texts: built once (1 s for 131 000 texts) and searched in milliseconds."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.size = len(texts)
        words: dict[str, int] = {}
        pairs = np.array(
            [
                (words.setdefault(word, len(words)), number)
                for number, text in enumerate(texts)
                for word in set(split_words(text))
            ],
            dtype=np.int64,
        ).reshape(-1, 2)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        self._texts = pairs[:, 1]
        self._begins = np.searchsorted(pairs[:, 0], np.arange(len(words) + 1))
        self._lengths = np.bincount(self._texts, minlength=self.size)
        self._db = duckdb.connect(config={"threads": 1})
        table = pa.table({"number": np.arange(len(words)), "word": pa.array(words, pa.string())})
        self._db.register("incoming", table)
        self._db.execute("CREATE TABLE words AS FROM incoming")
        self._db.unregister("incoming")

    def find(
        self, query: str, limit: int = 200, among: np.ndarray | None = None
    ) -> list[tuple[int, float]]:
        """Search the word index: (number of the text, score in 0..1), best first; empty if no word
        is similar.

        `among`, a boolean for each text, excludes the others. A word counts by its similarity (1 if
        exact; less for a prefix, for one or two typing errors, and inside another word) and by its
        rarity; texts with fewer other words rank higher.
        """
        asked = list(dict.fromkeys(split_words(query)))[:MAX_WORDS]
        scores, weights = np.zeros(self.size), 0.0
        for word in asked:
            alike = self._alike(word)
            df = np.count_nonzero(alike)
            weight = float(np.log1p(self.size / max(df, 1)))
            scores += weight * alike
            weights += weight
        if not scores.any():
            return []
        scores /= weights
        scores *= 0.97 + 0.03 * len(asked) / np.maximum(self._lengths, len(asked))
        if among is not None:
            scores[~among] = 0.0
        order = np.lexsort((np.arange(self.size), -scores))[:limit]
        return [(int(i), float(scores[i])) for i in order if scores[i] > 0]

    def _alike(self, asked: str) -> np.ndarray:
        """Return for each text the similarity (0 to 1) of the one of its words that is most like
        the searched word `asked`; 0 for none."""
        with self._db.cursor() as cur:
            found = cur.execute(
                SIMILARITY_QUERY, {"asked": asked, "slips": allowed_typos(asked)}
            ).fetchall()
        best = np.zeros(self.size)
        for number, alike in found:
            texts = self._texts[self._begins[number] : self._begins[number + 1]]
            best[texts] = np.maximum(best[texts], float(alike))
        return best


def split_words(text: str) -> list[str]:
    """Split a text into words, without case and accents."""
    plain = text.casefold()
    if not plain.isascii():
        parts = unicodedata.normalize("NFKD", plain)
        plain = "".join(c for c in parts if not unicodedata.combining(c))
    return WORD.findall(plain)


def allowed_typos(word: str) -> int:
    """Return the number of typing errors that a search allows in a word: none below 4 letters,
    one from 4, two from 8."""
    return 0 if len(word) < 4 else 1 if len(word) < 8 else 2
