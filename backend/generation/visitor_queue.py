"""Fair use of one model: who speaks now, who waits and at which place, and who is turned away.

A few visitors generate at once and take turns token by token; the next ones wait in the order in
which they came; beyond a bounded line nobody is left hoping. A visitor whose page has gone away is
not waited for: the page says now and then that it is still there, and when it falls silent its
place goes to the next.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from backend.generation.prompt_tokenization import PromptTokens
from backend.generation.records import SamplingSettings
from feature_store.errors import InputError

QUEUE_POLL_SECONDS = 0.25
"""How often a thread in the line looks after those before it who have fallen silent."""


@dataclass(frozen=True)
class GenerationLimits:
    """What one request may ask for, and how many there may be."""

    new_tokens: int = 512
    prompt_tokens: int = 2_048
    seconds: float = 120.0
    """Of computation, from the moment a visitor is served."""
    at_once: int = 4
    waiting: int = 16
    silence: float = 20.0
    """Seconds after which a visitor who has not been heard of has left."""

    def check(self, start: PromptTokens, sampling: SamplingSettings) -> None:
        """InputError for a request beyond the limits."""
        if len(start.tokens) > self.prompt_tokens:
            raise InputError(
                f"The prompt has {len(start.tokens):,} tokens; here it may have "
                f"{self.prompt_tokens:,}. Cut it."
            )
        if sampling.max_new > self.new_tokens:
            raise InputError(
                f"{sampling.max_new:,} new tokens are too many: here a text may have "
                f"{self.new_tokens:,}."
            )


@dataclass(eq=False)
class QueueTicket:
    """One visitor's place. Give it to `generate` as its `stop`, and leave when done."""

    queue: "VisitorQueue"
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the visitor leaves, is silent too long, or a person presses stop."""
    heard: float = 0.0
    served: threading.Event = field(default_factory=threading.Event)

    @property
    def place(self) -> int:
        """0 while served; 1 for the next in line; -1 once left."""
        return self.queue.place(self)

    def touch(self) -> None:
        """The visitor is still there."""
        self.heard = self.queue.clock()

    def turn(self) -> bool:
        """Wait in a thread for this visitor's turn; False when they left before it came."""
        while not self.served.wait(QUEUE_POLL_SECONDS) and not self.stop.is_set():
            self.queue.tidy()
        return not self.stop.is_set()

    def leave(self) -> None:
        """Give the place up, whatever it was; harmless twice."""
        self.queue.remove(self)

    def __enter__(self) -> "QueueTicket":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


class VisitorQueue:
    """The visitors of one model."""

    def __init__(
        self, limits: GenerationLimits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or GenerationLimits()
        self.clock = clock
        self._lock = threading.Lock()
        self._line: list[QueueTicket] = []
        """In the order of coming; the first `at_once` are served."""

    def join(self) -> QueueTicket:
        """A place at the end; InputError when the line is full."""
        self.tidy()
        with self._lock:
            if len(self._line) >= self.limits.at_once + self.limits.waiting:
                raise InputError(
                    f"{len(self._line)} people are using this model now, which is as many as it "
                    "serves: try again in a minute."
                )
            ticket = QueueTicket(self)
            ticket.heard = self.clock()
            self._line.append(ticket)
            self._serve()
        return ticket

    def place(self, ticket: QueueTicket) -> int:
        """See `Ticket.place`."""
        with self._lock:
            if ticket not in self._line:
                return -1
            return max(0, self._line.index(ticket) - self.limits.at_once + 1)

    def remove(self, ticket: QueueTicket) -> None:
        """Take a ticket out of the line; whoever computes for it stops at the next token."""
        ticket.stop.set()
        with self._lock:
            if ticket in self._line:
                self._line.remove(ticket)
            self._serve()

    def tidy(self) -> None:
        """Let go of those who have fallen silent."""
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
