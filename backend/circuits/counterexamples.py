"""Prompts of the demo's tasks beside others in which the task's behaviour is not possible.

What decides the answer gives way to a word that decides nothing: somebody gives who was not named,
the words said again are not of the list, a name stands for the year, a job for the name. That is no
corrupt twin, in which the behaviour is there and leads to the other answer. Importing this loads no
torch.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backend.demo import words
from backend.demo.tasks import TASKS, Slots, fill
from backend.demo.templates import FILLERS, HELD_OUT, TRAIN
from feature_store.errors import pick

GENDERED = ("king", "waiter")
"""Jobs that tell a man."""


@dataclass(frozen=True)
class Counterpair:
    """A prompt that shows a behaviour, one that cannot, and the first's two answers."""

    text: str
    without: str
    answer: str
    wrong: str


def counterpairs(task: str, split: str, n: int, seed: int) -> Iterator[Counterpair]:
    """`n` of a task from its `train` or `held_out` templates, after a filler.

    InputError for a task of UNSHOWN there is not.
    """
    instead = pick("task with prompts that cannot show it", task, UNSHOWN)
    templates = {"train": TRAIN, "held_out": HELD_OUT}[split][task]
    rng = random.Random(f"head codes {task} {seed}")
    for _ in range(n):
        template, kind, _ = rng.choice(templates).split("|")
        slots = TASKS[task](rng, kind)
        fill(template, slots)
        lead = f"{fill(rng.choice(FILLERS), Slots(rng))} "
        other = Slots(rng, **{**slots, **instead(rng, slots)})
        both = lead + fill(template, slots), lead + fill(template, other)
        yield Counterpair(*both, slots["answer"], slots["wrong"])


def _stranger(rng: random.Random, slots: Slots) -> dict[str, str]:
    return {"S": rng.choice([n for n in words.NAMES if n not in (slots["A"], slots["B"])])}


def _unlisted(rng: random.Random, slots: Slots) -> dict[str, str]:
    listed = slots["seq"].split()
    fresh = [word for word in words.LIST_WORDS if word not in listed]
    return {"part": " ".join(rng.sample(fresh, len(slots["part"].split())))}


def _jobholder(rng: random.Random, slots: Slots) -> dict[str, str]:
    others = [job for job in words.POOLS["job"] if job not in {*GENDERED, *slots.values()}]
    return {"who": f"the {rng.choice(others)}"}


UNSHOWN: dict[str, Callable[[random.Random, Slots], dict[str, str]]] = {
    "indirect_object": _stranger,
    "induction": _unlisted,
    "greater_than": lambda rng, _: {"from": rng.choice(words.NAMES)},
    "pronoun": _jobholder,
}
"""Task -> the slots that decide nothing in place of those that decide."""
