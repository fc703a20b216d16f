"""The budget of a job in US dollars: before each call to a language model its maximum cost is
reserved, afterwards its actual cost is charged."""

import asyncio

ROUNDING_USD = 1e-9
"""Tolerance in US dollars for rounding errors in sums of floats."""


class CallBudget:
    """Hard cap in US dollars on a job's calls to a language model: the amounts charged, and those
    reserved for calls in flight, together never exceed it. Used on one event loop."""

    def __init__(self, cap: float | None = None, spent: float = 0.0) -> None:
        """Set the budget's cap, or None for no cap. `spent` is what earlier processes of the same
        job were charged."""
        self.cap = cap
        self.spent = spent
        self.reserved = 0.0
        self._open = 0
        self._changed = asyncio.Condition()

    async def reserve(self, amount: float) -> bool:
        """Reserve money for a call; return False if the budget does not allow it and no call in
        flight can release enough."""
        if self._fits(amount):
            return self._take(amount)
        async with self._changed:
            # a call in flight may cost less than its reserve; without one, waiting is useless
            await self._changed.wait_for(lambda: self._fits(amount) or not self._open)
            return self._fits(amount) and self._take(amount)

    async def settle(self, reserved: float, spent: float) -> None:
        """Release the reserve of a call, and charge the budget with what the call cost."""
        self._open -= 1
        # 0 when nothing is open, so that rounding errors do not add up
        self.reserved = self.reserved - reserved if self._open else 0.0
        self.spent += spent
        async with self._changed:
            self._changed.notify_all()

    def _fits(self, amount: float) -> bool:
        """Return whether the budget allows a further reserve of `amount` US dollars."""
        return self.cap is None or self.spent + self.reserved + amount <= self.cap + ROUNDING_USD

    def _take(self, amount: float) -> bool:
        self.reserved += amount
        self._open += 1
        return True
