"""Money: reserved before a call at the most that it can cost, settled when it is known."""

import asyncio

ROUNDING_USD = 1e-9
"""US dollars lost in sums of floats."""


class CallBudget:
    """A hard cap in US dollars: spent and reserved together never pass it.

    Used on one event loop.
    """

    def __init__(self, cap: float | None = None, spent: float = 0.0) -> None:
        """`cap` None is no cap. `spent` is what earlier processes at the same job spent."""
        self.cap = cap
        self.spent = spent
        self.reserved = 0.0
        self._open = 0
        self._changed = asyncio.Condition()

    async def reserve(self, amount: float) -> bool:
        """Set money aside; False when it is not there and no call under way can give it back."""
        if self._fits(amount):
            return self._take(amount)
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(amount) or not self._open)
            return self._fits(amount) and self._take(amount)

    async def settle(self, reserved: float, spent: float) -> None:
        """Give back what was set aside for a call, and count what it cost."""
        self._open -= 1
        self.reserved = self.reserved - reserved if self._open else 0.0
        self.spent += spent
        async with self._changed:
            self._changed.notify_all()

    def _fits(self, amount: float) -> bool:
        return self.cap is None or self.spent + self.reserved + amount <= self.cap + ROUNDING_USD

    def _take(self, amount: float) -> bool:
        self.reserved += amount
        self._open += 1
        return True
