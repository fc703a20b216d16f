"""Texts token by token, default and steered side by side in one batch from one seed.

Every row of the batch is one text; behind an edited row may stand its guard, the clean model
reading that row's very text, which is what KL and the clean model's activations are taken from. The
model is held for one token at a time, so that several visitors are served in turn; edits are in
force only while it is held.
"""

import math
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from backend.corpus.chat import TEMPLATE
from backend.dictionaries.base import Dictionary
from backend.generation.prompts import Start
from backend.generation.records import Prompt, Read, Reason, Record, Row, Sampling, Summary, Token
from backend.generation.sampling import Sampler
from backend.generation.turns import turns_of
from backend.generation.voice import Speaker, Voice
from backend.interventions.guards import degeneration, kl, no_effect, repetition
from backend.interventions.once import TOO_STRONG
from backend.interventions.pieces import pieces_of
from backend.interventions.plan import Plan, compile_edits
from backend.interventions.records import Freeze
from backend.interventions.scene import Scene
from backend.lm import Lm
from feature_store.errors import InputError
from feature_store.records import FeatureId

MOST_ROWS = 256


@dataclass(frozen=True)
class Extras:
    """What is measured beside the text."""

    watch: tuple[FeatureId, ...] = ()
    """Features whose activations are read at every token."""
    guard: bool = True
    """A clean twin for each edited row: KL, perplexity, the clean model's activations."""
    freeze: Freeze = field(default_factory=Freeze)
    top: int = 0
    """How many of the likeliest tokens each record brings."""


def generate(
    lm: Lm,
    dictionaries: Mapping[str, Dictionary],
    start: Start,
    rows: Sequence[Row],
    sampling: Sampling,
    extras: Extras | None = None,
    *,
    stop: threading.Event | None = None,
    seconds: float | None = None,
) -> Generator[Record, None, None]:
    """A `Prompt`, then `Token`s row by row as they are drawn, then a `Summary` for each row.

    `stop` is looked at before each token; `seconds` bounds the whole. Leaving the iteration ends
    the computation. InputError, before anything runs, for what cannot be.
    """
    extras = extras or Extras()
    sampling.check()
    _check(rows, extras)
    plan = compile_edits(
        lm,
        dictionaries,
        [row.edits for row in rows],
        watch=extras.watch,
        freeze=extras.freeze,
        guard=extras.guard,
    )
    stream = _Stream(plan, start, rows, sampling, extras)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    return stream.run(stop or threading.Event(), deadline)


def _check(rows: Sequence[Row], extras: Extras) -> None:
    if not rows or len({row.name for row in rows}) < len(rows):
        raise InputError("A generation needs at least one row, each of its own name.")
    n = len(rows) + (sum(bool(row.edits) for row in rows) if extras.guard else 0)
    if n > MOST_ROWS:
        raise InputError(f"{n} texts at once are too many: at most {MOST_ROWS}, guards included.")


