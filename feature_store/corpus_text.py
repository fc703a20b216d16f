"""Corpus text: a sample of the text on which a harvest was made, rebuilt from its token
sequences."""

import re

import numpy as np

from feature_store.harvest_reader import HarvestFile

SPECIAL_TOKEN = re.compile(r"<[^<>\s]*>")
"""Pattern of a special token such as `<s>`, which is not part of the corpus text."""


def sample_corpus_texts(file: HarvestFile, tokens: int = 500_000) -> list[str]:
    """Return texts of sequences, evenly spread over the harvest's corpus, of about `tokens`
    tokens in all."""
    sequences, vocabulary = file.sequences, file.vocabulary
    share = min(1.0, tokens / max(len(sequences.flat), 1))
    chosen = np.linspace(0, len(sequences), round(share * len(sequences)), endpoint=False)
    texts = ("".join(vocabulary.display(sequences.tokens(int(i)))) for i in chosen)
    return [SPECIAL_TOKEN.sub(" ", text) for text in texts]
