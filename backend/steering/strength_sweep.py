"""Run a strength sweep: generate texts for strengths × seeds × prompts and their controls in
batches, and measure each.

The noise of a row depends only on its seed and the step, so a text is the same in any batch, and
texts of one seed differ by their edits rather than by chance.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from backend.dictionaries.base import Dictionary
from backend.generation.fair_lock import fair_lock_of
from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import GenerationRow, SamplingSettings, SummaryRecord, TokenRecord
from backend.generation.token_stream import MAX_ROWS, StreamOptions, stream_tokens
from backend.interventions.edit_masks import compile_pattern
from backend.interventions.edit_modes import MODES
from backend.interventions.records import Edit
from backend.model.language_model import LanguageModel
from backend.steering import text_measures
from backend.steering.matched_controls import EditControls
from backend.steering.sweep_results import ControlCurve, MeasuredText, StrengthTexts, SweepOutcome
from feature_store.errors import InputError
from feature_store.records import FeatureId

MAX_STRENGTHS, MAX_SEEDS, MAX_PROMPTS = 40, 200, 100
"""Maximum number of strengths, seeds and prompts of a sweep."""
MAX_MULTIPLICATIONS = 2e11
"""Maximum number of multiplications in one forward pass of a sweep: a few seconds of one core,
during which other visitors wait.
"""
MAX_NUMBERS_HELD = 1 << 28
"""Maximum number of values in a batch's logits, keys and values: 1 GiB in float32."""
GENERATION_SHARE = 0.8
"""Share of a batch's time spent on generating its texts; the rest is spent on measuring them."""
TextJudge = Callable[[Sequence[str]], Sequence[float]]
"""Function that scores a list of texts."""
TextProgress = Callable[[int, int], None]
"""Progress callback of a sweep: called with (texts done, texts in all)."""


class SweepStopped(Exception):
    """Raised when a person stops a strength sweep."""


@dataclass(frozen=True)
class SweepRequest:
    """A request for a strength sweep: edits, strengths, prompts, seeds and what is measured in the
    texts.
    """

    edits: tuple[Edit, ...]
    strengths: tuple[float, ...]
    prompts: tuple[PromptTokens, ...]
    seeds: tuple[int, ...] = tuple(range(8))
    sampling: SamplingSettings = SamplingSettings()
    swept: int = 0
    """Index of the edit that takes the strengths; the other edits keep their own."""
    concept: FeatureId | None = None
    """Feature whose activation is measured in the texts by the clean model."""
    nearest: FeatureId | None = None
    pattern: str | None = None
    control_seeds: int | None = None
    """Number of seeds for the controls; all by default."""

    def check(self) -> None:
        """Raise InputError if the sweep request cannot be run."""
        if not 0 <= self.swept < len(self.edits):
            raise InputError("There is no edit whose strength can be swept: add one.")
        if not self.strengths or not self.seeds or not self.prompts:
            raise InputError("A sweep needs at least one strength, one seed and one prompt.")
        if not all(map(math.isfinite, self.strengths)):
            raise InputError("A strength of the sweep is not a finite number.")
        for what, n, most in (
            ("strengths", len(set(self.strengths)), MAX_STRENGTHS),
            ("seeds", len(self.seeds), MAX_SEEDS),
            ("prompts", len(self.prompts), MAX_PROMPTS),
        ):
            if n > most:
                raise InputError(f"{n} {what} are too many: a sweep takes at most {most}.")
        if self.pattern is not None:
            compile_pattern(self.pattern)
        self.sampling.check()

    def edits_at(self, strength: float) -> tuple[Edit, ...]:
        """Return all edits of the sweep, with the swept one at the given strength."""
        return (
            *self.other_edits[0],
            replace(self.edits[self.swept], strength=strength),
            *self.other_edits[1],
        )

    @property
    def other_edits(self) -> tuple[tuple[Edit, ...], tuple[Edit, ...]]:
        """The sweep's edits that keep their own strength: those before and those after the swept
        one.
        """
        return self.edits[: self.swept], self.edits[self.swept + 1 :]


@dataclass(frozen=True)
class _SweepCell:
    """One text that a sweep generates: a prompt and a seed, under the edit or one of its controls
    at one strength.
    """

    group: str
    """"default", "edit", or the kind of a control."""
    number: int
    """Index of the control."""
    at: int
    """Index of the strength."""
    prompt: int
    seed: int
    edits: tuple[Edit, ...]


