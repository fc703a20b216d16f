"""Two sets of texts whose difference is known, for a first look: sentences of the demo's corpus."""

import random
from dataclasses import dataclass

from backend.contrast.contrast_texts import ReadingUnit
from backend.demo.story_templates import TRAIN_TEMPLATES
from backend.demo.task_generators import TASKS, VERBS, VERDICTS, fill_template

TEXTS_PER_SIDE = 40
"""Documents a side."""


@dataclass(frozen=True)
class ContrastExample:
    """Names and texts of two sides, and where to read."""

    groups: dict[str, list[str]]
    unit: ReadingUnit


def happy_and_sad_texts() -> ContrastExample:
    """Sentences about things people liked, and about things they did not."""
    sides = {"happy": [good for good, _ in VERDICTS.values()]}
    sides["sad"] = [bad for _, bad in VERDICTS.values()]
    return ContrastExample(
        {name: draw_sentences("sentiment", words) for name, words in sides.items()}, "document"
    )


def singular_and_plural_texts() -> ContrastExample:
    """Subjects in the singular and in the plural; the subject itself is marked."""
    sides = {"singular": [one for one, _ in VERBS.values()]}
    sides["plural"] = [many for _, many in VERBS.values()]
    groups = {name: draw_sentences("agreement", words, "noun") for name, words in sides.items()}
    return ContrastExample(groups, "marked")


CONTRAST_EXAMPLES = {
    "Happy and sad": happy_and_sad_texts,
    "One and many": singular_and_plural_texts,
}


def draw_sentences(task: str, answers: list[str], mark: str | None = None) -> list[str]:
    """TEXTS different sentences of a task with one of these answers; always the same ones."""
    rng, found = random.Random(0), {}
    while len(found) < TEXTS_PER_SIDE:
        prompt, kind, tail = rng.choice(TRAIN_TEMPLATES[task]).split("|")
        slots = TASKS[task](rng, kind)
        if slots["answer"] not in answers:
            continue
        if mark:
            slots[mark] = f"[[{slots[mark]}]]"
        found[fill_template(prompt + "{answer}" + tail, slots)] = None
    return list(found)
