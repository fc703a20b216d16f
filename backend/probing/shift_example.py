"""Example texts for the SHIFT page with a known spurious correlation, made of words that the demo
model has learned.

The label is whether a person is a girl or a boy. In the training texts every girl likes a thing and
every boy dislikes it; in the held-out texts, name and opinion are independent.
"""

import random

from backend.demo.word_lists import BAD, BOYS, GIRLS, GOOD, WORD_POOLS
from backend.probing.probe_texts import LabelledText

TEMPLATES = (
    "{who} thought the {thing} was {opinion} and",
    "{who} called the {thing} {opinion}, and",
    "In the {place} {who} found the {thing} {opinion}, so",
    "The {thing} of {who} was {opinion}, and",
)
TEXTS_PER_SET = 400
"""Number of example texts in each set."""


def draw_training_texts(n: int = TEXTS_PER_SET, seed: int = 0) -> list[LabelledText]:
    """Draw `n` example training texts, in which girls always like a thing and boys always dislike
    it.
    """
    rng = random.Random(f"train {seed}")
    return [_draw_text(rng, girl=i % 2 == 0, good=i % 2 == 0) for i in range(n)]


def draw_held_out_texts(n: int = TEXTS_PER_SET, seed: int = 0) -> list[LabelledText]:
    """Draw `n` example held-out texts, a quarter for each combination of girl or boy and
    opinion.
    """
    rng = random.Random(f"test {seed}")
    return [_draw_text(rng, girl=i % 2 == 0, good=i % 4 < 2) for i in range(n)]


def _draw_text(rng: random.Random, *, girl: bool, good: bool) -> LabelledText:
    slots = {name: rng.choice(WORD_POOLS[name]) for name in ("thing", "place")}
    slots["who"] = rng.choice(GIRLS if girl else BOYS)
    slots["opinion"] = rng.choice(GOOD if good else BAD)
    text = rng.choice(TEMPLATES).format_map(slots)
    return LabelledText(text, "girl" if girl else "boy", "good" if good else "bad")
