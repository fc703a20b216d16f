"""How a server is doing right now: calls in flight, latency, and tokens per second."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

RECENT_REPLIES = 50
"""Replies from which latency and speed are computed."""


@dataclass(frozen=True)
class ActivitySnapshot:
    """The state of the calls to one server at one moment."""

    in_flight: int = 0
    """Calls that were sent and have not ended."""
    waiting: int = 0
    """Questions that wait for a free slot before they are sent."""
    limit: int = 0
    """How many calls may be in flight at present."""
    most: int = 0
    """The configured maximum of calls in flight."""
    replies: int = 0
    """Replies since this process began, usable or not."""
    latency_s: float | None = None
    """Median seconds from sending to reply, over the last replies; None before the first."""
    tokens_per_s: float | None = None
    """Reply tokens per second over the last replies, while any call was in flight; None where the
    server does not count tokens."""
    seconds_per_reply: float | None = None
    """Seconds per reply at the present concurrency, while any call was in flight."""
    read_as: Mapping[str, int] = field(default_factory=dict)
    """How often an answer was found as bare JSON (`json`), as JSON within other text (`prose`) and
    as a labelled line (`line`), recorded replies among them."""


@dataclass(frozen=True)
class TimedReply:
    """When a reply was awaited, in seconds of the monotonic clock, and its length."""

    began: float
    ended: float
    tokens_out: int | None


class ServerActivity:
    """Counts the calls to one server. Safe to read from any thread."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._recent: deque[TimedReply] = deque(maxlen=RECENT_REPLIES)
        self._most = self._limit = most
        self._in_flight = self._waiting = self._replies = 0
        self._read_as: Counter[str] = Counter()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call as in flight until the block ends."""
        with self._lock:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def replied(self, latency_s: float, tokens_out: int | None) -> None:
        """Count a whole reply that has just come, `latency_s` seconds after its call was sent."""
        now = time.monotonic()
        with self._lock:
            self._replies += 1
            self._recent.append(TimedReply(now - latency_s, now, tokens_out))

    def read(self, form: str) -> None:
        """Count a reply whose answer was found in a form: `json`, `prose` or `line`."""
        with self._lock:
            self._read_as[form] += 1

    def limited(self, limit: int, waiting: int) -> None:
        """Note how many calls may be in flight and how many questions wait for a slot."""
        with self._lock:
            self._limit, self._waiting = limit, waiting

    def snapshot(self) -> ActivitySnapshot:
        """Return the state of this moment."""
        with self._lock:
            recent, state = list(self._recent), (self._in_flight, self._waiting, self._limit)
            replies, read_as = self._replies, dict(self._read_as)
        latency = median(one.ended - one.began for one in recent) if recent else None
        busy_s = union_seconds((one.began, one.ended) for one in recent)
        tokens = [one.tokens_out for one in recent if one.tokens_out is not None]
        speed = sum(tokens) / busy_s if busy_s and len(tokens) == len(recent) else None
        each = busy_s / len(recent) if recent else None
        return ActivitySnapshot(*state, self._most, replies, latency, speed, each, read_as)


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the total length of the union of some intervals."""
    total, end = 0.0, float("-inf")
    for begin, stop in sorted(intervals):
        if stop > end:
            total += stop - max(begin, end)
            end = stop
    return total
