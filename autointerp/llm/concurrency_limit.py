"""How many calls may be in flight at one server, learnt from its latency and its refusals.

It starts with one call and doubles the number as long as that makes the server answer faster on the
whole (slow start). Where more calls only wait for each other, as in front of a server with two
slots, the number goes back to what paid. Every answer of 429 or 503 and every time-out halves it,
at most once for the calls that were in flight together, and all wait as long as the server asks
(additive increase, multiplicative decrease, as in TCP).

The time-out of a call runs from the moment at which the server could have begun with it: a call
that is queued in the server behind our own earlier calls is not late.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from autointerp.llm.server_activity import ServerActivity

TIMER_SLACK_S = 0.02
"""Timers may ring this much early."""
MIN_SPEEDUP_SHARE = 0.3
"""Share of the ideal gain in speed that more calls must bring to be kept: doubling the calls has to
make the whole 1.3 times as fast."""
SLOWDOWN_FACTOR = 2.0
"""How many times slower the whole must become before there are fewer calls."""
STABLE_EPOCHS = 8
"""Epochs without a change before more calls are tried again; after a refusal, half of it."""
PROMPT_TOKEN_WORK = 0.1
"""What reading a token of the prompt takes, against writing a token of the reply."""


class CallSlot:
    """The permission to make one call, and the clock of its time-out."""

    def __init__(self, limiter: "ConcurrencyLimiter", epoch: int) -> None:
        self.began = time.monotonic()
        """When the slot was given."""
        self.epoch = epoch
        self._limiter = limiter
        self._timer: asyncio.Timeout | None = None
        self._timeout_s = 0.0
        self._running = False

    @asynccontextmanager
    async def clock(self, timeout_s: float) -> AsyncIterator[None]:
        """Raise TimeoutError when this block takes longer than `timeout_s` seconds, not counting
        the time in which earlier calls of ours kept the server busy."""
        self._timeout_s = timeout_s
        async with asyncio.timeout(None) as self._timer:
            self._limiter.sent.append(self)
            self._limiter.start_clocks()
            try:
                yield
            finally:
                self._limiter.sent.remove(self)
                self._limiter.start_clocks()

    def start(self) -> None:
        """Let the clock run from now on, if it does not yet."""
        if self._timer is not None and not self._running:
            self._running = True
            self._timer.reschedule(asyncio.get_running_loop().time() + self._timeout_s)


class ConcurrencyLimiter:
    """Slots for calls on one event loop; whoever waited longest comes first."""

    def __init__(self, most: int, activity: ServerActivity | None = None) -> None:
        self.most = most
        """Never more calls in flight than this."""
        self.limit = 1
        """How many calls may be in flight at present."""
        self.open = 0
        self.parallel = 1
        """How many calls the server is known to work on at once."""
        self.sent: list[CallSlot] = []
        """The calls in flight, the earliest first."""
        self._activity = activity or ServerActivity(most)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._halved = self._until = 0.0
        self._paused = False
        self._epoch = 0
        self._samples: list[float] = []
        self._tried: tuple[int, float] | None = None
        """While more calls are tried: how many there were before, and the speed then."""
        self._speed: float | None = None
        self._doubling, self._patience = True, 0
        self._tell()

    def knows_slots(self, slots: int) -> None:
        """Take a server's word for how many calls it works on at once: more would only queue."""
        self.most = max(1, min(self.most, slots))
        self.parallel = self.most
        self.start_clocks()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[CallSlot]:
        """Hold a slot until the block ends."""
        if self._waiting or not self._free():
            await self._wait()
        else:
            self.open += 1
        try:
            yield CallSlot(self, self._epoch)
        finally:
            self.open -= 1
            self._wake()

    def pause(self) -> None:
        """Give out no slot until `resume`; calls in flight go on."""
        self._paused = True

    def resume(self) -> None:
        """Give out slots again."""
        self._paused = False
        self._wake()

    def start_clocks(self) -> None:
        """Start the time-outs of all calls that the server can be working on."""
        for call in self.sent[: self.parallel]:
            call.start()

    def answered(
        self, slot: CallSlot, latency_s: float, tokens_in: int | None, tokens_out: int | None
    ) -> None:
        """Learn from a whole reply, of which the slot is still held.

        Only while all slots are taken does its latency say how many calls are too many.
        """
        if slot.epoch != self._epoch or self.open < self.limit:
            return
        work = PROMPT_TOKEN_WORK * (tokens_in or 0) + (tokens_out or 0) if tokens_out else 1.0
        self._samples.append(max(latency_s, 1e-6) / work)
        if len(self._samples) >= min(2 * self.limit, self.limit + 8):
            self._judge(self.limit / median(self._samples))
            self._wake()

    def refused(self, slot: CallSlot, wait_s: float = 0.0) -> bool:
        """Learn from a 429, a 503 or a time-out; True when the limit fell for it."""
        now = time.monotonic()
        if wait_s > 0 and now + wait_s > self._until:
            self._until = now + wait_s
            asyncio.get_running_loop().call_later(wait_s + TIMER_SLACK_S, self._wake)
        if slot.began < self._halved:
            return False
        self._halved = now
        self._doubling, self._patience = False, STABLE_EPOCHS // 2
        self._speed = self._tried = None
        self._set(max(1, self.limit // 2))
        return True

    def _judge(self, speed: float) -> None:
        """Decide after an epoch: `speed` is work per second of all calls together."""
        if self._tried is not None:
            before, its_speed = self._tried
            self._tried = None
            if speed < its_speed * (1 + MIN_SPEEDUP_SHARE * (self.limit / before - 1)):
                self._doubling, self._patience, self._speed = False, STABLE_EPOCHS, its_speed
                self._set(before)
                return
            self.parallel = max(self.parallel, self.limit)
        elif self._speed is not None and speed * SLOWDOWN_FACTOR < self._speed:
            self._speed, self._patience = None, STABLE_EPOCHS
            self._set(max(1, self.limit * 3 // 4))
            return
        self._speed = speed
        self._patience -= 1
        if self._patience <= 0 and self.limit < self.most:
            self._tried = (self.limit, speed)
            more = self.limit if self._doubling else max(1, self.limit // 4)
            self._set(min(self.most, self.limit + more))
        else:
            self._set(self.limit)

    def _set(self, limit: int) -> None:
        self._epoch += limit != self.limit
        self._samples = []
        self.limit = limit
        self._tell()

    def _tell(self) -> None:
        self._activity.limited(self.limit, len(self._waiting))

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake()
        self._tell()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # the slot came too late: pass it on
                self.open -= 1
                self._wake()
            raise
        finally:
            self._tell()

    def _free(self) -> bool:
        return self.open < self.limit and not self._paused and time.monotonic() >= self._until

    def _wake(self) -> None:
        while self._waiting and self._free():
            future = self._waiting.popleft()
            if not future.done():
                self.open += 1
                future.set_result(None)
