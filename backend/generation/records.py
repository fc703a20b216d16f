"""What a generation is asked, and what it gives back at each token: plain data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from backend.interventions.records import Edit
from feature_store.errors import InputError
from feature_store.records import FeatureId

EndReason = Literal["length", "end", "stop", "context", "stopped", "time"]
"""Why a text ended: as many tokens as asked; the model's own end; a stop string; the model's
limit; stopped by a person; out of time."""


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are drawn; the order of the steps is that of transformers."""

    max_new: int = 64
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all."""
    repetition_penalty: float = 1.0
    """1 does nothing; logits of tokens seen are divided by it (multiplied where negative)."""
    stop: tuple[str, ...] = ()
    """The text ends before any of these."""
    seed: int = 0

    def check(self) -> None:
        """InputError for what cannot be."""
        if self.max_new < 1:
            raise InputError(f"{self.max_new} new tokens: ask for at least one.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"The temperature is {self.temperature}: write 0 or more.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}: write a number above 0, up to 1.")
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}: write 0 for all tokens, or how many.")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise InputError(
                f"The repetition penalty is {self.repetition_penalty}: 1 does nothing."
            )
        if any(not one for one in self.stop):
            raise InputError("A stop string is empty: leave it out.")


@dataclass(frozen=True)
class GenerationRow:
    """One text of a batch: `default` without edits, `steered` with some."""

    name: str
    edits: tuple[Edit, ...] = ()
    seed: int | None = None
    """Its own; the sampling's by default, so that rows differ by their edits alone."""


@dataclass(frozen=True)
class PositionReading:
    """What was measured at one position that a row's model read."""

    watched: Mapping[FeatureId, float]
    """Activations in this row's stream, before any edit at their own hook point."""
    clean: Mapping[FeatureId, float] | None
    """Activations in the clean model reading the same text; None for a row without a guard."""
    shift: float
    """‖Δh‖/‖h‖, the largest over the hook points edited; 0 where nothing was."""


@dataclass(frozen=True)
class PromptRecord:
    """The first record: the prompt as it was read. Lists run over its tokens."""

    tokens: list[int]
    pieces: list[str]
    read: Mapping[str, list[PositionReading]]
    """By row."""
    notes: tuple[str, ...] = ()
    template: tuple[bool, ...] = ()
    """Of a chat: whether the template wrote the token itself."""


@dataclass(frozen=True)
class TokenRecord:
    """One token of one row, as soon as it is drawn."""

    row: str
    index: int
    """0 the first that was generated."""
    id: int
    piece: str
    """The text that it completes: empty while a character, or what may become a stop string, is
    unfinished."""
    logprob: float
    """Of this token under this row's model, before temperature and penalties; nats."""
    kl: float | None
    """KL(clean ‖ this row) of the distribution that it was drawn from, both given this row's text;
    nats. None without a guard."""
    clean_logprob: float | None
    """Of this token under the clean model reading this row's text."""
    read: PositionReading
    """At the position that it was drawn from: the token before it."""
    top: tuple[tuple[int, float, float | None], ...] = ()
    """(token, probability, the clean model's probability): the likeliest, where asked for."""
    reason: EndReason | None = None
    """Set on a row's last token."""


@dataclass(frozen=True)
class SummaryRecord:
    """The last record for each row."""

    row: str
    text: str
    tokens: list[int]
    reason: EndReason
    last: PositionReading | None
    """At the last token, where features are watched and the context has room for it."""
    mean_kl: float | None
    """Over its tokens, nats; None without a guard."""
    perplexity: float | None
    """Of the text under the clean model given the prompt; None without a guard, unless the row has
    no edits."""
    repetition: float | None
    """Share of the last 60 tokens' trigrams that are there already; None below 20 tokens."""
    seconds: float
    notes: tuple[str, ...] = ()
    """Warnings, and the model's limit where it was reached."""


GenerationRecord = PromptRecord | TokenRecord | SummaryRecord
