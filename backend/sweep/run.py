"""Strengths × seeds × prompts in as few batches as memory and fairness allow.

The noise of a row depends on its seed and the step alone, so a text is the same in any batch, and
one seed gives texts that differ by their edits rather than by luck.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from backend.controls import Controls
from backend.dictionaries.base import Dictionary
from backend.generation.prompts import Start
from backend.generation.records import Row, Sampling, Summary, Token
from backend.generation.stream import MOST_ROWS, Extras, generate
from backend.generation.turns import turns_of
from backend.interventions.masks import compiled
from backend.interventions.modes import MODES
from backend.interventions.records import Edit
from backend.lm import Lm
from backend.sweep import measures
from backend.sweep.results import Curve, Dose, Heard, Outcome
from feature_store.errors import InputError
from feature_store.records import FeatureId

MOST_STRENGTHS, MOST_SEEDS, MOST_PROMPTS = 40, 200, 100
WORK = 2e11
"""Multiplications of one forward: a few seconds of one core, during which others wait."""
HELD = 1 << 28
"""Numbers of a batch's logits, keys and values: 1 GiB in float32."""
WRITING = 0.8
"""Share of a batch's time until its texts are there; the rest goes into measuring them."""
Judge = Callable[[Sequence[str]], Sequence[float]]
Tell = Callable[[int, int], None]


class Stopped(Exception):  # what happened, not an error
    """A person stopped the sweep."""


@dataclass(frozen=True)
class Ask:
    """What is run."""

    edits: tuple[Edit, ...]
    strengths: tuple[float, ...]
    prompts: tuple[Start, ...]
    seeds: tuple[int, ...] = tuple(range(8))
    sampling: Sampling = Sampling()
    swept: int = 0
    """Which of the edits takes the strengths; the others keep their own."""
    concept: FeatureId | None = None
    """Read in the texts, by the clean model."""
    nearest: FeatureId | None = None
    pattern: str | None = None
    control_seeds: int | None = None
    """How many of the seeds the controls get; all by default."""

    def check(self) -> None:
        """InputError for what cannot be run."""
        if not 0 <= self.swept < len(self.edits):
            raise InputError("There is no edit whose strength could be swept: add one.")
        if not self.strengths or not self.seeds or not self.prompts:
            raise InputError("A sweep needs at least one strength, one seed and one prompt.")
        if not all(map(math.isfinite, self.strengths)):
            raise InputError("A strength of the sweep is not a finite number.")
        for what, n, most in (
            ("strengths", len(set(self.strengths)), MOST_STRENGTHS),
            ("seeds", len(self.seeds), MOST_SEEDS),
            ("prompts", len(self.prompts), MOST_PROMPTS),
        ):
            if n > most:
                raise InputError(f"{n} {what} are too many: a sweep takes at most {most}.")
        if self.pattern is not None:
            compiled(self.pattern)
        self.sampling.check()

    def at(self, strength: float) -> tuple[Edit, ...]:
        """The edits with this strength."""
        return (
            *self.others[0],
            replace(self.edits[self.swept], strength=strength),
            *self.others[1],
        )

    @property
    def others(self) -> tuple[tuple[Edit, ...], tuple[Edit, ...]]:
        """The edits that stay as they are, before and behind the one that is swept."""
        return self.edits[: self.swept], self.edits[self.swept + 1 :]


@dataclass(frozen=True)
class _Cell:
    """One text to be made."""

    group: str
    """default, edit, or a kind of controls"""
    number: int
    """Of the control."""
    at: int
    """Of the strength."""
    prompt: int
    seed: int
    edits: tuple[Edit, ...]


def sweep(
    lm: Lm,
    dictionaries: Mapping[str, Dictionary],
    ask: Ask,
    controls: Sequence[Controls] = (),
    *,
    bos: int | None = None,
    judge: Judge | None = None,
    tell: Tell = lambda done, total: None,
    stop: threading.Event | None = None,
    rows: int | None = None,
) -> Outcome:
    """Every text, measured. `rows` at once; by default as many as one forward may hold.

    `tell` hears how many texts are done, of how many; a batch's tokens count on the way. Raises
    Stopped, and InputError for what cannot be run.
    """
    ask.check()
    strengths = tuple(sorted(set(ask.strengths)))
    cells = list(_cells(ask, strengths, controls))
    stop = stop or threading.Event()
    heard: list[tuple[_Cell, Heard]] = []
    for prompt, start in enumerate(ask.prompts):
        mine = [cell for cell in cells if cell.prompt == prompt]
        size = rows or rows_at_once(lm, len(start.tokens), ask.sampling.max_new)
        for begin in range(0, len(mine), size):
            part = mine[begin : begin + size]
            found = _texts(
                lm, dictionaries, ask, start, part, stop, partial(_part, tell, heard, cells)
            )
            done = _measured(lm, dictionaries, ask, start, part, found, bos, judge)
            heard += zip(part, done, strict=True)
            tell(len(heard), len(cells))
    return _outcome(ask, strengths, controls, heard)


def _part(tell: Tell, heard: Sequence[object], cells: Sequence[object], texts: float) -> None:
    tell(len(heard) + int(texts), len(cells))


def rows_at_once(lm: Lm, n_prompt: int, max_new: int) -> int:
    """Texts of one batch: bounded by the work of reading the prompt, and by memory."""
    length = min(n_prompt + max_new, lm.n_ctx)
    weights = sum(p.numel() for p in lm.bare.parameters())
    faster = 100 if lm.placement.device.type == "cuda" else 1
    by_work = WORK * faster / (2 * weights * n_prompt)
    by_memory = HELD / (length * (2 * lm.n_layers * lm.d_model) + lm.d_vocab)
    return max(1, min(MOST_ROWS, int(by_work), int(by_memory)))


