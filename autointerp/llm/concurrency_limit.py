"""Adaptive limit on the number of concurrent calls to a server. The limit starts at one call and
doubles as long as that increases the server's total speed (slow start); where more calls only wait
for each other, as with a server of two slots, it returns to the number that paid off. Every 429,
503 or time-out halves the limit, at most once for the calls that were in flight together, and all
calls wait as long as the server asks for (additive increase, multiplicative decrease, as in TCP).

The time-out of a call starts when the server can have begun with it: a call that is queued in the
server after our own earlier calls is not late.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from autointerp.llm.server_activity import ServerActivity

TIMER_SLACK_S = 0.02
"""Seconds by which a timer may fire too early."""
MIN_SPEEDUP_SHARE = 0.3
"""Share of the ideal speed-up that more concurrent calls must bring to be kept: twice the calls
must make the total 1.3 times as fast."""
SLOWDOWN_FACTOR = 2.0
"""How many times slower the total must become before the limit is lowered."""
STABLE_EPOCHS = 8
"""Number of epochs without a change before more concurrent calls are tried again; after a refusal,
half of it."""
PROMPT_TOKEN_WORK = 0.1
"""Time to read a token of the prompt, relative to writing a token of the reply."""


class CallSlot:
    """Permission of the concurrency limiter to make one call, with the clock of the call's
    time-out."""

    def __init__(self, limiter: "ConcurrencyLimiter", epoch: int) -> None:
        self.began = time.monotonic()
        """Time at which the slot was granted, in seconds of the monotonic clock."""
        self.epoch = epoch
        self._limiter = limiter
        self._timer: asyncio.Timeout | None = None
        self._timeout_s = 0.0
        self._running = False

    @asynccontextmanager
    async def clock(self, timeout_s: float) -> AsyncIterator[None]:
        """Time out a call in its slot of the concurrency limit: raise TimeoutError when the block
        takes longer than `timeout_s` seconds, not counting the time in which our own earlier calls
        kept the server busy."""
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
        """Start the time-out clock of a call in its concurrency slot, unless it already runs."""
        if self._timer is not None and not self._running:
            self._running = True
            self._timer.reschedule(asyncio.get_running_loop().time() + self._timeout_s)


class ConcurrencyLimiter:
    """Adaptive limit on concurrent calls to one server, on one event loop; slots are granted in the
    order of requests."""

    def __init__(self, max_calls: int, activity: ServerActivity | None = None) -> None:
        self.max_calls = max_calls
        """Upper bound of the limit: never more calls in flight than this."""
        self.limit = 1
        """Number of calls that may be in flight at present."""
        self.slots_taken = 0
        self.parallel = 1
        """Number of calls that the server is known to process at once."""
        self.sent: list[CallSlot] = []
        """Calls in flight, the earliest first."""
        self._activity = activity or ServerActivity(max_calls)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._halved_at = self._blocked_until = 0.0
        self._paused = False
        self._epoch = 0
        self._samples: list[float] = []
        self._tried: tuple[int, float] | None = None
        """While a higher limit is tried: the previous limit and the speed at it."""
        self._speed: float | None = None
        self._doubling, self._stable_epochs = True, 0
        self._report()

    def set_server_slots(self, slots: int) -> None:
        """Set the upper bound of concurrent calls to the number of slots that the server reports:
        more calls would only queue."""
        self.max_calls = max(1, min(self.max_calls, slots))
        self.parallel = self.max_calls
        self.start_clocks()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[CallSlot]:
        """Hold one slot of the concurrency limit until the block ends; waits for a free one."""
        if self._waiting or not self._has_free_slot():
            await self._wait()
        else:
            self.slots_taken += 1
        try:
            yield CallSlot(self, self._epoch)
        finally:
            self.slots_taken -= 1
            self._grant_slots()

    def pause(self) -> None:
        """Pause the concurrency limiter: grant no slot until `resume`; calls in flight continue."""
        self._paused = True

    def resume(self) -> None:
        """End the pause of the concurrency limiter, so that slots are granted again."""
        self._paused = False
        self._grant_slots()

    def start_clocks(self) -> None:
        """Start the time-outs of all concurrent calls that the server can be working on."""
        for call in self.sent[: self.parallel]:
            call.start()

    def record_reply(
        self, slot: CallSlot, latency_s: float, tokens_in: int | None, tokens_out: int | None
    ) -> None:
        """Adapt the limit to the latency of a complete reply, whose slot is still held.

        The latency shows how many concurrent calls are too many only while all slots are taken, so
        others are ignored.
        """
        # a call of an earlier limit says nothing about the present one
        if slot.epoch != self._epoch or self.slots_taken < self.limit:
            return
        # long replies take longer: latency is compared per unit of work
        work = PROMPT_TOKEN_WORK * (tokens_in or 0) + (tokens_out or 0) if tokens_out else 1.0
        self._samples.append(max(latency_s, 1e-6) / work)
        if len(self._samples) >= min(2 * self.limit, self.limit + 8):
            self._end_epoch(self.limit / median(self._samples))
            self._grant_slots()

    def record_refusal(self, slot: CallSlot, wait_s: float = 0.0) -> bool:
        """Halve the concurrency limit after a 429, a 503 or a time-out; return whether the limit
        changed."""
        now = time.monotonic()
        if wait_s > 0 and now + wait_s > self._blocked_until:
            self._blocked_until = now + wait_s
            asyncio.get_running_loop().call_later(wait_s + TIMER_SLACK_S, self._grant_slots)
        # it was in flight with the call that has already halved the limit
        if slot.began < self._halved_at:
            return False
        self._halved_at = now
        self._doubling, self._stable_epochs = False, STABLE_EPOCHS // 2
        self._speed = self._tried = None
        self._set_limit(max(1, self.limit // 2))
        return True

    def _end_epoch(self, speed: float) -> None:
        """Decide on the next concurrency limit after an epoch; `speed` is the work per second of
        all calls together."""
        if self._tried is not None:
            before, its_speed = self._tried
            self._tried = None
            # the higher limit did not pay off: return to the previous one
            if speed < its_speed * (1 + MIN_SPEEDUP_SHARE * (self.limit / before - 1)):
                self._doubling, self._stable_epochs, self._speed = False, STABLE_EPOCHS, its_speed
                self._set_limit(before)
                return
            self.parallel = max(self.parallel, self.limit)
        elif self._speed is not None and speed * SLOWDOWN_FACTOR < self._speed:
            self._speed, self._stable_epochs = None, STABLE_EPOCHS
            self._set_limit(max(1, self.limit * 3 // 4))
            return
        self._speed = speed
        self._stable_epochs -= 1
        if self._stable_epochs <= 0 and self.limit < self.max_calls:
            self._tried = (self.limit, speed)
            # slow start doubles; after the first setback the limit grows by a quarter
            more = self.limit if self._doubling else max(1, self.limit // 4)
            self._set_limit(min(self.max_calls, self.limit + more))
        else:
            self._set_limit(self.limit)

    def _set_limit(self, limit: int) -> None:
        # a new limit begins a new epoch of measurements
        self._epoch += limit != self.limit
        self._samples = []
        self.limit = limit
        self._report()

    def _report(self) -> None:
        self._activity.set_limit(self.limit, len(self._waiting))

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._grant_slots()
        self._report()
        try:
            await future
        except asyncio.CancelledError:
            # the slot was granted in the same moment: release it
            if future.done() and not future.cancelled():
                self.slots_taken -= 1
                self._grant_slots()
            raise
        finally:
            self._report()

    def _has_free_slot(self) -> bool:
        return (
            self.slots_taken < self.limit
            and not self._paused
            and time.monotonic() >= self._blocked_until
        )

    def _grant_slots(self) -> None:
        while self._waiting and self._has_free_slot():
            future = self._waiting.popleft()
            if not future.done():
                self.slots_taken += 1
                future.set_result(None)
