"""Texts whose trap is known, for a first look: of the words that the demo's model has learnt.

What is asked for is whether a person is a girl or a boy. In training every girl finds a thing good
and every boy finds it bad; among the texts to judge on, names and verdicts are independent.
"""

import random

from backend.demo.words import BAD, BOYS, GIRLS, GOOD, POOLS
from backend.shift.texts import Example

TEMPLATES = (
    "{who} thought the {thing} was {opinion} and",
    "{who} called the {thing} {opinion}, and",
    "In the {place} {who} found the {thing} {opinion}, so",
    "The {thing} of {who} was {opinion}, and",
)
TEXTS = 400
"""Of each set."""


def training(n: int = TEXTS, seed: int = 0) -> list[Example]:
    """`n` texts: girls find things good, boys find them bad, always."""
    rng = random.Random(f"train {seed}")
    return [_one(rng, girl=i % 2 == 0, good=i % 2 == 0) for i in range(n)]


def test(n: int = TEXTS, seed: int = 0) -> list[Example]:
    """`n` texts: a quarter of each pair of person and verdict."""
    rng = random.Random(f"test {seed}")
    return [_one(rng, girl=i % 2 == 0, good=i % 4 < 2) for i in range(n)]


def _one(rng: random.Random, *, girl: bool, good: bool) -> Example:
    slots = {name: rng.choice(POOLS[name]) for name in ("thing", "place")}
    slots["who"] = rng.choice(GIRLS if girl else BOYS)
    slots["opinion"] = rng.choice(GOOD if good else BAD)
    text = rng.choice(TEMPLATES).format_map(slots)
    return Example(text, "girl" if girl else "boy", "good" if good else "bad")
