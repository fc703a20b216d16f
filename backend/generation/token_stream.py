"""The token stream: generate default and steered texts token by token, side by side in one batch
from one seed.

Each row of the batch is one text. An edited row can have a guard, a row in which the clean model
reads the edited row's text, from which KL and clean activations are computed. The model is locked
for one token at a time, so that several visitors are served in turn; edits are active only while it
is locked.
"""

import math
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from backend.corpus.chat_template import TEMPLATE_ROLE
from backend.dictionaries.base import Dictionary
from backend.generation.fair_lock import fair_lock_of
from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import (
    EndReason,
    GenerationRecord,
    GenerationRow,
    PositionReading,
    PromptRecord,
    SamplingSettings,
    SummaryRecord,
    TokenRecord,
)
from backend.generation.row_text import RowDecoder, RowState
from backend.generation.sampling import TokenSampler
from backend.interventions.edit_plan import EditPlan, compile_edits
from backend.interventions.edited_forward import EditedForward
from backend.interventions.edited_logits import TOO_STRONG
from backend.interventions.records import FrozenLayers
from backend.interventions.side_effects import (
    describe_degeneration,
    describe_no_effect,
    next_token_kl,
    trigram_repetition,
)
from backend.interventions.token_text import decode_token_texts
from backend.model.language_model import LanguageModel
from feature_store.errors import InputError
from feature_store.records import FeatureId

MAX_ROWS = 256
"""Maximum number of rows in one batch of the token stream, guards included."""


@dataclass(frozen=True)
class StreamOptions:
    """Options of a token stream: what is measured in addition to the generated text."""

    watch: tuple[FeatureId, ...] = ()
    """Features whose activations are read at every token."""
    guard: bool = True
    """Whether each edited row gets a clean twin, for KL, perplexity and the clean model's
    activations.
    """
    freeze: FrozenLayers = field(default_factory=FrozenLayers)
    top: int = 0
    """Number of most likely tokens in each token record."""


def stream_tokens(
    lm: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    start: PromptTokens,
    rows: Sequence[GenerationRow],
    sampling: SamplingSettings,
    extras: StreamOptions | None = None,
    *,
    stop: threading.Event | None = None,
    seconds: float | None = None,
) -> Generator[GenerationRecord, None, None]:
    """Generate texts and yield a PromptRecord, then TokenRecords row by row as they are sampled,
    then a SummaryRecord for each row.

    `stop` is checked before each token; `seconds` limits the total time. Closing the generator ends
    the computation. Raises InputError for invalid requests before anything is computed.
    """
    extras = extras or StreamOptions()
    sampling.check()
    _check_rows(rows, extras)
    plan = compile_edits(
        lm,
        dictionaries,
        [row.edits for row in rows],
        watch=extras.watch,
        freeze=extras.freeze,
        guard=extras.guard,
    )
    stream = _TokenStream(plan, start, rows, sampling, extras)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    return stream.run(stop or threading.Event(), deadline)


def _check_rows(rows: Sequence[GenerationRow], extras: StreamOptions) -> None:
    if not rows or len({row.name for row in rows}) < len(rows):
        raise InputError("A generation needs at least one row, and every row a different name.")
    n = len(rows) + (sum(bool(row.edits) for row in rows) if extras.guard else 0)
    if n > MAX_ROWS:
        raise InputError(
            f"{n} texts are too many: at most {MAX_ROWS} in one batch, guards included."
        )


