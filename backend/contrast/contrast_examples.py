"""Example sets of texts for the Contrast page, whose difference is known: sentences from the demo's
corpus.
"""

import random
from dataclasses import dataclass

from backend.contrast.contrast_texts import ReadingUnit
from backend.demo.story_templates import TRAIN_TEMPLATES
from backend.demo.task_generators import TASKS, VERBS, VERDICTS, fill_template

TEXTS_PER_SIDE = 40
"""Number of example texts on each side."""


@dataclass(frozen=True)
class ContrastExample:
    """An example for the Contrast page: the texts of two named sides, and which tokens of a text
    are read.
    """

    groups: dict[str, list[str]]
    unit: ReadingUnit


def happy_and_sad_texts() -> ContrastExample:
    """Return the example of sentences about things that people liked and did not like."""
    sides = {"happy": [good for good, _ in VERDICTS.values()]}
    sides["sad"] = [bad for _, bad in VERDICTS.values()]
    return ContrastExample(
        {name: draw_sentences("sentiment", words) for name, words in sides.items()}, "document"
    )


def singular_and_plural_texts() -> ContrastExample:
    """Return the example of sentences with a singular and a plural subject; the subject is the
    marked token.
    """
    sides = {"singular": [one for one, _ in VERBS.values()]}
    sides["plural"] = [many for _, many in VERBS.values()]
    groups = {name: draw_sentences("agreement", words, "noun") for name, words in sides.items()}
    return ContrastExample(groups, "marked")


CONTRAST_EXAMPLES = {
    "Happy and sad": happy_and_sad_texts,
    "One and many": singular_and_plural_texts,
}


def draw_sentences(task: str, answers: list[str], mark: str | None = None) -> list[str]:
    """Draw TEXTS_PER_SIDE different sentences for one side of a contrast example, from those of a
    demo task that contain one of the answers; deterministic.
    """
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
