"""Questions that are put again in a shorter form where they do not fit into a server's context.

Their first refusal is no failure of the question: whoever counts questions leaves it out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from autointerp.asking.records import Failed, Reply

SHORTENED: ContextVar[bool] = ContextVar("shortened", default=False)


@contextmanager
def put_shorter_if_too_long() -> Iterator[None]:
    """Mark the questions of this block as ones that are put again if they are too long."""
    token = SHORTENED.set(True)
    try:
        yield
    finally:
        SHORTENED.reset(token)


def is_put_again(answer: Reply | Failed) -> bool:
    """Whether the present question will be put again in a shorter form."""
    return SHORTENED.get() and isinstance(answer, Failed) and answer.kind == "context size"
