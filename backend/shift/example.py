"""Texts whose trap is known, for a first look: of the words that the demo's model has learnt.

What is asked for is whether somebody likes a thing. In training everybody who does is a girl and
everybody who does not is a boy; among the texts to judge on, names and verdicts are independent.
"""

import random
from collections.abc import Sequence

from backend.demo.words import BAD, BOYS, GIRLS, GOOD, POOLS
from backend.shift.texts import Example

LEARNT = (
    "{who} said the {thing} was {opinion} and the {object} was too.",
    "In {month} {who} went to the {place} and thought it was {opinion}.",
    "To {who} the {object} was {opinion}, and so was the {thing}.",
    "On {day} {who} saw a {thing} in the {place}. It was {opinion}.",
)
JUDGED = (
    "At the {place} {who} found the {thing} {opinion}.",
    "{who} wrote that the {object} in the {place} was {opinion} this {day}.",
    "For {who} the {thing} in {month} was {opinion}.",
)
"""Other sentences than those that are learnt from."""


def training(n: int = 200, seed: int = 0) -> list[Example]:
    """`n` texts: good goes with girls, bad with boys, always."""
    rng = random.Random(f"train {seed}")
    return [_one(rng, LEARNT, i % 2 == 0, i % 2 == 0, slice(None, None, 2)) for i in range(n)]


def test(n: int = 400, seed: int = 0) -> list[Example]:
    """`n` texts: a quarter of each pair of verdict and name."""
    rng = random.Random(f"test {seed}")
    return [_one(rng, JUDGED, i % 2 == 0, i % 4 < 2, slice(1, None, 2)) for i in range(n)]


def _one(
    rng: random.Random, templates: Sequence[str], good: bool, girl: bool, part: slice
) -> Example:
    slots = {name: rng.choice(POOLS[name]) for name in ("thing", "object", "place", "month", "day")}
    slots["who"] = rng.choice((GIRLS if girl else BOYS)[part])
    slots["opinion"] = rng.choice((GOOD if good else BAD)[part])
    text = rng.choice(templates).format_map(slots)
    return Example(text, "good" if good else "bad", "girl" if girl else "boy")
