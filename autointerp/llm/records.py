"""What is asked of a language model, and what comes of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol, get_args

from autointerp.llm.context_size_refusal import ContextSizeRefusal
from autointerp.llm.failure_kinds import FAILURE_KINDS, FailureKindName
from autointerp.llm.reply_parser import ReplyForm
from feature_store.storable_text import replace_lone_surrogates
from feature_store.strict_json import dump_json

JOB_STOPPING_KINDS: frozenset[FailureKindName] = frozenset(
    kind for kind in get_args(FailureKindName) if FAILURE_KINDS[kind].stops_job
)
"""What every further call would meet, too: a job stops at the first of these."""


class ChatMessage(NamedTuple):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """One question. Equal requests have equal keys, and are asked once.

    An asker fills in its own base URL, and its model where there is none, so whoever writes a
    prompt need not know who answers it.
    """

    messages: tuple[ChatMessage, ...]
    model: str = ""
    temperature: float = 0.0
    max_tokens: int = 256
    """Of the reply."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the reply. Sent where the server offers it and checked here always, so the
    prompt has to describe the form in words, too. None: the reply is any text."""
    logprobs: int = 0
    """For how many candidates per token of the reply log probabilities are wanted; 0 for none."""
    purpose: str = ""
    """In words, for the log: `explain`, `detection`. Not part of what is asked."""
    draw: int = 0
    """Which of several replies to the same question; with `temperature` above 0."""
    penalty: float = 0.0
    """Of tokens for each time that the reply has them already, so that it does not run in circles;
    OpenAI's `frequency_penalty`."""
    base_url: str = ""

    @cached_property
    def key(self) -> str:
        """sha256 of all that decides the reply, as hex: base URL, model, messages, settings."""
        asked = {
            "base_url": self.base_url,
            "model": self.model,
            "messages": self.messages,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "schema": self.schema,
            "logprobs": self.logprobs,
            "draw": self.draw,
        }
        if self.penalty:  # keys of requests without one are as they always were
            asked["penalty"] = self.penalty
        plain = dump_json(asked, sort_keys=True, compact=True, ascii_only=True)
        return hashlib.sha256(plain.encode()).hexdigest()

    def to(self, base_url: str, model: str) -> "ChatRequest":
        """The request addressed to a server, and to a model where it names none."""
        return replace(self, base_url=base_url, model=self.model or model)

    @property
    def n_bytes(self) -> int:
        """Bytes of its messages in UTF-8."""
        return sum(len(replace_lone_surrogates(m.content).encode()) for m in self.messages)

    @property
    def longest(self) -> int:
        """No fewer tokens than its messages have: a token is at least one byte."""
        return self.n_bytes + MAX_TEMPLATE_TOKENS * len(self.messages) + MAX_SCHEMA_TOKENS


MAX_TEMPLATE_TOKENS = 16
"""More than any chat template spends on a turn."""
MAX_SCHEMA_TOKENS = 500
"""More than the schemas of this package take, where a server counts them."""


class TokenLogprob(NamedTuple):
    """One token of a reply."""

    token: str
    logprob: float
    """Natural logarithm."""
    top: tuple[tuple[str, float], ...]
    """The likeliest candidates at this place and their log probabilities."""


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    parsed: Any = None
    """The JSON that `text` holds and the request's schema allows; None without a schema."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """None where the server gives none: probabilities are unknown then, not 0 or 1."""
    tokens_in: int | None = None
    """As the server counted; None where it does not say."""
    tokens_out: int | None = None
    cost: float | None = None
    """US dollars; None where tokens or prices are unknown. A cached reply has its old cost."""
    latency_s: float | None = None
    """Of the attempt that was answered."""
    cached: bool = False
    """Whether it was taken from a record: nobody was asked, nothing was paid."""
    form: ReplyForm | None = None
    """How `parsed` was found in the text; None without a schema."""
    key: str = ""
    """Of the request that was answered: another than was asked, where that was put once more."""


@dataclass(frozen=True)
class RequestFailure:
    """Why there is no usable answer. It is never a number."""

    kind: FailureKindName
    sentence: str
    """What went wrong and what would help, for the user; holds no secret."""
    cached: bool = False
    formless: bool = False
    """Whether a reply came without the JSON asked for: the server keeps to no schema."""

    @property
    def hopeless(self) -> bool:
        """Whether further calls would fail alike."""
        return self.kind in JOB_STOPPING_KINDS


@dataclass(frozen=True)
class AttemptResult:
    """All that is known of one attempt: what comes of it, and what is recorded."""

    result: Reply | RequestFailure
    text: str | None = None
    """What the server said; None where no whole reply came."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    latency_s: float | None = None
    free: bool = True
    """Without a reply: whether it is certain that the attempt cost nothing."""
    again: bool = False
    """Whether another attempt may fare better."""
    wait_s: float = 0.0
    """How long the server asks to wait before that."""
    context: ContextSizeRefusal | None = None
    """What a server said that refused the question as too long."""


class Asker(Protocol):
    """Somebody who answers requests: a server behind a client, or a stand-in in a test."""

    @property
    def model(self) -> str:
        """Who answers, for the provenance."""
        ...

    @property
    def logprobs(self) -> bool:
        """Whether replies come with log probabilities when asked for, as far as is known."""
        ...

    async def ask(self, request: ChatRequest) -> Reply | RequestFailure:
        """The answer. Never raises for what a server does or does not do."""
        ...


def is_too_long(ask: Asker, request: ChatRequest) -> bool:
    """Whether a request is known not to fit into the context of the server that would answer it.

    False where the asker does not know, as stand-ins do not.
    """
    check = getattr(ask, "is_too_long", None)
    return bool(check and check(request))
