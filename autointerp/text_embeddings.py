"""Texts as directions, alike where they mean alike; and the nearest of many to a query."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from feature_store.errors import InputError

TEXTS_PER_BATCH = 4096
"""Texts embedded at once."""


class EmbeddedQuery(NamedTuple):
    """A query as an embedder takes it."""

    direction: np.ndarray
    """[dimensions], of length 1; 0 where nothing of it is known."""
    note: str = ""
    """In words, what was taken for something else or is not known."""


class Embedder(Protocol):
    """Something that turns texts into directions."""

    name: str
    """In words, for the line that says who answered."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, dimensions] float32, each of length 1; 0 for a text that it does not know."""
        ...

    def ask(self, query: str) -> EmbeddedQuery:
        """A query's direction, and what is to be said of it."""
        ...


class StaticEmbedder:
    """A model2vec model: one vector a token, so no torch and thousands of texts a second.

    Read from safetensors and JSON only; nothing in the folder is run.
    """

    def __init__(self, model: str) -> None:
        """A local folder or a hub name; InputError when it cannot be had."""
        try:
            from model2vec import StaticModel
        except ImportError as missing:
            raise InputError(
                'Embedding labels needs an optional part: pip install "saefari[embed]".'
            ) from missing
        try:
            self._model = StaticModel.from_pretrained(model, force_download=False)
        except Exception as bad:  # model2vec and its tokenizers raise whatever comes
            reason = str(bad).strip().split("\n")[0]
            raise InputError(
                f"No model2vec model could be read from {model!r} ({reason[:200]}). Name a folder "
                "with model.safetensors, tokenizer.json and config.json, or a hub name."
            ) from bad
        self.name = model.rstrip("/").rpartition("/")[2]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, dimensions] float32, each of length 1; 0 for a text that it does not know."""
        found = self._model.encode(list(texts), use_multiprocessing=False)
        return normalize_rows(np.asarray(found, np.float32).reshape(len(texts), -1))

    def ask(self, query: str) -> EmbeddedQuery:
        """A query's direction; it knows pieces of words, so there is nothing to be said."""
        return EmbeddedQuery(self.embed([query])[0])


class MeaningIndex:
    """Texts by meaning: embedded once, asked with one product of a matrix and a vector."""

    def __init__(
        self,
        embedder: Embedder,
        texts: Sequence[str],
        tick: Callable[[int, int], None] = lambda done, of: None,
        before: "MeaningIndex | None" = None,
    ) -> None:
        """`tick(done, of)` hears how many texts are embedded; what `before`, of the same embedder,
        has embedded already is taken from it."""
        self.embedder = embedder
        self._rows: dict[str, int] = {}
        self._row = np.array([self._rows.setdefault(t, len(self._rows)) for t in texts], np.int64)
        had = before._rows if before is not None and before.embedder is embedder else {}
        vectors = np.zeros((len(self._rows), len(embedder.ask("").direction)), np.float32)
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
        """(number of the text, cosine), nearest first, all above `floor`.

        `asked` comes from the same embedder. `among`, a truth value for each text, leaves the
        others out. Empty too when nothing of the query is known.
        """
        cosines = (self._vectors @ asked.direction)[self._row]
        numbers = np.flatnonzero(cosines > floor if among is None else (cosines > floor) & among)
        if len(numbers) > limit:
            least = np.partition(cosines[numbers], -limit)[-limit]
            numbers = numbers[cosines[numbers] >= least]
        order = numbers[np.argsort(-cosines[numbers], kind="stable")][:limit]
        return [(int(i), float(cosines[i])) for i in order]

    def vectors(self) -> np.ndarray:
        """[texts, dimensions] float32, a row for each text; 0 for one that is not known."""
        return self._vectors[self._row]


def nearest_rows(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of `one` [n, d] the most alike of `other` [m, d], with the cosine: [n] int64,
    [n] float32. Rows are of length 1; one of length 0 has -1 and NaN."""
    found = np.full(len(one), -1, np.int64)
    cosines = np.full(len(one), np.nan, np.float32)
    for begin in range(0, len(one) if len(other) else 0, TEXTS_PER_BATCH):
        block = one[begin : begin + TEXTS_PER_BATCH] @ other.T
        known = np.flatnonzero(np.any(one[begin : begin + TEXTS_PER_BATCH], axis=1))
        best = block[known].argmax(1)
        found[begin + known], cosines[begin + known] = best, block[known, best]
    return found, cosines


def normalize_rows(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; those of length 0 stay."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