def run_sweep(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    request: SweepRequest,
    controls: Sequence[EditControls] = (),
    *,
    bos: int | None = None,
    judge: TextJudge | None = None,
    tell: TextProgress = lambda done, total: None,
    stop: threading.Event | None = None,
    rows: int | None = None,
) -> SweepOutcome:
    """Run a strength sweep: generate and measure every text and return the result.

    `rows` is the number of texts in a batch, by default as many as one forward pass may hold.
    `tell` is called with (texts done, texts in all), including fractions of a batch. Raises
    SweepStopped, and InputError for an invalid request.
    """
    request.check()
    strengths = tuple(sorted(set(request.strengths)))
    cells = list(_list_cells(request, strengths, controls))
    stop = stop or threading.Event()
    measured: list[tuple[_SweepCell, MeasuredText]] = []
    for prompt, start in enumerate(request.prompts):
        mine = [cell for cell in cells if cell.prompt == prompt]
        size = rows or max_rows_per_batch(lm, len(start.tokens), request.sampling.max_new)
        for begin in range(0, len(mine), size):
            part = mine[begin : begin + size]
            found = _generate_texts(
                lm,
                dictionaries,
                request,
                start,
                part,
                stop,
                partial(_report_progress, tell, measured, cells),
            )
            done = _measure_texts(lm, dictionaries, request, start, part, found, bos, judge)
            measured += zip(part, done, strict=True)
            tell(len(measured), len(cells))
    return _assemble_outcome(request, strengths, controls, measured)


def _report_progress(
    tell: TextProgress, measured: Sequence[object], cells: Sequence[object], texts: float
) -> None:
    tell(len(measured) + int(texts), len(cells))


def max_rows_per_batch(lm: LanguageModel, n_prompt: int, max_new: int) -> int:
    """Return the number of a sweep's texts in one batch, limited by the work of reading the prompt
    and by memory.
    """
    length = min(n_prompt + max_new, lm.n_ctx)
    weights = sum(p.numel() for p in lm.bare.parameters())
    faster = 100 if lm.placement.device.type == "cuda" else 1
    by_work = MAX_MULTIPLICATIONS * faster / (2 * weights * n_prompt)
    by_memory = MAX_NUMBERS_HELD / (length * (2 * lm.n_layers * lm.d_model) + lm.d_vocab)
    return max(1, min(MAX_ROWS, int(by_work), int(by_memory)))


def _list_cells(
    request: SweepRequest, strengths: Sequence[float], controls: Sequence[EditControls]
) -> Iterator[_SweepCell]:
    """Yield a description of every text that a sweep generates. Neighbours share their control, so
    that a batch compiles few of them.
    """
    before, after = request.other_edits
    for prompt in range(len(request.prompts)):
        for seed in request.seeds:
            yield _SweepCell("default", 0, -1, prompt, seed, (*before, *after))
        for at, strength in enumerate(strengths):
            for seed in request.seeds:
                yield _SweepCell("edit", 0, at, prompt, seed, request.edits_at(strength))
        for kind in controls:
            for number in range(len(kind.counterparts)):
                for at, strength in enumerate(strengths):
                    edits = (*before, *kind.edits_at(number, strength), *after)
                    for seed in request.seeds[: request.control_seeds]:
                        yield _SweepCell(kind.kind, number, at, prompt, seed, edits)


def _generate_texts(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    request: SweepRequest,
    start: PromptTokens,
    cells: Sequence[_SweepCell],
    stop: threading.Event,
    tell: Callable[[float], None],
) -> list[SummaryRecord]:
    """Generate a batch of a sweep's texts; `tell` is called with the equivalent number of finished
    texts.
    """
    rows = [GenerationRow(str(n), cell.edits, cell.seed) for n, cell in enumerate(cells)]
    extras = StreamOptions(guard=False)
    records = stream_tokens(lm, dictionaries, start, rows, request.sampling, extras, stop=stop)
    found, latest = [], -1
    for record in records:
        if isinstance(record, TokenRecord) and record.index > latest:
            latest = record.index
            tell(len(cells) * GENERATION_SHARE * latest / request.sampling.max_new)
        elif isinstance(record, SummaryRecord):
            found.append(record)
    if stop.is_set():
        raise SweepStopped
    return found


