"""The queue of visitors who share one model: who is generating, who waits at which place, and who
is refused.

A few visitors generate at once and alternate token by token; the next ones wait in order of
arrival; when the queue is full, further visitors are refused. A visitor's page reports regularly
that it is still open; if it stops doing so, the visitor's place goes to the next.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import SamplingSettings
from feature_store.errors import InputError

QUEUE_POLL_SECONDS = 0.25
"""Interval in seconds at which a waiting thread checks for visitors who have left the queue."""


@dataclass(frozen=True)
class GenerationLimits:
    """Limits of one generation request, and of the queue of visitors."""

    new_tokens: int = 512
    prompt_tokens: int = 2_048
    seconds: float = 120.0
    """Maximum computing time in seconds, from the moment a visitor is served."""
    at_once: int = 4
    """Number of visitors who generate at the same time."""
    waiting: int = 16
    """Number of visitors who may wait in the queue."""
    silence: float = 20.0
    """Seconds without a sign of life after which a visitor counts as gone."""

    def check(self, start: PromptTokens, sampling: SamplingSettings) -> None:
        """Raise InputError if a visitor's prompt or number of new tokens exceeds the limits."""
        if len(start.tokens) > self.prompt_tokens:
            raise InputError(
                f"The prompt has {len(start.tokens):,} tokens; at most "
                f"{self.prompt_tokens:,} are allowed here. Cut it."
            )
        if sampling.max_new > self.new_tokens:
            raise InputError(
                f"{sampling.max_new:,} new tokens are too many: at most "
                f"{self.new_tokens:,} are allowed here."
            )


@dataclass(eq=False)
class QueueTicket:
    """One visitor's place in the queue for generating text with a model. Pass its `stop` to
    `stream_tokens`, and leave when done.
    """

    queue: "VisitorQueue"
    stop: threading.Event = field(default_factory=threading.Event)
    """Event that is set when the visitor leaves, is silent too long, or presses stop."""
    heard: float = 0.0
    served: threading.Event = field(default_factory=threading.Event)

    @property
    def place(self) -> int:
        """Place in the queue: 0 while served, 1 for the next in line, −1 after leaving."""
        return self.queue.place(self)

    def touch(self) -> None:
        """Report to the queue that the visitor is still there."""
        self.heard = self.queue.clock()

    def turn(self) -> bool:
        """Wait in the queue until this visitor is served; return False if the visitor left before
        that.
        """
        while not self.served.wait(QUEUE_POLL_SECONDS) and not self.stop.is_set():
            self.queue.tidy()
        return not self.stop.is_set()

    def leave(self) -> None:
        """Give up the visitor's place in the queue; may be called more than once."""
        self.queue.remove(self)

    def __enter__(self) -> "QueueTicket":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


class VisitorQueue:
    """Queue of the visitors who want to generate text with one model: the first few are served at
    the same time, the others wait in order of arrival.
    """

    def __init__(
        self, limits: GenerationLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or GenerationLimits()
        self.clock = clock
        self._lock = threading.Lock()
        self._line: list[QueueTicket] = []
        """Tickets in order of arrival; the first `at_once` are served."""

    def join(self) -> QueueTicket:
        """Return a ticket for a place at the end of the queue. Raises InputError if the queue is
        full.
        """
        self.tidy()
        with self._lock:
            if len(self._line) >= self.limits.at_once + self.limits.waiting:
                raise InputError(
                    f"{len(self._line)} people are using this model now, and the queue is full: "
                    "try again in a minute."
                )
            ticket = QueueTicket(self)
            ticket.heard = self.clock()
            self._line.append(ticket)
            self._serve()
        return ticket

    def place(self, ticket: QueueTicket) -> int:
        """Return a ticket's place in the queue; see `QueueTicket.place`."""
        with self._lock:
            if ticket not in self._line:
                return -1
            return max(0, self._line.index(ticket) - self.limits.at_once + 1)

    def remove(self, ticket: QueueTicket) -> None:
        """Remove a ticket from the queue; its computation stops at the next token."""
        ticket.stop.set()
        with self._lock:
            if ticket in self._line:
                self._line.remove(ticket)
            self._serve()

    def tidy(self) -> None:
        """Remove the tickets of visitors who have been silent for too long."""
        oldest = self.clock() - self.limits.silence
        with self._lock:
            gone = [ticket for ticket in self._line if ticket.heard < oldest]
        for ticket in gone:
            self.remove(ticket)

    def __len__(self) -> int:
        return len(self._line)

    def _serve(self) -> None:
        for ticket in self._line[: self.limits.at_once]:
            ticket.served.set()
