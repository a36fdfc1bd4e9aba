"""One rate for a caller over all replicas: the generic cell rate algorithm (GCRA), one script in Redis a request.

Redis keeps one number for each caller who is not at rest: the theoretical arrival time, when its bucket is full again.
Time is Redis' own, so the replicas' clocks do not matter.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from memory_runtime.stores.redis.connecting import RedisClient
from memory_runtime.stores.resilience import Guard, Retry

# A clock that was set back (a fail-over to another server) must not lock anybody out: hence the bound on `full`.
_SPEND: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
if full < now then full = now elseif full > now + window then full = now + window end
local next = full + each
if next > now + window then return next - now - window end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return 0
"""
_MICROSECONDS: Final = 1_000_000


class SharedRate:
    """Asks Redis whether a caller may send one request more."""

    def __init__(self, client: RedisClient, guard: Guard, *, prefix: str = "soma:rate:") -> None:
        self._client = client
        self._guard = guard
        self._prefix = prefix

    async def wait(self, caller: str, limit: int, window: float) -> float:
        """Takes one request of `limit` in `window` seconds; 0.0 where there was one, else the seconds until there is.

        Raises Unavailable, Internal or DeadlineExceeded where Redis does not say.
        """
        # a key must not repeat an address or a tenant's name, nor be as long as one
        key = self._prefix + hashlib.sha256(caller.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        each = max(1, round(window * _MICROSECONDS / limit))

        async def ask() -> Any:
            return await self._client.eval(_SPEND, 1, key, str(each), str(each * limit))

        # a script that may have run has taken its request: asking again would take two
        return float(await self._guard.run("rate", ask, retry=Retry.UNSENT)) / _MICROSECONDS

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()