class _Stream:
    """One generation; for one thread."""

    def __init__(
        self, plan: Plan, start: Start, rows: Sequence[Row], sampling: Sampling, extras: Extras
    ) -> None:
        lm = plan.lm
        self.plan, self.start, self.rows = plan, start, rows
        self.sampling, self.extras = sampling, extras
        self.scene = Scene(plan, len(start.tokens), start.roles)
        seeds = [sampling.seed if row.seed is None else row.seed for row in rows]
        self.sampler = Sampler(sampling, seeds, start.tokens, lm.n_nameable)
        self.speakers = [Speaker(Voice(lm.tokenizer, start.tokens, sampling.stop)) for _ in rows]
        self.ends = end_ids(lm)
        self.turns = turns_of(lm)
        self.began = time.monotonic()
        self.edited = list(plan.twins)
        self.twins = list(plan.twins.values())

    def run(self, stop: threading.Event, deadline: float) -> Generator[Record, None, None]:
        n = len(self.start.tokens)
        logits, reads = self._forward([self.start.tokens] * len(self.rows))
        yield self._prompt(reads)
        drawn: list[int] = []
        for index in range(self.sampling.max_new):
            drawn, tokens = self._draw(logits, reads, index)
            yield from tokens
            if all(one.reason for one in self.speakers):
                break
            if stop.is_set() or time.monotonic() > deadline:
                self._end("stopped" if stop.is_set() else "time")
                break
            logits, reads = self._forward([[token] for token in drawn])
            self._note_last(reads, index)
        if self.plan.watched and self.scene.start < min(n + self._longest(), self.plan.lm.n_ctx):
            _, reads = self._forward([[token] for token in drawn])
            self._note_last(reads, self._longest() - 1)
        yield from self._summaries()

    def _forward(
        self, tokens: Sequence[Sequence[int]]
    ) -> tuple[Float[Tensor, "row vocab"], list[list[Read]]]:
        """Logits after the last token, and what was measured at each, row by row."""
        with torch.inference_mode():
            with self.turns.turn():
                logits = self.scene.forward(tokens, last=True)[:, -1]
            return logits, self._reads(len(tokens[0]))

    def _reads(self, n: int) -> list[list[Read]]:
        rows = len(self.rows)
        shifts = [[0.0] * n] * rows
        found = list(self.scene.shift.values())
        if found:
            shifts = (found[0] if len(found) == 1 else torch.stack(found).amax(0)).tolist()
        names = self.plan.watched
        if not names:
            return [[Read({}, None, shift) for shift in row] for row in shifts]
        values = self.scene.watched(n).tolist()

        def named(row: int, at: int) -> dict[FeatureId, float]:
            return dict(zip(names, values[row][at], strict=True))

        twins = self.plan.twins
        return [
            [
                Read(named(row, at), named(twins[row], at) if row in twins else None, shift)
                for at, shift in enumerate(shifts[row])
            ]
            for row in range(rows)
        ]

    def _prompt(self, reads: list[list[Read]]) -> Prompt:
        lm, tokens = self.plan.lm, list(self.start.tokens)
        notes = ()
        if len(tokens) + self.sampling.max_new > lm.n_ctx:
            room = lm.n_ctx - len(tokens)
            notes = (f"{lm.name} reads {lm.n_ctx} tokens at most: there is room for {room}.",)
        by_row = {row.name: read for row, read in zip(self.rows, reads, strict=True)}
        template = tuple(role == TEMPLATE for role in self.start.roles)
        return Prompt(tokens, pieces_of(lm.tokenizer, tokens), by_row, notes, template)

    @torch.inference_mode()
    def _draw(
        self, logits: Float[Tensor, "row vocab"], reads: list[list[Read]], index: int
    ) -> tuple[list[int], list[Token]]:
        rows = len(self.rows)
        logprobs = logits.float().log_softmax(-1)
        drawn = self.sampler.draw(logits[:rows])
        chosen = logprobs[:rows].gather(1, drawn[:, None])[:, 0].tolist()
        if not all(map(math.isfinite, chosen)):
            raise InputError(TOO_STRONG)
        divergence: dict[int, float] = {}
        clean: dict[int, float] = {}
        if self.twins:
            kls = kl(logprobs[self.twins], logprobs[self.edited]).tolist()
            divergence = dict(zip(self.edited, kls, strict=True))
            under = logprobs[self.twins].gather(1, drawn[self.edited][:, None])[:, 0].tolist()
            clean = dict(zip(self.edited, under, strict=True))
        tops = self._tops(logprobs) if self.extras.top else [()] * rows
        ids = drawn.tolist()
        room = self.plan.lm.n_ctx - self.scene.start - 1
        given = []
        for row, speaker in enumerate(self.speakers):
            if speaker.reason:
                continue
            own = None if self.rows[row].edits else chosen[row]
            read = reads[row][-1]
            _note(speaker, read, divergence.get(row), clean.get(row, own))
            piece = speaker.say(ids[row], self.sampling, self.ends, room)
            given.append(
                Token(
                    row=self.rows[row].name,
                    index=index,
                    id=ids[row],
                    piece=piece,
                    logprob=chosen[row],
                    kl=divergence.get(row),
                    clean_logprob=clean.get(row, own),
                    read=read,
                    top=tops[row],
                    reason=speaker.reason,
                )
            )
        return ids, given

    def _tops(self, logprobs: Tensor) -> list[tuple[tuple[int, float, float | None], ...]]:
        """Each row's likeliest tokens: (id, probability, its probability by the clean twin)."""
        rows, twins = len(self.rows), self.plan.twins
        nameable = logprobs[:rows, : self.plan.lm.n_nameable]
        best = nameable.topk(min(self.extras.top, nameable.shape[-1]))
        # All rows in one copy to the host; a row without a twin is looked up in itself.
        clean_rows = torch.tensor([twins.get(row, row) for row in range(rows)])
        clean = logprobs[clean_rows.to(logprobs.device)].gather(1, best.indices)
        values = torch.stack([best.values, clean]).exp().tolist()
        found = []
        for row, ids in enumerate(best.indices.tolist()):
            beside = values[1][row] if row in twins else [None] * len(ids)
            found.append(tuple(zip(ids, values[0][row], beside, strict=True)))
        return found

    def _note_last(self, reads: list[list[Read]], index: int) -> None:
        """What was measured at each row's last token."""
        for speaker, read in zip(self.speakers, reads, strict=True):
            if len(speaker.tokens) == index + 1:
                speaker.last = read[-1]

    def _longest(self) -> int:
        return max(len(one.tokens) for one in self.speakers)

    def _end(self, reason: Reason) -> None:
        for speaker in self.speakers:
            if speaker.reason is None:
                speaker.reason = reason
                speaker.voice.rest()

    def _summaries(self) -> Iterator[Summary]:
        perplexities = [_perplexity(one) for one in self.speakers]
        plain = [p for p, row in zip(perplexities, self.rows, strict=True) if not row.edits]
        default = plain[0] if plain else None
        for row, one, perplexity in zip(self.rows, self.speakers, perplexities, strict=True):
            assert one.reason is not None
            notes = [self._limit()] if one.reason == "context" else []
            if row.edits:
                shift = max([*one.shifts, one.last.shift if one.last else 0.0])
                notes += [
                    no_effect(shift, max(one.kls, default=None)),
                    degeneration(one.tokens, perplexity, default),
                ]
            yield Summary(
                row=row.name,
                text=one.voice.text,
                tokens=one.tokens,
                reason=one.reason,
                last=one.last if self.plan.watched else None,
                mean_kl=sum(one.kls) / len(one.kls) if one.kls else None,
                perplexity=perplexity,
                repetition=repetition(one.tokens),
                seconds=time.monotonic() - self.began,
                notes=tuple(note for note in notes if note),
            )

    def _limit(self) -> str:
        return f"The text reached the model's limit of {self.plan.lm.n_ctx} tokens."


def _note(speaker: Speaker, read: Read, divergence: float | None, clean: float | None) -> None:
    speaker.shifts.append(read.shift)
    if divergence is not None:
        speaker.kls.append(divergence)
    if clean is not None:
        speaker.clean_logprobs.append(clean)


def _perplexity(speaker: Speaker) -> float | None:
    """Under the clean model, given the prompt."""
    found = speaker.clean_logprobs
    return math.exp(-sum(found) / len(found)) if found else None


def end_ids(lm: Lm) -> frozenset[int]:
    """The tokens with which the model says that it has finished."""
    config = getattr(lm.bare, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    ids = named if isinstance(named, list) else [named]
    return frozenset(int(one) for one in [*ids, lm.tokenizer.eos_token_id] if isinstance(one, int))