def _measure_texts(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    request: SweepRequest,
    start: PromptTokens,
    cells: Sequence[_SweepCell],
    found: Sequence[SummaryRecord],
    bos: int | None,
    judge: TextJudge | None,
) -> list[MeasuredText]:
    texts = [one.tokens for one in found]
    features = [feature for feature in (request.concept, request.nearest) if feature is not None]
    codes: list[torch.Tensor] = []
    if features:
        with fair_lock_of(lm).turn():
            codes = text_measures.read_text_activations(lm, dictionaries, features, texts, bos)
    rails: list[text_measures.GuardMeasures] = []
    size = _max_rows_read(lm, len(start.tokens) + max(map(len, texts)))
    for begin in range(0, len(cells), size):
        part = slice(begin, begin + size)
        edits = [cell.edits for cell in cells[part]]
        with fair_lock_of(lm).turn():
            rails += text_measures.measure_guards(
                lm, dictionaries, edits, start.tokens, texts[part], start.roles
            )
    judged = judge([one.text for one in found]) if judge else None
    return [
        MeasuredText(
            prompt=cell.prompt,
            seed=cell.seed,
            text=one.text,
            tokens=len(one.tokens),
            values={
                **(_feature_measures(codes[n], request) if features else {}),
                **(
                    {}
                    if request.pattern is None
                    else {"match": _pattern_measure(request.pattern, one.text)}
                ),
                **({} if judged is None else {"judge": float(judged[n])}),
                **_guard_measures(rails[n], one),
            },
        )
        for n, (cell, one) in enumerate(zip(cells, found, strict=True))
    ]


def _max_rows_read(lm: LanguageModel, length: int) -> int:
    """Return the number of a sweep's texts measured in one forward pass, each with its clean twin
    and all logits.
    """
    weights = sum(p.numel() for p in lm.bare.parameters())
    faster = 100 if lm.placement.device.type == "cuda" else 1
    by_work = MAX_MULTIPLICATIONS * faster / (4 * weights * length)
    return max(1, min(32, int(by_work), int(MAX_NUMBERS_HELD / (6 * length * lm.d_vocab))))


def _feature_measures(codes: torch.Tensor, request: SweepRequest) -> dict[str, float]:
    if not len(codes):
        return {}
    values: dict[str, float] = {}
    if request.concept is not None:
        own = codes[:, 0]
        values |= {
            "max": float(own.abs().max()),
            "mean": float(own.mean()),
            "rate": float((own != 0).float().mean()),
        }
    if request.nearest is not None:
        values["nearest"] = float(codes[:, -1].mean())
    return values


def _pattern_measure(pattern: str, text: str) -> float:
    return float(text_measures.pattern_matches(pattern, text))


def _guard_measures(rails: text_measures.GuardMeasures, one: SummaryRecord) -> dict[str, float]:
    values = {"nll": rails.nll, "kl": rails.kl, "shift": rails.shift}
    return values if one.repetition is None else {**values, "repetition": one.repetition}


def _assemble_outcome(
    request: SweepRequest,
    strengths: Sequence[float],
    controls: Sequence[EditControls],
    measured: Sequence[tuple[_SweepCell, MeasuredText]],
) -> SweepOutcome:
    groups: dict[tuple[str, int, int], list[MeasuredText]] = {}
    for cell, one in measured:
        groups.setdefault((cell.group, cell.number, cell.at), []).append(one)

    def dose(group: str, number: int, at: int) -> StrengthTexts:
        strength = strengths[at] if at >= 0 else 0.0
        return StrengthTexts(strength, tuple(groups[group, number, at]))

    return SweepOutcome(
        default=dose("default", 0, -1),
        doses=tuple(dose("edit", 0, at) for at in range(len(strengths))),
        controls={
            kind.kind: tuple(
                _mean_curve([dose(kind.kind, number, at) for at in range(len(strengths))])
                for number in range(len(kind.counterparts))
            )
            for kind in controls
        },
        neutral=MODES[request.edits[request.swept].mode].neutral,
        notes=tuple(note for kind in controls for note in kind.notes),
    )


def _mean_curve(doses: Sequence[StrengthTexts]) -> ControlCurve:
    names = dict.fromkeys(name for dose in doses for one in dose.heard for name in one.values)
    return ControlCurve({name: tuple(dose.mean(name) for dose in doses) for name in names})
