"""Texts of the demo: generated stories around a task with a known answer, pieces of Python's
standard library, and task prompts."""

import itertools
import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from backend.demo import word_lists
from backend.demo.story_templates import ECHOES, FILLERS, HELD_OUT_TEMPLATES, TRAIN_TEMPLATES
from backend.demo.task_generators import PRONOUNS, TASKS, TemplateSlots, fill_template

HARVEST_SEED = 2
"""Seed of the stories that the demo harvests; those of the model's training (seed 0) and of the
dictionaries' (seed 1) are different."""
PIECE_CHARS = 700
"""Length in characters near which standard-library files are cut: about 250 tokens, the model's
context."""


class DemoDocument(NamedTuple):
    """Document of the demo's texts: its id, its text, and for generated text the id of its
    template."""

    id: str
    text: str
    template: str | None


class TaskPrompt(NamedTuple):
    """Prompt of a demo task: a text, the `answer` that completes it, and a `wrong` answer that is
    as likely to a model that does not understand the task."""

    prompt: str
    answer: str
    wrong: str


def demo_documents(
    seed: int = HARVEST_SEED, documents: int | None = None
) -> Iterator[DemoDocument]:
    """Yield the demo's documents: three generated stories, then a piece of the standard library
    while there are any.

    The texts are deterministic for a seed and a Python version, and endless unless `documents` is
    given. A story uses one training template only, so a split by template is clean.
    """
    pieces = stdlib_documents()
    stories = (
        DemoDocument(f"story-{seed}-{i}", *generate_story(seed, i)) for i in itertools.count()
    )
    mixed = _mix_three_to_one(stories, pieces)
    return mixed if documents is None else itertools.islice(mixed, documents)


def _mix_three_to_one(
    stories: Iterator[DemoDocument], pieces: Iterator[DemoDocument]
) -> Iterator[DemoDocument]:
    """Yield three generated stories, then one standard-library piece, without end."""
    while True:
        yield from itertools.islice(stories, 3)
        yield from itertools.islice(pieces, 1)


def generate_story(seed: int, index: int) -> tuple[str, str]:
    """Return the text and the template id of one generated story: two to four instances of one
    template with filler sentences between them, and now and then a repeated sentence."""
    rng = random.Random(f"story {seed} {index}")
    task = rng.choice(list(TASKS))
    number = rng.randrange(len(TRAIN_TEMPLATES[task]))
    parts = [_draw_filler(rng)]
    for _ in range(rng.randint(2, 4)):
        prompt, slots, tail = _fill_instance(task, TRAIN_TEMPLATES[task][number], rng)
        parts.append(prompt + slots["answer"] + tail)
        if rng.random() < 0.4:
            parts.append(_draw_filler(rng))
        if rng.random() < 0.3:
            repeated = rng.choice([part for part in parts if "\n" not in part])
            parts.append(f"{fill_template(rng.choice(ECHOES), TemplateSlots(rng))} {repeated}")
    return _join_sentences(parts), f"{task}/{number}"


def generate_drill(rng: random.Random) -> str:
    """Generate a drill, a text that only practises copying: a repeated word list, words with their
    first letters, or names with their pronouns."""
    kind = rng.randrange(3)
    if kind == 0:
        listed = rng.sample(
            word_lists.LIST_WORDS + word_lists.NAMES + word_lists.ARGUMENTS, rng.randint(5, 20)
        )
        return "The list: " + " ".join((listed * 12)[:60])
    if kind == 1:
        chosen = rng.sample(word_lists.LETTER_WORDS, 20)
        return "The letters: " + ", ".join(f"{word} {word[0].upper()}" for word in chosen) + "."
    pairs = [
        (name, rng.choice(list(PRONOUNS.values()))) for name in rng.sample(word_lists.NAMES, 20)
    ]
    named = [f"{name}{case[name in word_lists.BOYS]}" for name, case in pairs]
    return "The names: " + ", ".join(named) + "."


def task_prompts(task: str, split: str, n: int, seed: int) -> Iterator[TaskPrompt]:
    """Yield `n` prompts of a demo task from its `train` or `held_out` templates, each after one or
    two filler sentences."""
    rng = random.Random(f"prompts {task} {split} {seed}")
    templates = {"train": TRAIN_TEMPLATES, "held_out": HELD_OUT_TEMPLATES}[split][task]
    for _ in range(n):
        prompt, slots, _tail = _fill_instance(task, rng.choice(templates), rng)
        lead = [_draw_filler(rng) for _ in range(rng.randint(1, 2))]
        yield TaskPrompt(_join_sentences([*lead, prompt]), slots["answer"], slots["wrong"])


def _fill_instance(task: str, template: str, rng: random.Random) -> tuple[str, TemplateSlots, str]:
    """Fill one story template of a demo task with words. Returns the prompt (the text before the
    answer), the words chosen for its slots, and the text after the prompt."""
    prompt, kind, tail = template.split("|")
    slots = TASKS[task](rng, kind)
    return fill_template(prompt, slots), slots, fill_template(tail, slots)


def _draw_filler(rng: random.Random) -> str:
    """Return a random filler sentence of the demo's stories."""
    return fill_template(rng.choice(FILLERS), TemplateSlots(rng))


def _join_sentences(parts: list[str]) -> str:
    """Join sentences of a story with spaces; code, which ends in a newline, gets lines of its
    own."""
    text = parts[0]
    for before, part in itertools.pairwise(parts):
        code = before.endswith("\n") or "\n" in part or part.startswith(("def ", "return "))
        text += ("" if before.endswith("\n") else "\n" if code else " ") + part
    return text


def stdlib_documents() -> Iterator[DemoDocument]:
    """Yield the Python files of the standard library, cut at blank lines, in a fixed random order;
    tests and packages are left out."""
    root = Path(sysconfig.get_path("stdlib"))
    documents = []
    for path in _stdlib_files(root):
        name = path.relative_to(root).as_posix()
        for i, piece in enumerate(_cut_pieces(path.read_text(encoding="utf-8", errors="replace"))):
            documents.append(DemoDocument(f"stdlib-{name}-{i}", piece, None))
    random.Random("stdlib").shuffle(documents)
    yield from documents


def _stdlib_files(root: Path) -> list[Path]:
    """Return the Python files of the standard library, without tests and third-party packages."""
    found = []
    for name in sorted(sys.stdlib_module_names - {"idlelib", "lib2to3", "this", "antigravity"}):
        found += [root / f"{name}.py"] if (root / f"{name}.py").is_file() else []
        found += sorted((root / name).rglob("*.py"))
    skip = {"test", "tests", "encodings", "pydoc_data", "site-packages", "__pycache__"}
    return [path for path in found if not skip & set(path.relative_to(root).parts)]


def _cut_pieces(text: str) -> Iterator[str]:
    """Cut a standard-library file into pieces of whole paragraphs of at most PIECE_CHARS
    characters; a longer paragraph is truncated."""
    piece = ""
    for paragraph in text.split("\n\n"):
        if piece.strip() and len(piece) + len(paragraph) > PIECE_CHARS:
            yield piece.strip("\n")[:PIECE_CHARS]
            piece = ""
        piece += paragraph + "\n\n"
    if piece.strip():
        yield piece.strip("\n")[:PIECE_CHARS]
