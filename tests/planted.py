"""A dictionary with a feature for each of a few words, in pairs: without it, a word is what both of
its pair have in common. And texts in which one pair says the label, and another goes with it."""

import random
from collections.abc import Sequence

import torch

from backend.dictionaries.activation_rules import ThresholdRule
from backend.dictionaries.affine_coder import AffineCoder
from backend.dictionaries.base import Dictionary, single_sites
from backend.engine import LocalEngine
from backend.model.language_model import LanguageModel
from backend.probing.probe_texts import LabelledText
from tests.models import VOCAB

PLAIN = ("the", "a", "saw", "found", "ball", "tree")
EMBEDDED = "blocks.0.hook_resid_pre"
MARKED = ("girl", "boy", "happy", "sad", "ball", "tree")
"""The planted words, pair by pair; their place is the feature's number."""


def planted(lm: LanguageModel, words: Sequence[str] = MARKED) -> Dictionary:
    """Feature i fires on word i alone, and holds what tells its embedding from its partner's."""
    ids = torch.tensor([VOCAB.index(word) for word in words])
    every = torch.arange(len(VOCAB))[None]
    rows = torch.cat([lm.activations(part, [EMBEDDED])[EMBEDDED][0] for part in every.split(16, 1)])
    own = rows[ids] / rows[ids].pow(2).sum(-1, keepdim=True)
    apart = own @ rows.T
    apart[torch.arange(len(ids)), ids] = -1
    level = (1 + apart.amax(1)) / 2
    assert (level < 0.99).all(), "a word's embedding is not told apart by its own direction"
    middle = rows[ids].view(-1, 2, rows.shape[1]).mean(1).repeat_interleave(2, 0)
    W_dec = (rows[ids] - middle) / (1 - level)[:, None]
    coder = AffineCoder(
        own.T.contiguous(), -level, W_dec, torch.zeros(rows.shape[1]), ThresholdRule()
    )
    return Dictionary(
        "words", *single_sites(EMBEDDED, EMBEDDED, coder), "standard", "planted", "0" * 64, coder
    )


def engine(lm: LanguageModel, *more: Dictionary) -> LocalEngine:
    """The planted dictionary and others, over a tiny model."""
    return LocalEngine(lm, {one.name: one for one in (planted(lm), *more)}, bos=lm.bos)


def trapped(n: int, *, together: bool, seed: int = 0) -> tuple[LabelledText, ...]:
    """Texts about a girl or a boy; a mood, said twice, that goes with them or does not."""
    rng, found = random.Random(f"{together} {seed}"), []
    for i in range(n):
        girl = i % 2 == 0
        happy = girl if together else i % 4 < 2
        mood = "happy" if happy else "sad"
        words = ["girl" if girl else "boy", mood, mood, *rng.sample(PLAIN, rng.choice((1, 2, 3)))]
        rng.shuffle(words)
        found.append(LabelledText(" ".join(words), "she" if girl else "he", mood))
    return tuple(found)
