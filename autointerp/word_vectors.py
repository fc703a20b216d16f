"""Meaning without any model: words are alike when they keep the same company.

Positive pointwise mutual information of words within a few words of each other, reduced by a
singular value decomposition (Levy and Goldberg 2014); a text is the mean of its words, frequent
words weighing less (Arora, Liang and Ma 2017). It knows the words of the corpus and of the labels
and nothing else, and takes opposites, which keep the same company, for alike.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from autointerp.text_embeddings import EmbeddedQuery, normalize_rows
from feature_store.word_index import WordIndex, split_words

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DIMENSIONS = 128
CONTEXT_WORDS = 8
"""Words to either side that are company."""
MAX_WORDS = 20_000
MIN_CORPUS_COUNT = 3
"""Times that a word must stand in the corpus, when no label has it."""
NEIGHBOUR_POWER = 0.75
"""Power of a neighbour's frequency: rare neighbours say less than their counts would."""
HALF_WEIGHT_FREQUENCY = 1e-4
"""A word of this frequency weighs half."""
MIN_SPELLING_LIKENESS, MIN_SPELLING_LETTERS = 0.6, 4
"""How alike a known word must be spelled to stand for one that is not known, and below which
length none is taken."""


class WordVectors:
    """An Embedder made of a corpus and the labels themselves, in seconds."""

    name = "the company that words keep in corpus and labels"

    def __init__(self, corpus: Sequence[str], labels: Sequence[str]) -> None:
        said = [split_words(text) for text in dict.fromkeys(labels)]
        texts = [*map(split_words, corpus), *said]
        named, counts = (Counter(chain.from_iterable(lists)) for lists in (said, texts))
        words = [word for word, _ in named.most_common(MAX_WORDS)]
        words += [w for w, n in counts.most_common() if n >= MIN_CORPUS_COUNT and w not in named]
        self.words = {word: i for i, word in enumerate(words[:MAX_WORDS])}
        frequency = np.array([counts[word] for word in self.words]) / max(sum(counts.values()), 1)
        weights = HALF_WEIGHT_FREQUENCY / (HALF_WEIGHT_FREQUENCY + frequency[:, None])
        self._vectors = (weights * self._company(texts)).astype(np.float32)

    def _company(self, texts: list[list[str]]) -> np.ndarray:
        """A direction for each word: [words, dimensions], of length 1, or 0 without company."""
        from sklearn.utils.extmath import randomized_svd

        gap = [""] * CONTEXT_WORDS  # no company across texts
        flat = np.array([self.words.get(w, -1) for words in texts for w in (*words, *gap)])
        together = pointwise_mutual_information(flat, len(self.words))
        if not together.nnz:
            return np.zeros((len(self.words), 1))
        dimensions = min(DIMENSIONS, len(self.words))
        steps: Any = 3  # scikit-learn annotates it by its default, "auto", alone
        u, s, _ = randomized_svd(together, dimensions, n_iter=steps, random_state=0)
        found = u * np.sqrt(s)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return np.where(norms > 1e-3 * norms.max(), found / np.maximum(norms, 1e-12), 0.0)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, dimensions], each of length 1; 0 for a text of which no word is known."""
        from scipy.sparse import csr_array

        known = [[self.words[w] for w in split_words(text) if w in self.words] for text in texts]
        begins = np.cumsum([0, *map(len, known)])
        columns = np.fromiter((i for words in known for i in words), np.int64, begins[-1])
        ones = np.ones(len(columns), np.float32)
        bags = csr_array((ones, columns, begins), shape=(len(texts), len(self.words)))
        return normalize_rows(bags @ self._vectors)

    def ask(self, query: str) -> EmbeddedQuery:
        """A query's direction. Unknown words are taken for known ones that are spelled alike."""
        taken = {word: self._known(word) for word in split_words(query)}
        notes = [
            f"“{word}” taken for “{known}”" if known else f"“{word}” is not known"
            for word, known in taken.items()
            if word != known
        ]
        return EmbeddedQuery(self.embed([" ".join(taken.values())])[0], ", ".join(notes))

    def _known(self, word: str) -> str:
        if word in self.words or len(word) < MIN_SPELLING_LETTERS:
            return word if word in self.words else ""
        found = self._spelling.find(word, 1)
        return self._spelled[found[0][0]] if found and found[0][1] >= MIN_SPELLING_LIKENESS else ""

    @cached_property
    def _spelled(self) -> list[str]:
        return list(self.words)

    @cached_property
    def _spelling(self) -> WordIndex:
        return WordIndex(self._spelled)


def pointwise_mutual_information(words: np.ndarray, n: int) -> "csr_array":
    """Positive pointwise mutual information [n, n] of words in one row of numbers; -1 is none."""
    from scipy.sparse import coo_array, csr_array

    together = csr_array((n, n))
    for distance in range(1, CONTEXT_WORDS + 1):
        left, right = words[:-distance], words[distance:]
        both = (left >= 0) & (right >= 0)
        pairs = (left[both], right[both])
        together = together + coo_array((np.ones(len(pairs[0])), pairs), shape=(n, n)).tocsr()
    found = (together + together.T).tocoo()
    sums = np.asarray(found.sum(axis=1)).ravel()
    expected = sums**NEIGHBOUR_POWER / max((sums**NEIGHBOUR_POWER).sum(), 1)
    rows, columns = found.coords
    information = np.log(found.data / (sums[rows] * expected[columns]))
    kept = information > 0
    return csr_array((information[kept], (rows[kept], columns[kept])), shape=(n, n))
