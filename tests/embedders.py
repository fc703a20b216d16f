"""A model2vec model of a few words, made by model2vec itself."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest


def static_model(folder: Path, words: Mapping[str, tuple[float, ...]]) -> Path:
    """Write a static model whose words have these vectors; every other word has none."""
    model2vec = pytest.importorskip("model2vec", reason="the optional extra embed")
    from tokenizers import Tokenizer, models, pre_tokenizers

    size = len(next(iter(words.values())))
    known = {"[UNK]": 0} | {word: i for i, word in enumerate(words, 1)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.array([(0.0,) * size, *words.values()], np.float32)
    model2vec.StaticModel(vectors, tokenizer).save_pretrained(folder)
    return folder
