"""Prompt pairs of the demo's tasks: clean and corrupted prompts with the places of their templates
marked.

A corrupted prompt has as many tokens as its clean one and differs in the words that decide the
answer; what both have in common is not part of the circuit. Importing this module does not load
torch.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backend.demo import word_lists
from backend.demo.story_templates import FILLERS, HELD_OUT_TEMPLATES, TRAIN_TEMPLATES
from backend.demo.task_generators import TASKS, TemplateSlots, fill_template
from feature_store.errors import pick_by_name

MARK_OPEN, MARK_CLOSE = "\ue000", "\ue001"
"""Delimiters of a marked word while a task's template is filled: private-use characters that no
text contains."""
MARKED_WORD = re.compile(f"{MARK_OPEN}(.*?){MARK_CLOSE}", re.DOTALL)
LEAD_PLACE = "lead"
"""Name of the place for the text before the template of a task prompt."""


@dataclass(frozen=True)
class PlaceMark:
    """Mark of a template place in a task prompt: the characters [start, stop)."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class PromptPair:
    """Clean prompt of a task, its corrupted prompt, and the right and wrong answers to the clean
    one."""

    clean: str
    corrupt: str
    answer: str
    wrong: str
    marks: tuple[PlaceMark, ...]


@dataclass(frozen=True)
class TaskCorruption:
    """Rule for corrupting the prompts of a demo task: which template places are marked, and which
    words differ in the corrupted prompt."""

    marked: Callable[[TemplateSlots], dict[str, str]]
    """Function from template slots to the names of their marked places."""
    other: Callable[[TemplateSlots, random.Random], dict[str, str]]
    """Function that returns the slots whose words differ in the corrupted prompt."""


def _name_people(slots: TemplateSlots) -> dict[str, str]:
    """Return the place names of the indirect-object task: IO (indirect object), S1 and S2 (first
    and second mention of the giver)."""
    giver_first = slots["S"] == slots["A"]
    return {"A": "S1" if giver_first else "IO", "B": "IO" if giver_first else "S1", "S": "S2"}


def _swap_giver_and_receiver(slots: TemplateSlots, _rng: random.Random) -> dict[str, str]:
    """Return the changed word of a corrupted indirect-object prompt by template slot: the receiver
    becomes the giver."""
    return {"S": slots["B"] if slots["S"] == slots["A"] else slots["A"]}


def _draw_earlier_start(slots: TemplateSlots, rng: random.Random) -> dict[str, str]:
    """Draw the start year of a corrupted greater-than prompt: a year before the wrong answer, so
    that both answers are late enough."""
    return {"from": str(rng.randint(1900, max(1900, int(slots["wrong"]) - 1)))}


def _draw_other_gender(slots: TemplateSlots, rng: random.Random) -> dict[str, str]:
    return {
        "who": rng.choice(word_lists.BOYS if slots["who"] in word_lists.GIRLS else word_lists.GIRLS)
    }


def _change_noun_number(slots: TemplateSlots, _rng: random.Random) -> dict[str, str]:
    noun = slots["noun"]
    return {"noun": noun[:-1] if noun in {f"{one}s" for one in word_lists.NOUNS} else f"{noun}s"}


def _replace_argument(slots: TemplateSlots, rng: random.Random) -> dict[str, str]:
    used = {slots[key] for key in "abcd"}
    return {"c": rng.choice([word for word in word_lists.ARGUMENTS if word not in used])}


def _swap_list_words(slots: TemplateSlots, _rng: random.Random) -> dict[str, str]:
    """Return the word list of a corrupted induction prompt by template slot: the answer and the
    wrong answer swap positions."""
    a, b = slots["answer"].strip(), slots["wrong"].strip()
    swap = {a: b, b: a}
    return {"seq": " ".join(swap.get(word, word) for word in slots["seq"].split())}


TASK_CORRUPTIONS: dict[str, TaskCorruption] = {
    "indirect_object": TaskCorruption(_name_people, _swap_giver_and_receiver),
    "greater_than": TaskCorruption(lambda _: {"from": "start"}, _draw_earlier_start),
    "pronoun": TaskCorruption(lambda _: {"who": "name"}, _draw_other_gender),
    "agreement": TaskCorruption(
        lambda _: {"noun": "subject", "other": "nearer"}, _change_noun_number
    ),
    "docstring": TaskCorruption(
        lambda _: {key: f"argument {key}" for key in "abcd"}, _replace_argument
    ),
    "induction": TaskCorruption(lambda _: {"seq": "list", "part": "again"}, _swap_list_words),
}


def sample_prompt_pairs(task: str, split: str, n: int, seed: int) -> Iterator[PromptPair]:
    """Sample `n` prompt pairs of a demo task from its `train` or `held_out` templates, each after a
    filler sentence.

    The two prompts of a pair may differ in their number of tokens if the words do (agreement).
    Raises InputError for an unknown task.
    """
    twin = pick_by_name("task with clean and corrupted prompts", task, TASK_CORRUPTIONS)
    rng = random.Random(f"pairs {task} {split} {seed}")
    templates = {"train": TRAIN_TEMPLATES, "held_out": HELD_OUT_TEMPLATES}[split][task]
    for _ in range(n):
        yield _fill_prompt_pair(task, twin, rng.choice(templates), rng)


def _fill_prompt_pair(
    task: str, twin: TaskCorruption, template: str, rng: random.Random
) -> PromptPair:
    """Fill one template twice, for the clean and the corrupted prompt of a pair, after the same
    filler sentence."""
    prompt, kind, _ = template.split("|")
    slots = TASKS[task](rng, kind)
    fill_template(prompt, slots)  # draws the random slots once, for both prompts
    lead = fill_template(rng.choice(FILLERS), TemplateSlots(rng))
    lead += "\n" if "\n" in prompt else " "
    names = twin.marked(slots)
    clean, marks = _fill_and_mark(prompt, slots, names, len(lead))
    other = TemplateSlots(rng, **{**slots, **twin.other(slots, rng)})
    corrupt, _ = _fill_and_mark(prompt, other, names, len(lead))
    marks = (PlaceMark(LEAD_PLACE, 0, len(lead) - 1), *marks)
    return PromptPair(lead + clean, lead + corrupt, slots["answer"], slots["wrong"], marks)


def _fill_and_mark(
    prompt: str, slots: TemplateSlots, names: dict[str, str], start: int
) -> tuple[str, tuple[PlaceMark, ...]]:
    """Fill a task's template with words; return the prompt and the marks (character ranges) of the
    named slots in it."""
    wrapped = {key: f"{MARK_OPEN}{key}={slots[key]}{MARK_CLOSE}" for key in names if key in slots}
    filled = fill_template(prompt, TemplateSlots(slots.rng, **{**slots, **wrapped}))
    text, done = "", 0
    marks: list[PlaceMark] = []
    for found in MARKED_WORD.finditer(filled):
        key, _, value = found[1].partition("=")
        text += filled[done : found.start()]
        times = sum(mark.name.partition(" again")[0] == names[key] for mark in marks)
        name = names[key] + (f" again {times}" if times else "")
        marks.append(PlaceMark(name, start + len(text), start + len(text) + len(value)))
        text, done = text + value, found.end()
    return text + filled[done:], tuple(marks)
