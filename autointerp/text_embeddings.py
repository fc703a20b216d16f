"""Text embeddings: embed labels and queries as unit vectors, and find the labels nearest in meaning
to a query."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from feature_store.errors import InputError

TEXTS_PER_BATCH = 4096
"""Number of texts that are embedded at once."""


class EmbeddedQuery(NamedTuple):
    """A search query as a unit vector, with a note about words that the embedder does not know."""

    direction: np.ndarray
    """Embedding [dimensions] of length 1; 0 where no word of the query is known."""
    note: str = ""
    """What was replaced in the query or is not known, in words."""


class Embedder(Protocol):
    """Protocol of a text embedder: turns texts into unit vectors."""

    name: str
    """Name of the embedder for the line that says which one answered."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings of texts [texts, dimensions] float32, each of length 1; 0 for a
        text without a known word."""
        ...

    def embed_query(self, query: str) -> EmbeddedQuery:
        """Return the embedding of a search query, with a note about unknown words."""
        ...


class StaticEmbedder:
    """Text embedder that uses a model2vec model: one vector per token, so it needs no torch and
    embeds thousands of texts per second.

    The model is read from safetensors and JSON only; no code in its folder is run.
    """

    def __init__(self, model: str) -> None:
        """Load a model2vec embedding model from a local folder or the hub. Raises InputError where
        it cannot be loaded."""
        try:
            from model2vec import StaticModel
        except ImportError as missing:
            raise InputError(
                'Embedding labels requires an optional dependency: pip install "saefari[embed]".'
            ) from missing
        try:
            self._model = StaticModel.from_pretrained(model, force_download=False)
        except Exception as bad:  # model2vec and its tokenizers raise various exceptions
            reason = str(bad).strip().split("\n")[0]
            raise InputError(
                f"No model2vec model could be read from {model!r} ({reason[:200]}). Name a folder "
                "with model.safetensors, tokenizer.json and config.json, or a hub name."
            ) from bad
        self.name = model.rstrip("/").rpartition("/")[2]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings of texts [texts, dimensions] float32, each of length 1; 0 for a
        text without a known token."""
        found = self._model.encode(list(texts), use_multiprocessing=False)
        return normalize_rows(np.asarray(found, np.float32).reshape(len(texts), -1))

    def embed_query(self, query: str) -> EmbeddedQuery:
        """Return the embedding of a search query; the model has vectors for parts of words, so
        there is no note."""
        return EmbeddedQuery(self.embed([query])[0])


class MeaningIndex:
    """Index of texts by meaning: each text is embedded once, and a query is answered by one
    matrix–vector product."""

    def __init__(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        tick: Callable[[int, int], None] = lambda done, of: None,
        before: "MeaningIndex | None" = None,
    ) -> None:
        """Embed the texts of the index. `tick(done, of)` is called with how many texts are
        embedded; embeddings that `before`, an index of the same embedder, has already are reused.
        """
        self.embedder = embedder
        self._rows: dict[str, int] = {}
        self._row = np.array([self._rows.setdefault(t, len(self._rows)) for t in texts], np.int64)
        had = before._rows if before is not None and before.embedder is embedder else {}
        vectors = np.zeros((len(self._rows), len(embedder.embed_query("").direction)), np.float32)
        new = [text for text in self._rows if text not in had]
        if before is not None and had:
            old = [text for text in self._rows if text in had]
            vectors[[self._rows[t] for t in old]] = before._vectors[[had[t] for t in old]]
        for begin in range(0, len(new), TEXTS_PER_BATCH):
            tick(begin, len(new))
            part = new[begin : begin + TEXTS_PER_BATCH]
            vectors[[self._rows[text] for text in part]] = embedder.embed(part)
        self._vectors = vectors

    def find(
        self,
        asked: EmbeddedQuery,
        limit: int = 200,
        among: np.ndarray | None = None,
        floor: float = 0.0,
    ) -> list[tuple[int, float]]:
        """Return (number of the text, cosine) of the texts nearest to a query, nearest first, with
        a cosine above `floor`.

        `asked` must come from the same embedder. `among`, a truth value per text, excludes the
        others. The result is also empty where no word of the query is known.
        """
        cosines = (self._vectors @ asked.direction)[self._row]
        numbers = np.flatnonzero(cosines > floor if among is None else (cosines > floor) & among)
        if len(numbers) > limit:
            # a partition first: sorting all texts would take longer
            least = np.partition(cosines[numbers], -limit)[-limit]
            numbers = numbers[cosines[numbers] >= least]
        order = numbers[np.argsort(-cosines[numbers], kind="stable")][:limit]
        return [(int(i), float(cosines[i])) for i in order]

    def vectors(self) -> np.ndarray:
        """Return the embeddings [texts, dimensions] float32 of all texts of the index; 0 for a text
        without a known word."""
        return self._vectors[self._row]


def nearest_rows(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each embedding of `one` [n, d] the index of the most similar one of `other` [m, d]
    and the cosine: [n] int64, [n] float32.

    Embeddings have length 1; one of length 0 gets index −1 and cosine NaN.
    """
    found = np.full(len(one), -1, np.int64)
    cosines = np.full(len(one), np.nan, np.float32)
    for begin in range(0, len(one) if len(other) else 0, TEXTS_PER_BATCH):
        block = one[begin : begin + TEXTS_PER_BATCH] @ other.T
        known = np.flatnonzero(np.any(one[begin : begin + TEXTS_PER_BATCH], axis=1))
        best = block[known].argmax(1)
        found[begin + known], cosines[begin + known] = best, block[known, best]
    return found, cosines


def normalize_rows(rows: np.ndarray) -> np.ndarray:
    """Return embeddings scaled to length 1; those of length 0 are unchanged."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
