"""The demo's tasks as clean and corrupt prompts, with the places of their templates marked.

A corrupt prompt has as many tokens as its clean one and differs in the words that decide the
answer; what it keeps is what the circuit is not about. Importing this loads no torch.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backend.demo import words
from backend.demo.tasks import TASKS, Slots, fill
from backend.demo.templates import FILLERS, HELD_OUT, TRAIN
from feature_store.errors import pick

OPEN, CLOSE = "\ue000", "\ue001"
"""Around a marked word while a template is filled: private characters that no text has."""
MARKED = re.compile(f"{OPEN}(.*?){CLOSE}", re.DOTALL)
LEAD = "lead"
"""What stands before the template."""


@dataclass(frozen=True)
class Mark:
    """Characters [start, stop) of a prompt that stand for a place of the template."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Pair:
    """A prompt, its corrupt twin, and what follows the clean one."""

    clean: str
    corrupt: str
    answer: str
    wrong: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Twin:
    """How a task is corrupted."""

    marked: Callable[[Slots], dict[str, str]]
    """Slots of the template -> what their places are called."""
    other: Callable[[Slots, random.Random], dict[str, str]]
    """The slots that the corrupt prompt has otherwise."""


def _people(slots: Slots) -> dict[str, str]:
    giver_first = slots["S"] == slots["A"]
    return {"A": "S1" if giver_first else "IO", "B": "IO" if giver_first else "S1", "S": "S2"}


def _receiver_gives(slots: Slots, _rng: random.Random) -> dict[str, str]:
    return {"S": slots["B"] if slots["S"] == slots["A"] else slots["A"]}


def _earlier_start(slots: Slots, rng: random.Random) -> dict[str, str]:
    """Before the year that was too early: now both answers are late enough."""
    return {"from": str(rng.randint(1900, max(1900, int(slots["wrong"]) - 1)))}


def _other_gender(slots: Slots, rng: random.Random) -> dict[str, str]:
    return {"who": rng.choice(words.BOYS if slots["who"] in words.GIRLS else words.GIRLS)}


def _other_number(slots: Slots, _rng: random.Random) -> dict[str, str]:
    noun = slots["noun"]
    return {"noun": noun[:-1] if noun in {f"{one}s" for one in words.NOUNS} else f"{noun}s"}


def _other_argument(slots: Slots, rng: random.Random) -> dict[str, str]:
    used = {slots[key] for key in "abcd"}
    return {"c": rng.choice([word for word in words.ARGUMENTS if word not in used])}


def _swapped(slots: Slots, _rng: random.Random) -> dict[str, str]:
    """The answer and the tempting word change places in the list."""
    a, b = slots["answer"].strip(), slots["wrong"].strip()
    swap = {a: b, b: a}
    return {"seq": " ".join(swap.get(word, word) for word in slots["seq"].split())}


TWINS: dict[str, Twin] = {
    "indirect_object": Twin(_people, _receiver_gives),
    "greater_than": Twin(lambda _: {"from": "start"}, _earlier_start),
    "pronoun": Twin(lambda _: {"who": "name"}, _other_gender),
    "agreement": Twin(lambda _: {"noun": "subject", "other": "nearer"}, _other_number),
    "docstring": Twin(lambda _: {key: f"argument {key}" for key in "abcd"}, _other_argument),
    "induction": Twin(lambda _: {"seq": "list", "part": "again"}, _swapped),
}


def pairs(task: str, split: str, n: int, seed: int) -> Iterator[Pair]:
    """`n` pairs of a task from its `train` or `held_out` templates, after a filler.

    A pair's two prompts may differ in tokens where the words do (agreement).
    InputError for an unknown task.
    """
    twin = pick("task with clean and corrupt prompts", task, TWINS)
    rng = random.Random(f"pairs {task} {split} {seed}")
    templates = {"train": TRAIN, "held_out": HELD_OUT}[split][task]
    for _ in range(n):
        yield _pair(task, twin, rng.choice(templates), rng)


def _pair(task: str, twin: Twin, template: str, rng: random.Random) -> Pair:
    prompt, kind, _ = template.split("|")
    slots = TASKS[task](rng, kind)
    fill(prompt, slots)  # draws what is left to chance, once for both
    lead = fill(rng.choice(FILLERS), Slots(rng))
    lead += "\n" if "\n" in prompt else " "
    names = twin.marked(slots)
    clean, marks = _marked(prompt, slots, names, len(lead))
    other = Slots(rng, **{**slots, **twin.other(slots, rng)})
    corrupt, _ = _marked(prompt, other, names, len(lead))
    marks = (Mark(LEAD, 0, len(lead) - 1), *marks)
    return Pair(lead + clean, lead + corrupt, slots["answer"], slots["wrong"], marks)


def _marked(
    prompt: str, slots: Slots, names: dict[str, str], start: int
) -> tuple[str, tuple[Mark, ...]]:
    """The filled template, and where the named slots stand in it."""
    wrapped = {key: f"{OPEN}{key}={slots[key]}{CLOSE}" for key in names if key in slots}
    filled = fill(prompt, Slots(slots.rng, **{**slots, **wrapped}))
    text, done = "", 0
    marks: list[Mark] = []
    for found in MARKED.finditer(filled):
        key, _, value = found[1].partition("=")
        text += filled[done : found.start()]
        times = sum(mark.name.partition(" again")[0] == names[key] for mark in marks)
        name = names[key] + (f" again {times}" if times else "")
        marks.append(Mark(name, start + len(text), start + len(text) + len(value)))
        text, done = text + value, found.end()
    return text + filled[done:], tuple(marks)
