"""Word vectors computed from the corpus, without any trained model: an embedder in which words are
similar when they occur near the same words.

Positive pointwise mutual information of words within a few words of each other, reduced by a
singular value decomposition (Levy and Goldberg 2014); a text is the weighted mean of its words,
with frequent words weighing less (Arora, Liang and Ma 2017). The vectors cover the words of the
corpus and of the labels only, and treat opposites, which occur near the same words, as similar.
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
"""Number of words to either side that count as a word's context."""
MAX_WORDS = 20_000
MIN_CORPUS_COUNT = 3
"""Number of occurrences in the corpus from which a word gets a vector although no label contains
it."""
NEIGHBOUR_POWER = 0.75
"""Power of a neighbouring word's frequency in pointwise mutual information: rare neighbours count
less than by their counts."""
HALF_WEIGHT_FREQUENCY = 1e-4
"""Frequency at which a word has half the weight in a text's mean vector."""
MIN_SPELLING_LIKENESS, MIN_SPELLING_LETTERS = 0.6, 4
"""Spelling similarity from which a known word replaces an unknown one, and the word length below
which none does."""


class WordVectors:
    """Text embedder whose word vectors are computed from a corpus and the labels themselves, in
    seconds."""

    name = "word vectors of the corpus and the labels"

    def __init__(self, corpus: Sequence[str], labels: Sequence[str]) -> None:
        label_words = [split_words(text) for text in dict.fromkeys(labels)]
        texts = [*map(split_words, corpus), *label_words]
        in_labels, counts = (Counter(chain.from_iterable(lists)) for lists in (label_words, texts))
        words = [word for word, _ in in_labels.most_common(MAX_WORDS)]
        words += [
            w for w, n in counts.most_common() if n >= MIN_CORPUS_COUNT and w not in in_labels
        ]
        self.words = {word: i for i, word in enumerate(words[:MAX_WORDS])}
        frequency = np.array([counts[word] for word in self.words]) / max(sum(counts.values()), 1)
        weights = HALF_WEIGHT_FREQUENCY / (HALF_WEIGHT_FREQUENCY + frequency[:, None])
        self._vectors = (weights * self._vectors_from_corpus(texts)).astype(np.float32)

    def _vectors_from_corpus(self, texts: list[list[str]]) -> np.ndarray:
        """Return the vector of each word [words, dimensions], by a factorization of which words
        occur near each other in the texts; of length 1, or 0 for a word without neighbours."""
        from sklearn.utils.extmath import randomized_svd

        separator = [""] * CONTEXT_WORDS  # words of different texts are no neighbours
        flat = np.array([self.words.get(w, -1) for words in texts for w in (*words, *separator)])
        together = pointwise_mutual_information(flat, len(self.words))
        if not together.nnz:
            return np.zeros((len(self.words), 1))
        dimensions = min(DIMENSIONS, len(self.words))
        steps: Any = 3  # scikit-learn's annotation allows only its default, "auto"
        u, s, _ = randomized_svd(together, dimensions, n_iter=steps, random_state=0)
        # the symmetric variant: square roots of the singular values (Levy, Goldberg and Dagan 2015)
        found = u * np.sqrt(s)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return np.where(norms > 1e-3 * norms.max(), found / np.maximum(norms, 1e-12), 0.0)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings of texts [texts, dimensions] by their words, each of length 1; 0
        for a text without a known word."""
        from scipy.sparse import csr_array

        known = [[self.words[w] for w in split_words(text) if w in self.words] for text in texts]
        begins = np.cumsum([0, *map(len, known)])
        columns = np.fromiter((i for words in known for i in words), np.int64, begins[-1])
        ones = np.ones(len(columns), np.float32)
        bags = csr_array((ones, columns, begins), shape=(len(texts), len(self.words)))
        return normalize_rows(bags @ self._vectors)

    def embed_query(self, query: str) -> EmbeddedQuery:
        """Return the embedding of a search query; unknown words are replaced by known words of
        similar spelling."""
        replaced = {word: self._known_word(word) for word in split_words(query)}
        notes = [
            f"“{word}” taken for “{known}”" if known else f"“{word}” is not known"
            for word, known in replaced.items()
            if word != known
        ]
        return EmbeddedQuery(self.embed([" ".join(replaced.values())])[0], ", ".join(notes))

    def _known_word(self, word: str) -> str:
        """Return the word with a vector to use for a word of the query: itself, one of similar
        spelling, or an empty text."""
        if word in self.words or len(word) < MIN_SPELLING_LETTERS:
            return word if word in self.words else ""
        found = self._spelling_index.find(word, 1)
        return (
            self._words_by_number[found[0][0]]
            if found and found[0][1] >= MIN_SPELLING_LIKENESS
            else ""
        )

    @cached_property
    def _words_by_number(self) -> list[str]:
        return list(self.words)

    @cached_property
    def _spelling_index(self) -> WordIndex:
        return WordIndex(self._words_by_number)


def pointwise_mutual_information(words: np.ndarray, n: int) -> "csr_array":
    """Return the positive pointwise mutual information [n, n] of words that occur near each other
    in a sequence of word numbers; −1 separates texts."""
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
