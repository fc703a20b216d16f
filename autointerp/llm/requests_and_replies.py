"""Records of questions to a language model: chat messages and requests, replies with token log
probabilities, failures, results of single attempts, and the Asker protocol."""

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
"""Kinds of failure that every further call would meet as well: a job stops at the first of
these."""


class ChatMessage(NamedTuple):
    """One turn of a conversation with a language model: the role of the speaker and the text."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """One question to a language model with its settings. Equal requests have equal keys, and are
    asked once.

    An asker fills in its own base URL, and its model where the request names none, so the author of
    a prompt need not know which server answers.
    """

    messages: tuple[ChatMessage, ...]
    model: str = ""
    temperature: float = 0.0
    max_tokens: int = 256
    """Maximum number of tokens of the reply."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the reply, or None for free text. It is sent where the server supports schemas
    and always validated here, so the prompt has to describe the form in words as well."""
    logprobs: int = 0
    """Number of candidates per token of the reply whose log probabilities are requested; 0 for
    none."""
    purpose: str = ""
    """Purpose of the request for the call log, such as `explain` or `detection`; not part of its
    key."""
    draw: int = 0
    """Index of the reply among several to the same question, which are drawn with `temperature`
    above 0."""
    penalty: float = 0.0
    """OpenAI's `frequency_penalty`, which keeps the reply from repeating itself."""
    base_url: str = ""

    @cached_property
    def key(self) -> str:
        """Key of the chat request: sha256, as hex, of everything that determines the reply (base
        URL, model, messages, settings)."""
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
        if self.penalty:  # requests without a penalty keep the key of earlier versions
            asked["penalty"] = self.penalty
        plain = dump_json(asked, sort_keys=True, compact=True, ascii_only=True)
        return hashlib.sha256(plain.encode()).hexdigest()

    def to(self, base_url: str, model: str) -> "ChatRequest":
        """Return the chat request with the base URL of a server, and with a model where it names
        none."""
        return replace(self, base_url=base_url, model=self.model or model)

    @property
    def n_bytes(self) -> int:
        """Size of the request's messages, in bytes of UTF-8."""
        return sum(len(replace_lone_surrogates(m.content).encode()) for m in self.messages)

    @property
    def longest(self) -> int:
        """Upper bound for the number of tokens of the chat request's messages and schema: a token
        is at least one byte."""
        return self.n_bytes + MAX_TEMPLATE_TOKENS * len(self.messages) + MAX_SCHEMA_TOKENS


MAX_TEMPLATE_TOKENS = 16
"""Upper bound for the tokens that a chat template adds to one message."""
MAX_SCHEMA_TOKENS = 500
"""Upper bound for the tokens of this package's JSON schemas, on servers that count them."""


class TokenLogprob(NamedTuple):
    """One token of a language model's reply with its log probability and the likeliest candidates
    for its place."""

    token: str
    logprob: float
    """Natural logarithm of the token's probability."""
    top: tuple[tuple[str, float], ...]
    """The likeliest candidates for this token and their log probabilities."""


@dataclass(frozen=True)
class Reply:
    """Reply of a language model to a request: text, parsed answer, token counts, cost and
    latency."""

    text: str
    parsed: Any = None
    """The JSON that the reply contains and the request's schema allows; None without a schema."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Log probabilities of the reply's tokens; None where the server gives none: probabilities are
    unknown then, not 0 or 1."""
    tokens_in: int | None = None
    """Tokens of the request as the server counted them; None where it does not say."""
    tokens_out: int | None = None
    cost: float | None = None
    """US dollars; None where tokens or prices are unknown. A recorded reply has its original
    cost."""
    latency_s: float | None = None
    """Seconds from sending the successful attempt to its reply."""
    cached: bool = False
    """Whether the reply was taken from a call log: no server was asked and nothing was paid."""
    form: ReplyForm | None = None
    """How `parsed` was found in the text; None without a schema."""
    key: str = ""
    """Key of the request that was answered; it differs from the key of the request that was asked
    if that was retried in another form."""


@dataclass(frozen=True)
class RequestFailure:
    """Reason why a request to a language model has no usable answer. A failure never counts as a
    value in any score."""

    kind: FailureKindName
    sentence: str
    """What went wrong and what would help, for the user; contains no secret."""
    cached: bool = False
    without_json: bool = False
    """Whether a reply came without the JSON asked for, which shows that the server ignores
    schemas."""

    @property
    def stops_job(self) -> bool:
        """Whether every further request would fail in the same way, so that the job stops
        asking."""
        return self.kind in JOB_STOPPING_KINDS


@dataclass(frozen=True)
class AttemptResult:
    """Everything that is known of one attempt to ask a server: the reply or failure, and the facts
    that the call log records."""

    result: Reply | RequestFailure
    text: str | None = None
    """Text of the server's reply; None where no complete reply came."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    latency_s: float | None = None
    certainly_free: bool = True
    """For an attempt without a reply: whether it is certain that it cost nothing."""
    retry: bool = False
    """Whether another attempt may succeed."""
    wait_s: float = 0.0
    """Seconds that the server asks to wait before the next attempt."""
    context: ContextSizeRefusal | None = None
    """The sizes named by a server that refused the question as too long for its context."""


class Asker(Protocol):
    """Protocol of an object that answers requests to a language model: a server's asker, or a
    stand-in in tests."""

    @property
    def model(self) -> str:
        """Name of the language model that the asker asks, for the provenance of results."""
        ...

    @property
    def logprobs(self) -> bool:
        """Whether the asker's replies have log probabilities when requested, as far as is known."""
        ...

    async def ask(self, request: ChatRequest) -> Reply | RequestFailure:
        """Return the reply to a request, or the failure. Never raises for what a server does."""
        ...


def is_too_long(ask: Asker, request: ChatRequest) -> bool:
    """Return whether a request is known to exceed the context of the server that would answer it.

    False where the asker cannot tell, as with stand-ins.
    """
    check = getattr(ask, "is_too_long", None)
    return bool(check and check(request))
