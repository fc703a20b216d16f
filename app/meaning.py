"""Features by what their labels mean: who answers, and the index that the process keeps."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import streamlit as st

from app import session
from autointerp.text_embeddings import Embedder, MeaningIndex, StaticEmbedder
from autointerp.word_vectors import WordVectors
from feature_store.annotations import Annotations
from feature_store.corpus_text import sample_corpus_texts
from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile

SETTING = "SAEFARI_EMBEDDER"
"""The environment variable with a model2vec folder or hub name."""
LIMIT, FLOOR = 50, 0.2
"""Features shown at most, and the cosine below which a label is not near."""
BETTER = f'better: pip install "saefari[embed]", {SETTING} = a model2vec folder or hub name'
SAMPLED = 500_000
"""Tokens of the corpus that the words' company is counted on."""

Key = tuple[str, int]
"""Dictionary and index."""


@dataclass
class Shelf:
    """What this process has embedded last. Read and changed under its lock only."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    embedder: tuple[str, Embedder] | None = None
    """A model and the setting that names it."""
    index: MeaningIndex | None = None
    made_of: tuple[str, list[str]] = ("", [])
    """Whose index: the setting or harvest, and the texts."""


@dataclass(frozen=True)
class MeaningSearchResult:
    """The features whose label is near, with the cosine, nearest first; and who says so."""

    found: list[tuple[Key, float]]
    said: str
    problem: str = ""
    """Why the embedding model that was asked for did not answer."""


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The one shelf of this process."""
    return Shelf()


def texts_of(annotations: Annotations) -> dict[Key, str]:
    """What features are said to be, by feature: their labels, else their newest explanations."""
    rows = annotations.names
    keys = zip(rows["dictionary"].to_pylist(), rows["feature"].to_pylist(), strict=True)
    return dict(zip(keys, rows["value"].to_pylist(), strict=True))


def find(
    query: str, file: HarvestFile, names: list[str], texts: dict[Key, str]
) -> MeaningSearchResult:
    """The features of dictionaries `names` whose text is near a query; progress is shown."""
    place = st.empty()
    kept, wanted = shelf(), os.environ.get(SETTING, "").strip()
    with kept.lock:
        try:
            embedder, problem = chosen(kept, wanted), ""
        except InputError as error:
            embedder, problem = None, str(error)
        source = wanted if embedder else f"harvest {file.record.id}"
        index = indexed(kept, source, embedder, file, list(texts.values()), place.caption)
    place.empty()
    keys = list(texts)
    among = np.isin(np.array([name for name, _ in keys], dtype=object), names)
    asked = index.embedder.embed_query(query)
    found = index.find(asked, LIMIT, among, FLOOR)
    said = [f"nearest by {index.embedder.name}"]
    said += [asked.note] if asked.note else []
    said += [BETTER] if embedder is None and not problem else []
    nearest = [(keys[number], cosine) for number, cosine in found]
    return MeaningSearchResult(nearest, " · ".join(said), problem)


def chosen(kept: Shelf, wanted: str) -> Embedder | None:
    """The model that the setting names, loaded once; None without a setting."""
    if not wanted:
        return None
    if kept.embedder is None or kept.embedder[0] != wanted:
        kept.embedder = (wanted, StaticEmbedder(wanted))
    return kept.embedder[1]


def indexed(
    kept: Shelf,
    source: str,
    embedder: Embedder | None,
    file: HarvestFile,
    texts: list[str],
    say: Callable[[str], object],
) -> MeaningIndex:
    """The index of these texts, made anew where they or the embedder have changed."""
    if kept.index is not None and kept.made_of == (source, texts):
        return kept.index
    if embedder is None:
        say("Learning words from the corpus and the labels: some seconds, once.")
        embedder = WordVectors(sample_corpus_texts(file, SAMPLED), texts)

    def tell(done: int, of: int) -> None:
        say(session.literal(f"Embedding labels: {done:,} of {of:,}."))

    kept.index = MeaningIndex(embedder, texts, tell, before=kept.index)
    kept.made_of = (source, texts)
    return kept.index
