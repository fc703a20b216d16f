"""Records of text generation: sampling settings, the rows of a batch, and what the token stream
yields for the prompt, each token and each finished text.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from backend.interventions.records import Edit
from feature_store.errors import InputError
from feature_store.records import FeatureId

EndReason = Literal["length", "end", "stop", "context", "stopped", "time"]
"""Why a text ended: number of tokens reached, the model's end token, a stop string, the model's
context limit, stopped by a person, or out of time.
"""


@dataclass(frozen=True)
class SamplingSettings:
    """Record of the settings for sampling tokens (temperature, top-p, top-k, …); the order of the
    steps is that of transformers.
    """

    max_new: int = 64
    """Maximum number of new tokens."""
    temperature: float = 1.0
    """Sampling temperature; 0 takes the most likely token."""
    top_p: float = 1.0
    top_k: int = 0
    """Number of most likely tokens to sample from; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Repetition penalty: logits of tokens already seen are divided by it (multiplied where
    negative); 1 has no effect.
    """
    stop: tuple[str, ...] = ()
    """Stop strings: the text ends before any of these."""
    seed: int = 0

    def check(self) -> None:
        """Raise InputError if the recorded sampling settings are invalid."""
        if self.max_new < 1:
            raise InputError(f"{self.max_new} new tokens: ask for at least one.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"The temperature is {self.temperature}: write 0 or more.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}: write a number above 0, up to 1.")
        if self.top_k < 0:
            raise InputError(
                f"top_k is {self.top_k}: write 0 for all tokens, or a number of tokens."
            )
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise InputError(
                f"The repetition penalty is {self.repetition_penalty}: write a number above 0; "
                "1 has no effect."
            )
        if any(not one for one in self.stop):
            raise InputError("A stop string is empty: leave it out.")


@dataclass(frozen=True)
class GenerationRow:
    """Record of one text to generate in a batch: `default` without edits, `steered` with edits."""

    name: str
    edits: tuple[Edit, ...] = ()
    seed: int | None = None
    """Random seed of this row. By default the sampling's seed, so that rows differ by their edits
    alone.
    """


@dataclass(frozen=True)
class PositionReading:
    """Record of what is measured at one token position of one generated row: activations of the
    watched features, and the relative size of the edits.
    """

    watched: Mapping[FeatureId, float]
    """Activations of watched features in this row's stream, before any edit at their own hook
    point.
    """
    clean: Mapping[FeatureId, float] | None
    """Activations of watched features in the clean model reading the same text; None for a row
    without a guard.
    """
    shift: float
    """Relative size of the edit, ‖Δh‖/‖h‖, the maximum over edited hook points; 0 if nothing was
    edited.
    """


@dataclass(frozen=True)
class PromptRecord:
    """First record of a token stream: the prompt's tokens, their texts and the measurements at each
    of them. Lists run over the tokens.
    """

    tokens: list[int]
    pieces: list[str]
    read: Mapping[str, list[PositionReading]]
    """Measurements at each token of the prompt, by row name."""
    notes: tuple[str, ...] = ()
    template: tuple[bool, ...] = ()
    """For a chat: whether the chat template added the token itself."""


@dataclass(frozen=True)
class TokenRecord:
    """Record of one generated token of one row (one of the texts of a token stream), yielded as
    soon as it is sampled.
    """

    row: str
    index: int
    """Index among the generated tokens, from 0."""
    id: int
    piece: str
    """The text that the token completes; empty while a character or a possible stop string is
    incomplete.
    """
    logprob: float
    """Log probability of this token in nats under this row's model, before temperature and
    penalties.
    """
    kl: float | None
    """KL(clean ‖ this row) in nats of the distribution that the token was sampled from, both given
    this row's text; None without a guard.
    """
    clean_logprob: float | None
    """Log probability of this token under the clean model given this row's text."""
    read: PositionReading
    """Measurements at the position before this token, from which it was sampled."""
    top: tuple[tuple[int, float, float | None], ...] = ()
    """The most likely tokens as (token id, probability, probability in the clean model), if
    requested.
    """
    reason: EndReason | None = None
    """Why the text ended; set on a row's last token only."""


@dataclass(frozen=True)
class SummaryRecord:
    """Last record of each row of a token stream: the whole text and its mean measurements."""

    row: str
    text: str
    tokens: list[int]
    reason: EndReason
    last: PositionReading | None
    """Measurements at the last token, if features are watched and the context has room for it."""
    mean_kl: float | None
    """Mean KL(clean ‖ this row) over the text's tokens in nats; None without a guard."""
    perplexity: float | None
    """Perplexity of the text under the clean model given the prompt; None without a guard, unless
    the row has no edits.
    """
    repetition: float | None
    """Share of the trigrams of the last 60 tokens that are repeats; None below 20 tokens."""
    seconds: float
    notes: tuple[str, ...] = ()
    """Warnings, such as that the model's context limit was reached."""


GenerationRecord = PromptRecord | TokenRecord | SummaryRecord
