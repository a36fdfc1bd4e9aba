"""PostgreSQL with Redis before it: written through both, read from Redis first, true to PostgreSQL.

Order of a write: mark in Redis, commit in PostgreSQL, put the value in Redis. Order of a read: Redis; where it has
nothing, is away or is slow, PostgreSQL, whose answer is then put in Redis. Nothing is acknowledged before PostgreSQL
has committed it, and nothing is ever read from Redis that PostgreSQL did not commit.

What a reader may see: with Redis reachable for writers, never a value older than the last acknowledged write. If a
writer cannot reach Redis, the write goes ahead; that process then reads the key from PostgreSQL until the entry has
expired, while other processes may read the old value until then: at most `ttl` seconds. The same bound holds where
Redis loses a mark (a fail-over, a wipe) in the moment of the write. `ttl` = 0 is not allowed: use PostgreSQL alone.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from memory_runtime.model.errors import SomaError
from memory_runtime.stores.interfaces import JsonValue
from memory_runtime.stores.keyvalue.postgres import PostgresKeyValueStore
from memory_runtime.stores.keyvalue.values import check_keys, check_ttl, decode, encode
from memory_runtime.stores.redis.connecting import RedisClient
from memory_runtime.stores.redis.marked import Entry, MarkedEntries
from memory_runtime.stores.resilience import Guard

_MOST_DOUBTED: Final = 100_000


class PostgresRedisHybridStore:
    """As durable as the truth (`PostgresKeyValueStore`), and as fast as Redis for what is read often."""

    def __init__(
        self,
        truth: PostgresKeyValueStore,
        client: RedisClient,
        guard: Guard,
        *,
        prefix: str = "soma:kvc:",
        ttl: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Owns `truth` and `client`. Entries live for `ttl` seconds.

        `guard` is Redis's: its attempt time-out is the longest that a call waits for Redis; 0.1 s is plenty.
        """
        self._truth, self._client, self._ttl, self._clock = truth, client, ttl, clock
        self._entries = MarkedEntries(client, guard, prefix=prefix)
        self._doubted: dict[str, float] = {}
        self._doubt_all_until = 0.0

    async def start(self) -> None:
        """Needs PostgreSQL; Redis may be away."""
        await self._truth.start()

    async def close(self) -> None:
        """Ends the connections to both."""
        await self._truth.close()
        await self._client.aclose()

    async def ping(self) -> bool:
        """Whether the truth answers: without Redis the store works, more slowly."""
        return await self._truth.ping()

    async def get(self, key: str) -> JsonValue | None:
        """Redis, else PostgreSQL."""
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, JsonValue]:
        """One round trip to Redis, and one to PostgreSQL for what it lacks."""
        wanted = check_keys(keys)
        cached = await self._look([key for key in wanted if not self._doubts(key)])
        missing = [key for key in wanted if key not in cached]
        found = await self._truth.get_expiring(missing) if missing else {}
        await self._fill(found)
        return cached | {key: value for key, (value, _) in found.items()}

    async def put(self, key: str, value: JsonValue, *, ttl: float | None = None) -> None:
        """PostgreSQL's time, and two round trips to Redis."""
        await self.put_many({key: value}, ttl=ttl)

    async def put_many(self, items: Mapping[str, JsonValue], *, ttl: float | None = None) -> None:
        """As `put`, for each 1,000 keys."""
        check_ttl(ttl)
        entries = {key: self._entry(value, ttl) for key, value in items.items()}
        token = await self._mark(check_keys(list(items)))
        await self._truth.put_many(items, ttl=ttl)
        await self._settle(token, entries)

    async def add(self, key: str, value: JsonValue, *, ttl: float | None = None) -> bool:
        """As `put`; the loser of a race leaves the entry to the next reader."""
        check_ttl(ttl)
        entry = self._entry(value, ttl)
        token = await self._mark(check_keys([key]))
        added = await self._truth.add(key, value, ttl=ttl)
        await self._settle(token, {key: entry if added else None})
        return added

    async def delete(self, key: str) -> bool:
        """As `put`; the mark stays, so that no reader can bring the value back."""
        return await self.delete_many([key]) == 1

    async def delete_many(self, keys: Sequence[str]) -> int:
        """As `delete`, for each 1,000 keys."""
        wanted = check_keys(keys)
        token = await self._mark(wanted)
        gone = await self._truth.delete_many(wanted)
        await self._settle(token, dict.fromkeys(wanted))
        return gone

    def scan(self, prefix: str = "") -> AsyncIterator[str]:
        """From the truth."""
        return self._truth.scan(prefix)

    async def _look(self, keys: Sequence[str]) -> dict[str, JsonValue]:
        if not keys:
            return {}
        try:
            return {key: decode(text) for key, (_, text) in (await self._entries.look(keys)).items()}
        except (SomaError, ValueError):
            return {}

    async def _fill(self, found: Mapping[str, tuple[JsonValue, float | None]]) -> None:
        entries = {key: self._entry(value, left) for key, (value, left) in found.items() if not self._doubts(key)}
        with suppress(SomaError):
            await self._entries.fill(entries)

    def _entry(self, value: JsonValue, ttl: float | None) -> Entry:
        return Entry(encode(value), self._ttl if ttl is None else min(self._ttl, ttl))

    async def _mark(self, keys: Sequence[str]) -> str | None:
        try:
            return await self._entries.mark(keys)
        except SomaError:
            until = self._clock() + self._ttl
            self._doubted.update(dict.fromkeys(keys, until))
            if len(self._doubted) > _MOST_DOUBTED:
                self._doubted.clear()
                self._doubt_all_until = until
            return None

    async def _settle(self, token: str | None, entries: Mapping[str, Entry | None]) -> None:
        if token is not None:
            with suppress(SomaError):  # the mark goes by itself, and readers ask PostgreSQL until then
                await self._entries.settle(token, entries)

    def _doubts(self, key: str) -> bool:
        if self._clock() < self._doubt_all_until:
            return True
        until = self._doubted.get(key)
        if until is not None and until <= self._clock():
            del self._doubted[key]
            return False
        return until is not None
