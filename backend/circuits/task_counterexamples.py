"""Prompts of the demo's tasks beside others in which the task's behaviour is not possible.

What decides the answer gives way to a word that decides nothing: somebody gives who was not named,
the words said again are not of the list, a name stands for the year, a job for the name. That is no
corrupt twin, in which the behaviour is there and leads to the other answer. Importing this loads no
torch.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backend.demo import word_lists
from backend.demo.story_templates import FILLERS, HELD_OUT_TEMPLATES, TRAIN_TEMPLATES
from backend.demo.task_generators import TASKS, TemplateSlots, fill_template
from feature_store.errors import pick_by_name

GENDERED_JOBS = ("king", "waiter")
"""Jobs that tell a man."""


@dataclass(frozen=True)
class CounterexamplePair:
    """A prompt that shows a behaviour, one that cannot, and the first's two answers."""

    text: str
    without: str
    answer: str
    wrong: str


def sample_counterexample_pairs(
    task: str, split: str, n: int, seed: int
) -> Iterator[CounterexamplePair]:
    """`n` of a task from its `train` or `held_out` templates, after a filler.

    InputError for a task of UNSHOWN there is not.
    """
    instead = pick_by_name("task with prompts that cannot show it", task, COUNTEREXAMPLE_TASKS)
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
    return {"S": rng.choice([n for n in word_lists.NAMES if n not in (slots["A"], slots["B"])])}


def _replace_repeated_words(rng: random.Random, slots: TemplateSlots) -> dict[str, str]:
    listed = slots["seq"].split()
    fresh = [word for word in word_lists.LIST_WORDS if word not in listed]
    return {"part": " ".join(rng.sample(fresh, len(slots["part"].split())))}


def _replace_name_with_job(rng: random.Random, slots: TemplateSlots) -> dict[str, str]:
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
"""Task -> the slots that decide nothing in place of those that decide."""
