"""Marking of questions that are retried in a shorter form where they do not fit into a server's
context. Their first refusal is no failure of the question, so it is left out when failures are
counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from autointerp.llm.requests_and_replies import Reply, RequestFailure

RETRIED_SHORTER: ContextVar[bool] = ContextVar("shortened", default=False)


@contextmanager
def retry_shorter_if_too_long() -> Iterator[None]:
    """Mark the questions of this block as ones that are retried in a shorter form if they do not
    fit into the server's context."""
    token = RETRIED_SHORTER.set(True)
    try:
        yield
    finally:
        RETRIED_SHORTER.reset(token)


def will_be_retried_shorter(answer: Reply | RequestFailure) -> bool:
    """Return whether an answer is a failure after which the question is asked again in a shorter
    form: it did not fit into the server's context, and its block is marked by
    `retry_shorter_if_too_long`."""
    return (
        RETRIED_SHORTER.get()
        and isinstance(answer, RequestFailure)
        and answer.kind == "context size"
    )
