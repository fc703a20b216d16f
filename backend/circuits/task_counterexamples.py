"""Counterexamples of the demo's tasks: prompts paired with others in which the task's behaviour is
impossible.

The words that decide the answer are replaced by words that decide nothing: the giver is somebody
who was not named, the repeated words are not from the list, a name replaces the year, a job
replaces the name. This differs from a corrupted prompt, which shows the behaviour with the other
answer. Importing this module does not load torch.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backend.demo import word_lists
from backend.demo.story_templates import FILLERS, HELD_OUT_TEMPLATES, TRAIN_TEMPLATES
from backend.demo.task_generators import TASKS, TemplateSlots, fill_template
from feature_store.errors import pick_by_name

GENDERED_JOBS = ("king", "waiter")
"""Jobs that indicate a man, which no counterexample uses."""


@dataclass(frozen=True)
class CounterexamplePair:
    """Pair of prompts of a demo task: one that shows the task's behaviour, with its right and wrong
    answers, and a counterexample in which the behaviour is impossible."""

    text: str
    without: str
    answer: str
    wrong: str


def sample_counterexample_pairs(
    task: str, split: str, n: int, seed: int
) -> Iterator[CounterexamplePair]:
    """Sample `n` pairs of prompt and counterexample from the `train` or `held_out` templates of a
    demo task, each after a filler sentence.

    Raises InputError for a task that has no counterexamples (COUNTEREXAMPLE_TASKS lists those that
    have).
    """
    instead = pick_by_name("task with counterexamples", task, COUNTEREXAMPLE_TASKS)
    templates = {"train": TRAIN_TEMPLATES, "held_out": HELD_OUT_TEMPLATES}[split][task]
    rng = random.Random(f"head codes {task} {seed}")
    for _ in range(n):
        template, kind, _ = rng.choice(templates).split("|")
        slots = TASKS[task](rng, kind)
        fill_template(template, slots)
        lead = f"{fill_template(rng.choice(FILLERS), TemplateSlots(rng))} "
        other = TemplateSlots(rng, **{**slots, **instead(rng, slots)})
        both = lead + fill_template(template, slots), lead + fill_template(template, other)
        yield CounterexamplePair(*both, slots["answer"], slots["wrong"])


def _replace_giver_with_stranger(rng: random.Random, slots: TemplateSlots) -> dict[str, str]:
    """Return the replaced word of an indirect-object counterexample by template slot: the giver is
    a person who was not named before."""
    return {"S": rng.choice([n for n in word_lists.NAMES if n not in (slots["A"], slots["B"])])}


def _replace_repeated_words(rng: random.Random, slots: TemplateSlots) -> dict[str, str]:
    """Return the replaced words of an induction counterexample by template slot: the repeated words
    are not from the list."""
    listed = slots["seq"].split()
    fresh = [word for word in word_lists.LIST_WORDS if word not in listed]
    return {"part": " ".join(rng.sample(fresh, len(slots["part"].split())))}


def _replace_name_with_job(rng: random.Random, slots: TemplateSlots) -> dict[str, str]:
    """Return the replaced word of a pronoun counterexample by template slot: a job that shows no
    gender replaces the name."""
    others = [
        job for job in word_lists.WORD_POOLS["job"] if job not in {*GENDERED_JOBS, *slots.values()}
    ]
    return {"who": f"the {rng.choice(others)}"}


COUNTEREXAMPLE_TASKS: dict[str, Callable[[random.Random, TemplateSlots], dict[str, str]]] = {
    "indirect_object": _replace_giver_with_stranger,
    "induction": _replace_repeated_words,
    "greater_than": lambda rng, _: {"from": rng.choice(word_lists.NAMES)},
    "pronoun": _replace_name_with_job,
}
"""Task -> function that returns the template slots for a counterexample, which replace the words
that decide the answer."""
