"""How often a caller may call: one token bucket a caller, in process, of bounded number."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from memory_runtime.model.errors import RateLimited

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
            wait = (1.0 - level) / rate
            raise RateLimited(
                "Rate limit exceeded",
                remedy=f"at most {self._limit} requests in {self._window:g} s; try again in {math.ceil(wait)} s",
                retry_after=wait,
            )