def _cells(ask: Ask, strengths: Sequence[float], controls: Sequence[Controls]) -> Iterator[_Cell]:
    """Neighbours share their control, so that a batch compiles few of them."""
    before, behind = ask.others
    for prompt in range(len(ask.prompts)):
        for seed in ask.seeds:
            yield _Cell("default", 0, -1, prompt, seed, (*before, *behind))
        for at, strength in enumerate(strengths):
            for seed in ask.seeds:
                yield _Cell("edit", 0, at, prompt, seed, ask.at(strength))
        for kind in controls:
            for number in range(len(kind.counterparts)):
                for at, strength in enumerate(strengths):
                    edits = (*before, *kind.at(number, strength), *behind)
                    for seed in ask.seeds[: ask.control_seeds]:
                        yield _Cell(kind.kind, number, at, prompt, seed, edits)


def _texts(
    lm: Lm,
    dictionaries: Mapping[str, Dictionary],
    ask: Ask,
    start: Start,
    cells: Sequence[_Cell],
    stop: threading.Event,
    tell: Callable[[float], None],
) -> list[Summary]:
    """`tell` hears how many texts' worth of tokens are there."""
    rows = [Row(str(n), cell.edits, cell.seed) for n, cell in enumerate(cells)]
    extras = Extras(guard=False)
    records = generate(lm, dictionaries, start, rows, ask.sampling, extras, stop=stop)
    found, latest = [], -1
    for record in records:
        if isinstance(record, Token) and record.index > latest:
            latest = record.index
            tell(len(cells) * WRITING * latest / ask.sampling.max_new)
        elif isinstance(record, Summary):
            found.append(record)
    if stop.is_set():
        raise Stopped
    return found


def _measured(
    lm: Lm,
    dictionaries: Mapping[str, Dictionary],
    ask: Ask,
    start: Start,
    cells: Sequence[_Cell],
    found: Sequence[Summary],
    bos: int | None,
    judge: Judge | None,
) -> list[Heard]:
    texts = [one.tokens for one in found]
    features = [feature for feature in (ask.concept, ask.nearest) if feature is not None]
    codes: list[torch.Tensor] = []
    if features:
        with turns_of(lm).turn():
            codes = measures.activations(lm, dictionaries, features, texts, bos)
    rails: list[measures.Rails] = []
    size = _read_at_once(lm, len(start.tokens) + max(map(len, texts)))
    for begin in range(0, len(cells), size):
        part = slice(begin, begin + size)
        edits = [cell.edits for cell in cells[part]]
        with turns_of(lm).turn():
            rails += measures.rails(lm, dictionaries, edits, start.tokens, texts[part], start.roles)
    judged = judge([one.text for one in found]) if judge else None
    return [
        Heard(
            prompt=cell.prompt,
            seed=cell.seed,
            text=one.text,
            tokens=len(one.tokens),
            values={
                **(_read(codes[n], ask) if features else {}),
                **({} if ask.pattern is None else {"match": _match(ask.pattern, one.text)}),
                **({} if judged is None else {"judge": float(judged[n])}),
                **_rails(rails[n], one),
            },
        )
        for n, (cell, one) in enumerate(zip(cells, found, strict=True))
    ]


def _read_at_once(lm: Lm, length: int) -> int:
    """Texts that are read again in one forward, each with its clean twin and whole logits."""
    weights = sum(p.numel() for p in lm.bare.parameters())
    faster = 100 if lm.placement.device.type == "cuda" else 1
    by_work = WORK * faster / (4 * weights * length)
    return max(1, min(32, int(by_work), int(HELD / (6 * length * lm.d_vocab))))


def _read(codes: torch.Tensor, ask: Ask) -> dict[str, float]:
    if not len(codes):
        return {}
    values: dict[str, float] = {}
    if ask.concept is not None:
        own = codes[:, 0]
        values |= {
            "max": float(own.abs().max()),
            "mean": float(own.mean()),
            "rate": float((own != 0).float().mean()),
        }
    if ask.nearest is not None:
        values["nearest"] = float(codes[:, -1].mean())
    return values


def _match(pattern: str, text: str) -> float:
    return float(measures.matches(pattern, text))


def _rails(rails: measures.Rails, one: Summary) -> dict[str, float]:
    values = {"nll": rails.nll, "kl": rails.kl, "shift": rails.shift}
    return values if one.repetition is None else {**values, "repetition": one.repetition}


def _outcome(
    ask: Ask,
    strengths: Sequence[float],
    controls: Sequence[Controls],
    heard: Sequence[tuple[_Cell, Heard]],
) -> Outcome:
    groups: dict[tuple[str, int, int], list[Heard]] = {}
    for cell, one in heard:
        groups.setdefault((cell.group, cell.number, cell.at), []).append(one)

    def dose(group: str, number: int, at: int) -> Dose:
        strength = strengths[at] if at >= 0 else 0.0
        return Dose(strength, tuple(groups[group, number, at]))

    return Outcome(
        default=dose("default", 0, -1),
        doses=tuple(dose("edit", 0, at) for at in range(len(strengths))),
        controls={
            kind.kind: tuple(
                _curve([dose(kind.kind, number, at) for at in range(len(strengths))])
                for number in range(len(kind.counterparts))
            )
            for kind in controls
        },
        neutral=MODES[ask.edits[ask.swept].mode].neutral,
        notes=tuple(note for kind in controls for note in kind.notes),
    )


def _curve(doses: Sequence[Dose]) -> Curve:
    names = dict.fromkeys(name for dose in doses for one in dose.heard for name in one.values)
    return Curve({name: tuple(dose.mean(name) for dose in doses) for name in names})
