"""The text that a harvest was made of, as far as it is wanted."""

import re

import numpy as np

from feature_store.harvest_reader import HarvestFile

SPECIAL_TOKEN = re.compile(r"<[^<>\s]*>")
"""A special token such as `<s>`, which is no word of anybody's."""


def sample_corpus_texts(file: HarvestFile, tokens: int = 500_000) -> list[str]:
    """Sequences as text, evenly spread over the corpus, until about `tokens` are read."""
    sequences, vocabulary = file.sequences, file.vocabulary
    share = min(1.0, tokens / max(len(sequences.flat), 1))
    chosen = np.linspace(0, len(sequences), round(share * len(sequences)), endpoint=False)
    texts = ("".join(vocabulary.display(sequences.tokens(int(i)))) for i in chosen)
    return [SPECIAL_TOKEN.sub(" ", text) for text in texts]
