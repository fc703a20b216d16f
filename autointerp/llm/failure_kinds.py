"""The kinds of failure of a question to a language model, each with a description and what the user
can do about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

FailureKindName = Literal[
    "no key",
    "unauthorized",
    "not found",
    "no credit",
    "no price",
    "budget",
    "rejected",
    "context size",
    "unreachable",
    "timeout",
    "rate limited",
    "told to wait",
    "server error",
    "broken reply",
    "refusal",
    "empty",
    "cut off",
    "repeats",
    "too large",
    "unreadable",
    "unstorable",
]


@dataclass(frozen=True)
class FailureKind:
    """One kind of failure: a way in which a question to a language model can remain without an
    answer."""

    title: str
    """What happened, as a clause that can follow a count, such as "timed out"."""
    help: str
    """One sentence that says what the user can do about the failure."""
    stops_job: bool = False
    """Whether every further question would fail in the same way, so that a job stops at the first
    such failure."""
    passes: bool = False
    """Whether the question is tried again, because another attempt may succeed."""
    replied: bool = False
    """Whether the server answered with a complete reply that could not be used."""


FAILURE_KINDS: Mapping[str, FailureKind] = {
    "no key": FailureKind(
        "needed an API key",
        "Put the key into an environment variable and name it as key_env in servers.toml.",
        stops_job=True,
    ),
    "unauthorized": FailureKind(
        "had their API key refused",
        "Check that the key is valid for this server and this model.",
        stops_job=True,
    ),
    "not found": FailureKind(
        "named a model or URL that the server does not have",
        "Check the base URL (most end in /v1) and the model's name with `saefari servers check`.",
        stops_job=True,
    ),
    "no credit": FailureKind(
        "failed because the account has no credit",
        "Add credit to the account, then resume the job.",
        stops_job=True,
    ),
    "no price": FailureKind(
        "had no known price to count against the budget",
        "Put the model's price into prices.toml, or run the job without a budget.",
        stops_job=True,
    ),
    "budget": FailureKind(
        "did not fit into the budget",
        "Raise the budget, then resume the job.",
        stops_job=True,
    ),
    "rejected": FailureKind(
        "were rejected by the server",
        "Read the server's message; `saefari servers check` shows what it accepts.",
    ),
    "context size": FailureKind(
        "did not fit into the server's context",
        "Start the server with a larger context, or with fewer slots that share it.",
    ),
    "unreachable": FailureKind(
        "found no server",
        "Start the server, and check the base URL.",
        stops_job=True,
        passes=True,
    ),
    "timeout": FailureKind(
        "timed out",
        "Raise timeout_s in servers.toml, or use a faster server or a smaller model.",
        passes=True,
    ),
    "rate limited": FailureKind(
        "were refused because the server was busy",
        "Lower concurrency in servers.toml, or resume the job later.",
        passes=True,
    ),
    "told to wait": FailureKind(
        "were asked to wait for longer than a job waits",
        "Resume the job after the time that the server names.",
        stops_job=True,
    ),
    "server error": FailureKind(
        "met an error inside the server",
        "Check the server's log; a server that ran out of memory has to be restarted.",
        passes=True,
    ),
    "broken reply": FailureKind(
        "got a reply that broke off or was no chat completion",
        "Check that the base URL is that of an OpenAI-compatible server, and that it stays up.",
        passes=True,
    ),
    "refusal": FailureKind(
        "were refused by the model",
        "Use a model that answers questions about such texts.",
        replied=True,
    ),
    "empty": FailureKind(
        "got an empty reply",
        "For a model that thinks before it answers, set thinking in servers.toml.",
        replied=True,
    ),
    "cut off": FailureKind(
        "got a reply that reached its limit of tokens",
        "For a model that thinks before it answers, set thinking in servers.toml; otherwise use "
        "a model that follows instructions better.",
        replied=True,
    ),
    "repeats": FailureKind(
        "got a reply that repeats itself until it was cut off, twice",
        "Use a larger model, or set a repetition penalty on the server.",
        replied=True,
    ),
    "too large": FailureKind(
        "got a reply that is far too long",
        "Check with `saefari servers check` whether the server respects max_tokens.",
        replied=True,
    ),
    "unreadable": FailureKind(
        "got a reply that does not answer the question in the form asked for",
        "Use a server that follows JSON schemas, or a model that follows instructions better.",
        replied=True,
    ),
    "unstorable": FailureKind(
        "gave a result that could not be stored",
        "Nothing is needed: the other results are kept. The job's log has the reason.",
        replied=True,
    ),
}
"""Name of a kind of failure → its description; every `FailureKindName` is a key."""

assert set(FAILURE_KINDS) == set(get_args(FailureKindName))

REPETITION_KINDS: frozenset[str] = frozenset(("cut off", "repeats"))
"""Kinds of failure after which a question is asked once more with a penalty on repetition. The
penalty cured all loops of SmolLM2-135M on llama.cpp, a higher temperature did not
(docs/servers.md)."""