class _TokenStream:
    """State of one token stream: the batch with its edited forward pass, the rows (texts) being
    generated, and their measurements; used by one thread.
    """

    def __init__(
        self,
        plan: EditPlan,
        start: PromptTokens,
        rows: Sequence[GenerationRow],
        sampling: SamplingSettings,
        extras: StreamOptions,
    ) -> None:
        lm = plan.lm
        self.plan, self.start, self.rows = plan, start, rows
        self.sampling, self.extras = sampling, extras
        self.edited_forward = EditedForward(plan, len(start.tokens), start.roles)
        seeds = [sampling.seed if row.seed is None else row.seed for row in rows]
        self.sampler = TokenSampler(sampling, seeds, start.tokens, lm.n_nameable)
        self.row_states = [
            RowState(RowDecoder(lm.tokenizer, start.tokens, sampling.stop)) for _ in rows
        ]
        self.ends = end_token_ids(lm)
        self.fair_lock = fair_lock_of(lm)
        self.began = time.monotonic()
        self.edited = list(plan.twins)
        self.twins = list(plan.twins.values())

    def run(
        self, stop: threading.Event, deadline: float
    ) -> Generator[GenerationRecord, None, None]:
        n = len(self.start.tokens)
        logits, reads = self._forward([self.start.tokens] * len(self.rows))
        yield self._prompt(reads)
        drawn: list[int] = []
        for index in range(self.sampling.max_new):
            drawn, tokens = self._draw(logits, reads, index)
            yield from tokens
            if all(one.reason for one in self.row_states):
                break
            if stop.is_set() or time.monotonic() > deadline:
                self._end("stopped" if stop.is_set() else "time")
                break
            logits, reads = self._forward([[token] for token in drawn])
            self._note_last(reads, index)
        if self.plan.watched and self.edited_forward.start < min(
            n + self._longest(), self.plan.lm.n_ctx
        ):
            _, reads = self._forward([[token] for token in drawn])
            self._note_last(reads, self._longest() - 1)
        yield from self._summaries()

    def _forward(
        self, tokens: Sequence[Sequence[int]]
    ) -> tuple[Float[Tensor, "row vocab"], list[list[PositionReading]]]:
        """Run the edited model on the next tokens of all rows; return the logits after the last
        token [row, vocab], and the measurements at each token, by row.
        """
        with torch.inference_mode():
            with self.fair_lock.turn():
                logits = self.edited_forward.forward(tokens, last=True)[:, -1]
            return logits, self._reads(len(tokens[0]))

    def _reads(self, n: int) -> list[list[PositionReading]]:
        rows = len(self.rows)
        shifts = [[0.0] * n] * rows
        found = list(self.edited_forward.shift.values())
        if found:
            shifts = (found[0] if len(found) == 1 else torch.stack(found).amax(0)).tolist()
        names = self.plan.watched
        if not names:
            return [[PositionReading({}, None, shift) for shift in row] for row in shifts]
        values = self.edited_forward.watched(n).tolist()

        def named(row: int, at: int) -> dict[FeatureId, float]:
            return dict(zip(names, values[row][at], strict=True))

        twins = self.plan.twins
        return [
            [
                PositionReading(
                    named(row, at), named(twins[row], at) if row in twins else None, shift
                )
                for at, shift in enumerate(shifts[row])
            ]
            for row in range(rows)
        ]

    def _prompt(self, reads: list[list[PositionReading]]) -> PromptRecord:
        lm, tokens = self.plan.lm, list(self.start.tokens)
        notes = ()
        if len(tokens) + self.sampling.max_new > lm.n_ctx:
            room = lm.n_ctx - len(tokens)
            notes = (f"{lm.name} reads {lm.n_ctx} tokens at most: there is room for {room}.",)
        by_row = {row.name: read for row, read in zip(self.rows, reads, strict=True)}
        template = tuple(role == TEMPLATE_ROLE for role in self.start.roles)
        return PromptRecord(
            tokens, decode_token_texts(lm.tokenizer, tokens), by_row, notes, template
        )

    @torch.inference_mode()
    def _draw(
        self, logits: Float[Tensor, "row vocab"], reads: list[list[PositionReading]], index: int
    ) -> tuple[list[int], list[TokenRecord]]:
        rows = len(self.rows)
        logprobs = logits.float().log_softmax(-1)
        drawn = self.sampler.draw(logits[:rows])
        chosen = logprobs[:rows].gather(1, drawn[:, None])[:, 0].tolist()
        if not all(map(math.isfinite, chosen)):
            raise InputError(TOO_STRONG)
        divergence: dict[int, float] = {}
        clean: dict[int, float] = {}
        if self.twins:
            kls = next_token_kl(logprobs[self.twins], logprobs[self.edited]).tolist()
            divergence = dict(zip(self.edited, kls, strict=True))
            under = logprobs[self.twins].gather(1, drawn[self.edited][:, None])[:, 0].tolist()
            clean = dict(zip(self.edited, under, strict=True))
        tops = self._tops(logprobs) if self.extras.top else [()] * rows
        ids = drawn.tolist()
        room = self.plan.lm.n_ctx - self.edited_forward.start - 1
        given = []
        for row, state in enumerate(self.row_states):
            if state.reason:
                continue
            own = None if self.rows[row].edits else chosen[row]
            read = reads[row][-1]
            _record_measurements(state, read, divergence.get(row), clean.get(row, own))
            piece = state.append_token(ids[row], self.sampling, self.ends, room)
            given.append(
                TokenRecord(
                    row=self.rows[row].name,
                    index=index,
                    id=ids[row],
                    piece=piece,
                    logprob=chosen[row],
                    kl=divergence.get(row),
                    clean_logprob=clean.get(row, own),
                    read=read,
                    top=tops[row],
                    reason=state.reason,
                )
            )
        return ids, given

    def _tops(self, logprobs: Tensor) -> list[tuple[tuple[int, float, float | None], ...]]:
        """Return each row's most likely next tokens as (token id, probability, probability in the
        clean model on the same text, or None).
        """
        rows, twins = len(self.rows), self.plan.twins
        nameable = logprobs[:rows, : self.plan.lm.n_nameable]
        best = nameable.topk(min(self.extras.top, nameable.shape[-1]))
        # All rows in one copy to the host; a row without a twin is looked up in itself.
        clean_rows = torch.tensor([twins.get(row, row) for row in range(rows)])
        clean = logprobs[clean_rows.to(logprobs.device)].gather(1, best.indices)
        values = torch.stack([best.values, clean]).exp().tolist()
        found = []
        for row, ids in enumerate(best.indices.tolist()):
            twin_values = values[1][row] if row in twins else [None] * len(ids)
            found.append(tuple(zip(ids, values[0][row], twin_values, strict=True)))
        return found

    def _note_last(self, reads: list[list[PositionReading]], index: int) -> None:
        """Store, for each row whose newest token has just been read by the model, the measurements
        at that token.
        """
        for state, read in zip(self.row_states, reads, strict=True):
            if len(state.tokens) == index + 1:
                state.last = read[-1]

    def _longest(self) -> int:
        return max(len(one.tokens) for one in self.row_states)

    def _end(self, reason: EndReason) -> None:
        for state in self.row_states:
            if state.reason is None:
                state.reason = reason
                state.decoder.flush()

    def _summaries(self) -> Iterator[SummaryRecord]:
        perplexities = [_clean_perplexity(one) for one in self.row_states]
        plain = [p for p, row in zip(perplexities, self.rows, strict=True) if not row.edits]
        default = plain[0] if plain else None
        for row, one, perplexity in zip(self.rows, self.row_states, perplexities, strict=True):
            assert one.reason is not None
            notes = [self._limit()] if one.reason == "context" else []
            if row.edits:
                shift = max([*one.shifts, one.last.shift if one.last else 0.0])
                notes += [
                    describe_no_effect(shift, max(one.kls, default=None)),
                    describe_degeneration(one.tokens, perplexity, default),
                ]
            yield SummaryRecord(
                row=row.name,
                text=one.decoder.text,
                tokens=one.tokens,
                reason=one.reason,
                last=one.last if self.plan.watched else None,
                mean_kl=sum(one.kls) / len(one.kls) if one.kls else None,
                perplexity=perplexity,
                repetition=trigram_repetition(one.tokens),
                seconds=time.monotonic() - self.began,
                notes=tuple(note for note in notes if note),
            )

    def _limit(self) -> str:
        return f"The text reached the model's limit of {self.plan.lm.n_ctx} tokens."


def _record_measurements(
    state: RowState, read: PositionReading, divergence: float | None, clean: float | None
) -> None:
    state.shifts.append(read.shift)
    if divergence is not None:
        state.kls.append(divergence)
    if clean is not None:
        state.clean_logprobs.append(clean)


def _clean_perplexity(state: RowState) -> float | None:
    """Return the perplexity of a row's streamed tokens under the clean model given the prompt."""
    found = state.clean_logprobs
    return math.exp(-sum(found) / len(found)) if found else None


def end_token_ids(lm: LanguageModel) -> frozenset[int]:
    """Return the token ids with which the model ends a text."""
    config = getattr(lm.bare, "generation_config", None)
    named = getattr(config, "eos_token_id", None)
    ids = named if isinstance(named, list) else [named]
    return frozenset(int(one) for one in [*ids, lm.tokenizer.eos_token_id] if isinstance(one, int))
