"""How often a caller may call: one token bucket a caller, in process, of bounded number; or one for all replicas."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol

from memory_runtime.model.errors import RateLimited, SomaError

MOST_CALLERS = 10_000


class RateLimiter:
    """A bucket of `limit` requests for each caller, refilled evenly over `window` seconds; `limit` 0 is no limit.

    A caller who has been away may send `limit` at once, so any window sees at most twice the limit. Buckets of the
    callers not heard of for longest are dropped beyond 10,000: these have refilled long ago unless the server is
    flooded, and forgetting one only ever allows more.
    """

    def __init__(self, limit: int, window: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def spend(self, caller: Hashable) -> None:
        """Takes one request from the caller's bucket. Raises RateLimited with the seconds until there is one again."""
        if self._limit <= 0:
            return
        now = self._clock()
        rate = self._limit / self._window
        level, since = self._buckets.pop(caller, (float(self._limit), now))
        level = min(float(self._limit), level + (now - since) * rate)
        allowed = level >= 1.0
        self._buckets[caller] = (level - 1.0 if allowed else level, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise _exceeded(self._limit, self._window, (1.0 - level) / rate)

    def give_back(self, caller: Hashable) -> None:
        """Returns a request that was taken and then not let in."""
        if caller in self._buckets:
            level, since = self._buckets[caller]
            self._buckets[caller] = (min(float(self._limit), level + 1.0), since)


def _exceeded(limit: int, window: float, wait: float) -> RateLimited:
    return RateLimited(
        "Rate limit exceeded",
        remedy=f"at most {limit} requests in {window:g} s; try again in {math.ceil(wait)} s",
        retry_after=wait,
    )


class Shared(Protocol):
    """A rate that all replicas spend from."""

    async def wait(self, caller: str, limit: int, window: float) -> float:
        """Takes one request; 0.0, or the seconds until there is one. Raises SomaError where it cannot say."""


class FleetLimiter:
    """`RateLimiter`, and where there is a shared rate, one limit for all replicas together.

    The local bucket decides first: what one replica alone has seen too often, the fleet has too. Then the shared rate
    does. While it does not answer, each replica holds the limit by itself: n replicas let at most n times as much in.
    """

    def __init__(
        self, limit: int, window: float, shared: Shared | None = None, decided: Callable[[str], None] = lambda _: None
    ) -> None:
        """`decided` hears for each request who decided: `local`, `shared`, or `alone` (the shared rate was lost)."""
        self._limit = limit
        self._window = window
        self._local = RateLimiter(limit, window)
        self._shared = shared
        self._decided = decided

    async def spend(self, caller: tuple[str, ...]) -> None:
        """Takes one request. Raises RateLimited with the seconds until there is one again."""
        if self._limit <= 0:
            return
        try:
            self._local.spend(caller)
        except RateLimited:
            self._decided("local")
            raise
        if self._shared is None:
            self._decided("local")
            return
        try:
            wait = await self._shared.wait("\x1f".join(caller), self._limit, self._window)
        except SomaError:
            self._decided("alone")
            return
        self._decided("shared")
        if wait > 0.0:
            self._local.give_back(caller)
            raise _exceeded(self._limit, self._window, wait)
