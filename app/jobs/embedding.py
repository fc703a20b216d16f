"""Who embeds texts for a job: the model that a setting names, else one made of the corpus."""

import os
from collections import Counter
from collections.abc import Sequence

import numpy as np

from autointerp.text_embeddings import Embedder, StaticEmbedder
from autointerp.word_vectors import WordVectors
from feature_store.corpus_text import SPECIAL_TOKEN
from feature_store.harvest_reader import HarvestFile
from feature_store.word_index import split_words

SETTING = "SAEFARI_EMBEDDER"
"""The environment variable with a model2vec folder or hub name."""
SAMPLED = 500_000
"""Tokens of the corpus that words' company is counted on."""
MOST, RARE = 20_000, 3
"""Words to choose names from, and how often one must stand in the sample."""


def embedder(corpus: Sequence[str], texts: Sequence[str] = ()) -> Embedder:
    """Takes seconds. `texts` bring words that the corpus may lack."""
    if wanted := os.environ.get(SETTING, "").strip():
        return StaticEmbedder(wanted)
    return WordVectors(corpus, texts)


def words(corpus: Sequence[str]) -> list[str]:
    """The corpus's words, the most frequent first."""
    counts = Counter(word for text in corpus for word in split_words(text))
    return [word for word, n in counts.most_common(MOST) if n >= RARE and not word.isdigit()]


def shown(file: HarvestFile) -> list[str]:
    """Texts of the explain split, evenly spread over it: an explainer knows no others."""
    query = "SELECT sequence, len(token_ids) AS n FROM sequence WHERE split = 'explain'"
    table = file.rows(f"{query} ORDER BY sequence")
    share = min(1.0, SAMPLED / max(sum(table.column("n").to_pylist()), 1))
    kept = np.linspace(0, len(table), round(share * len(table)), endpoint=False).astype(int)
    numbers = table.column("sequence").to_numpy()[kept].tolist()
    texts = ("".join(file.vocabulary.display(file.sequences.tokens(i))) for i in numbers)
    return [SPECIAL_TOKEN.sub(" ", text) for text in texts]
