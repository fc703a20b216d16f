"""How many calls at once: learnt from the server's refusals, as TCP learns from lost packets.

Every answer raises the limit a little, a 429 halves it, at most once for the calls that were under
way together, and all wait as long as the server asks.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CLOCK_S = 0.02
"""Timers may ring this much early."""


class Limiter:
    """Slots for calls on one event loop; whoever waited longest comes first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        """Its whole part is how many calls there may be at once."""
        self.open = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._halved = 0.0
        self._until = 0.0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[float]:
        """Hold a slot until the block ends; gives the time at which it began."""
        if self._waiting or not self._free():
            await self._wait()
        else:
            self.open += 1
        try:
            yield time.monotonic()
        finally:
            self.open -= 1
            self._wake()

    def answered(self) -> None:
        """A call fared well."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)
        self._wake()

    def refused(self, began: float, wait_s: float) -> bool:
        """A call that began then met a 429; True when the limit fell for it."""
        now = time.monotonic()
        if wait_s > 0 and now + wait_s > self._until:
            self._until = now + wait_s
            asyncio.get_running_loop().call_later(wait_s + CLOCK_S, self._wake)
        if began < self._halved:
            return False
        self._halved = now
        self.limit = max(1.0, self.limit / 2)
        return True

    async def _wait(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # the slot came too late: pass it on
                self.open -= 1
                self._wake()
            raise

    def _free(self) -> bool:
        return self.open < int(self.limit) and time.monotonic() >= self._until

    def _wake(self) -> None:
        while self._waiting and self._free():
            future = self._waiting.popleft()
            if not future.done():
                self.open += 1
                future.set_result(None)
