"""Live statistics of the calls to one language-model server: calls in flight, questions waiting,
latency, and tokens per second."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

RECENT_REPLIES = 50
"""Number of last replies from which latency and speed are computed."""


@dataclass(frozen=True)
class ActivitySnapshot:
    """Statistics of the calls to one server at one moment, as the Jobs page and a job's log line
    show them."""

    in_flight: int = 0
    """Number of calls that were sent and have not ended."""
    waiting: int = 0
    """Number of questions that wait for a free slot before they are sent."""
    limit: int = 0
    """Number of calls that may be in flight at present."""
    most: int = 0
    """Configured maximum of calls in flight."""
    replies: int = 0
    """Number of replies since this process began, usable or not."""
    latency_s: float | None = None
    """Median seconds from sending a call to its reply, over the last replies; None before the first
    reply."""
    tokens_per_s: float | None = None
    """Reply tokens per second over the last replies, counting only the time in which a call was in
    flight; None where the server does not count tokens."""
    seconds_per_reply: float | None = None
    """Seconds per reply at the present concurrency, counting only the time in which a call was in
    flight."""
    read_as: Mapping[str, int] = field(default_factory=dict)
    """How often an answer was found as bare JSON (`json`), as JSON within other text (`prose`) or
    as a labelled line (`line`); recorded replies are counted too."""


@dataclass(frozen=True)
class TimedReply:
    """Start and end of one reply of the server in seconds of the monotonic clock, and its length in
    tokens."""

    began: float
    ended: float
    tokens_out: int | None


class ServerActivity:
    """Counter of the calls to one server, from which `snapshot` computes latency and speed. Safe to
    read from any thread."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._recent: deque[TimedReply] = deque(maxlen=RECENT_REPLIES)
        self._most = self._limit = most
        self._in_flight = self._waiting = self._replies = 0
        self._read_as: Counter[str] = Counter()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call to the server as in flight until the block ends."""
        with self._lock:
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def count_reply(self, latency_s: float, tokens_out: int | None) -> None:
        """Count a complete reply of the server that has just arrived, `latency_s` seconds after its
        call was sent."""
        now = time.monotonic()
        with self._lock:
            self._replies += 1
            self._recent.append(TimedReply(now - latency_s, now, tokens_out))

    def count_reply_form(self, form: str) -> None:
        """Count a reply of the server by the form in which its answer was found: `json`, `prose` or
        `line`."""
        with self._lock:
            self._read_as[form] += 1

    def set_limit(self, limit: int, waiting: int) -> None:
        """Record in the server's activity how many calls may be in flight and how many questions
        wait for a slot."""
        with self._lock:
            self._limit, self._waiting = limit, waiting

    def snapshot(self) -> ActivitySnapshot:
        """Return the server's activity at this moment: calls in flight, median latency, and tokens
        per second."""
        with self._lock:
            recent, state = list(self._recent), (self._in_flight, self._waiting, self._limit)
            replies, read_as = self._replies, dict(self._read_as)
        latency = median(one.ended - one.began for one in recent) if recent else None
        # time in which nothing was asked must not lower the speed
        busy_s = union_seconds((one.began, one.ended) for one in recent)
        tokens = [one.tokens_out for one in recent if one.tokens_out is not None]
        # one reply without a token count would make the speed too low, so it is unknown then
        speed = sum(tokens) / busy_s if busy_s and len(tokens) == len(recent) else None
        each = busy_s / len(recent) if recent else None
        return ActivitySnapshot(*state, self._most, replies, latency, speed, each, read_as)


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the total length of the union of time intervals, in seconds: how long the server was
    active with any call in flight."""
    total, end = 0.0, float("-inf")
    for begin, stop in sorted(intervals):
        if stop > end:
            total += stop - max(begin, end)
            end = stop
    return total
