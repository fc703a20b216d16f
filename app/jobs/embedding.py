"""Who embeds texts for a job: the model that a setting names, else one made of the corpus."""

import os
from collections import Counter
from collections.abc import Sequence

from autointerp.embedding import Embedder, StaticEmbedder
from autointerp.word_vectors import WordVectors
from feature_store.corpus_text import corpus_texts
from feature_store.reader import HarvestFile
from feature_store.search import split

SETTING = "SAEFARI_EMBEDDER"
"""The environment variable with a model2vec folder or hub name."""
SAMPLED = 500_000
"""Tokens of the corpus that words' company is counted on."""
MOST, RARE = 20_000, 3
"""Words to choose names from, and how often one must stand in the sample."""


def embedder(file: HarvestFile, texts: Sequence[str] = ()) -> Embedder:
    """Takes seconds. `texts` bring words that the corpus may lack."""
    if wanted := os.environ.get(SETTING, "").strip():
        return StaticEmbedder(wanted)
    return WordVectors(corpus_texts(file, SAMPLED), texts)


def words(file: HarvestFile) -> list[str]:
    """The corpus's words, the most frequent first."""
    counts = Counter(word for text in corpus_texts(file, SAMPLED) for word in split(text))
    return [word for word, n in counts.most_common(MOST) if n >= RARE and not word.isdigit()]
