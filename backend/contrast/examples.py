"""Two sets of texts whose difference is known, for a first look: sentences of the demo's corpus."""

import random
from dataclasses import dataclass

from backend.contrast.texts import Unit
from backend.demo.tasks import TASKS, VERBS, VERDICTS, fill
from backend.demo.templates import TRAIN

TEXTS = 40
"""Documents a side."""


@dataclass(frozen=True)
class Example:
    """Names and texts of two sides, and where to read."""

    groups: dict[str, list[str]]
    unit: Unit


def happy_and_sad() -> Example:
    """Sentences about things people liked, and about things they did not."""
    sides = {"happy": [good for good, _ in VERDICTS.values()]}
    sides["sad"] = [bad for _, bad in VERDICTS.values()]
    return Example(
        {name: sentences("sentiment", words) for name, words in sides.items()}, "document"
    )


def one_and_many() -> Example:
    """Subjects in the singular and in the plural; the subject itself is marked."""
    sides = {"singular": [one for one, _ in VERBS.values()]}
    sides["plural"] = [many for _, many in VERBS.values()]
    groups = {name: sentences("agreement", words, "noun") for name, words in sides.items()}
    return Example(groups, "marked")


EXAMPLES = {"Happy and sad": happy_and_sad, "One and many": one_and_many}


def sentences(task: str, answers: list[str], mark: str | None = None) -> list[str]:
    """TEXTS different sentences of a task with one of these answers; always the same ones."""
    rng, found = random.Random(0), {}
    while len(found) < TEXTS:
        prompt, kind, tail = rng.choice(TRAIN[task]).split("|")
        slots = TASKS[task](rng, kind)
        if slots["answer"] not in answers:
            continue
        if mark:
            slots[mark] = f"[[{slots[mark]}]]"
        found[fill(prompt + "{answer}" + tail, slots)] = None
    return list(found)
