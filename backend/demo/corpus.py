"""The demo's texts: little stories around a task with a known answer, and the standard library."""

import itertools
import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from backend.demo import words
from backend.demo.tasks import PRONOUNS, TASKS, Slots, fill
from backend.demo.templates import ECHOES, FILLERS, HELD_OUT, TRAIN

HARVEST_SEED = 2
"""The harvested stories are not those of the training (seed 0) nor of the dictionaries (seed 1)."""
PIECE_CHARS = 700
"""Standard-library documents are cut near this length: about 250 tokens, the model's context."""


class Document(NamedTuple):
    """A text with an id, and for generated text the id of its template."""

    id: str
    text: str
    template: str | None


class Prompt(NamedTuple):
    """A text up to where `answer` follows; `wrong` is as likely without understanding."""

    prompt: str
    answer: str
    wrong: str


def demo_documents(seed: int = HARVEST_SEED, documents: int | None = None) -> Iterator[Document]:
    """Stories, and after every third one a piece of the standard library while there is some.

    Deterministic for a seed and a Python version; endless unless `documents` is given. A story
    holds instances of one training template only, so that a split by template is clean.
    """
    pieces = stdlib_documents()
    stories = (Document(f"story-{seed}-{i}", *story(seed, i)) for i in itertools.count())
    mixed = _three_to_one(stories, pieces)
    return mixed if documents is None else itertools.islice(mixed, documents)


def _three_to_one(stories: Iterator[Document], pieces: Iterator[Document]) -> Iterator[Document]:
    while True:
        yield from itertools.islice(stories, 3)
        yield from itertools.islice(pieces, 1)


def story(seed: int, index: int) -> tuple[str, str]:
    """(text, template id) of one generated document.

    Two to four instances of one template, fillers between them, and now and then a sentence that
    is said again.
    """
    rng = random.Random(f"story {seed} {index}")
    task = rng.choice(list(TASKS))
    number = rng.randrange(len(TRAIN[task]))
    parts = [_filler(rng)]
    for _ in range(rng.randint(2, 4)):
        prompt, slots, tail = _instance(task, TRAIN[task][number], rng)
        parts.append(prompt + slots["answer"] + tail)
        if rng.random() < 0.4:
            parts.append(_filler(rng))
        if rng.random() < 0.3:
            said = rng.choice([part for part in parts if "\n" not in part])
            parts.append(f"{fill(rng.choice(ECHOES), Slots(rng))} {said}")
    return _join(parts), f"{task}/{number}"


def drill(rng: random.Random) -> str:
    """A text that is nothing but practice: a list said over and over, letters, or pronouns."""
    kind = rng.randrange(3)
    if kind == 0:
        said = rng.sample(words.LIST_WORDS + words.NAMES + words.ARGUMENTS, rng.randint(5, 20))
        return "The list: " + " ".join((said * 12)[:60])
    if kind == 1:
        chosen = rng.sample(words.LETTER_WORDS, 20)
        return "The letters: " + ", ".join(f"{word} {word[0].upper()}" for word in chosen) + "."
    pairs = [(name, rng.choice(list(PRONOUNS.values()))) for name in rng.sample(words.NAMES, 20)]
    said = [f"{name}{case[name in words.BOYS]}" for name, case in pairs]
    return "The names: " + ", ".join(said) + "."


def task_prompts(task: str, split: str, n: int, seed: int) -> Iterator[Prompt]:
    """`n` prompts of a task from its `train` or `held_out` templates, after one or two fillers."""
    rng = random.Random(f"prompts {task} {split} {seed}")
    templates = {"train": TRAIN, "held_out": HELD_OUT}[split][task]
    for _ in range(n):
        prompt, slots, _tail = _instance(task, rng.choice(templates), rng)
        lead = [_filler(rng) for _ in range(rng.randint(1, 2))]
        yield Prompt(_join([*lead, prompt]), slots["answer"], slots["wrong"])


def _instance(task: str, template: str, rng: random.Random) -> tuple[str, Slots, str]:
    prompt, kind, tail = template.split("|")
    slots = TASKS[task](rng, kind)
    return fill(prompt, slots), slots, fill(tail, slots)


def _filler(rng: random.Random) -> str:
    return fill(rng.choice(FILLERS), Slots(rng))


def _join(parts: list[str]) -> str:
    """Sentences with a space between them; code (it ends in a newline) on lines of its own."""
    text = parts[0]
    for before, part in itertools.pairwise(parts):
        code = before.endswith("\n") or "\n" in part or part.startswith(("def ", "return "))
        text += ("" if before.endswith("\n") else "\n" if code else " ") + part
    return text


def stdlib_documents() -> Iterator[Document]:
    """The Python files of the standard library, cut at blank lines; tests and packages left out."""
    root = Path(sysconfig.get_path("stdlib"))
    documents = []
    for path in _stdlib_files(root):
        name = path.relative_to(root).as_posix()
        for i, piece in enumerate(_pieces(path.read_text(encoding="utf-8", errors="replace"))):
            documents.append(Document(f"stdlib-{name}-{i}", piece, None))
    random.Random("stdlib").shuffle(documents)
    yield from documents


def _stdlib_files(root: Path) -> list[Path]:
    found = []
    for name in sorted(sys.stdlib_module_names - {"idlelib", "lib2to3", "this", "antigravity"}):
        found += [root / f"{name}.py"] if (root / f"{name}.py").is_file() else []
        found += sorted((root / name).rglob("*.py"))
    skip = {"test", "tests", "encodings", "pydoc_data", "site-packages", "__pycache__"}
    return [path for path in found if not skip & set(path.relative_to(root).parts)]


def _pieces(text: str) -> Iterator[str]:
    """Runs of whole paragraphs of at most PIECE_CHARS; a longer paragraph is cut off there."""
    piece = ""
    for paragraph in text.split("\n\n"):
        if piece.strip() and len(piece) + len(paragraph) > PIECE_CHARS:
            yield piece.strip("\n")[:PIECE_CHARS]
            piece = ""
        piece += paragraph + "\n\n"
    if piece.strip():
        yield piece.strip("\n")[:PIECE_CHARS]
