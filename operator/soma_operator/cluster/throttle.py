"""A token bucket: so many requests per second in the mean, twice as many at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Throttle:
    """Grants turns in the order they are asked for."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = max(1.0, 2 * rate)
        self._tokens = self._burst
        self._clock = clock
        self._last = clock()

    def delay(self) -> float:
        """Take a turn; returns the seconds to wait for it."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._last) * self._rate)
        self._last = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    async def turn(self) -> None:
        """Wait for one turn."""
        wait = self.delay()
        if wait > 0:
            await asyncio.sleep(wait)
