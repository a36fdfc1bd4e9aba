"""Key and value in Redis: JSON text under a prefix, Redis's own expiry, pipelines for many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError

from memory_runtime.stores.interfaces import JsonValue
from memory_runtime.stores.keyvalue.values import (
    BATCH,
    batches,
    check_key,
    check_keys,
    check_ttl,
    closed,
    decode,
    encode,
    is_prefix,
)
from memory_runtime.stores.redis.connecting import RedisClient
from memory_runtime.stores.resilience import Guard, Retry

T = TypeVar("T")


class RedisKeyValueStore:
    """Survives what Redis survives: with its append-only file, all but the last second; without one, nothing.

    Keys are `prefix` + key; give an ACL user that pattern. One key is linearizable on one primary; a fail-over of
    Sentinel or of the cluster may lose the last acknowledged writes, as Redis replicates after it has answered.
    """

    def __init__(self, client: RedisClient, guard: Guard, *, prefix: str = "soma:kv:") -> None:
        """Owns `client`. Nothing connects before the first call."""
        self._client, self._guard, self._prefix = client, guard, prefix
        self._closed = False

    async def start(self) -> None:
        """Connects, so that a wrong address is known now. Raises Unavailable or Internal."""
        await self._run("ping", self._ping, Retry.SAFE)

    async def close(self) -> None:
        """Ends every connection."""
        self._closed = True
        with suppress(RedisError, OSError, TimeoutError):
            await asyncio.wait_for(self._client.aclose(), 1.0)

    async def ping(self) -> bool:
        """Past the guard: an open circuit must not hide that Redis is back."""
        try:
            async with asyncio.timeout(1.0):
                return not self._closed and bool(await self._ping())
        except (RedisError, OSError, TimeoutError):
            return False

    async def get(self, key: str) -> JsonValue | None:
        """One round trip."""
        name = self._prefix + check_key(key)
        text: Any = await self._run("get", lambda: self._client.get(name), Retry.SAFE)
        return None if text is None else decode(text)

    async def get_many(self, keys: Sequence[str]) -> dict[str, JsonValue]:
        """A pipeline for each 1,000 keys."""
        found: dict[str, JsonValue] = {}
        for run in batches(check_keys(keys)):
            texts = await self._pipelined("get_many", [("GET", self._prefix + key) for key in run])
            found |= {key: decode(text) for key, text in zip(run, texts, strict=True) if text is not None}
        return found

    async def put(self, key: str, value: JsonValue, *, ttl: float | None = None) -> None:
        """One round trip."""
        command = ("SET", self._prefix + check_key(key), encode(value), *_expiry(ttl))
        await self._run("put", lambda: self._client.execute_command(*command), Retry.SAFE)

    async def put_many(self, items: Mapping[str, JsonValue], *, ttl: float | None = None) -> None:
        """A pipeline for each 1,000 keys."""
        expiry = _expiry(ttl)
        texts = {check_key(key): encode(value) for key, value in items.items()}
        for run in batches(list(texts)):
            await self._pipelined("put_many", [("SET", self._prefix + key, texts[key], *expiry) for key in run])

    async def add(self, key: str, value: JsonValue, *, ttl: float | None = None) -> bool:
        """SET … NX: one round trip."""
        command = ("SET", self._prefix + check_key(key), encode(value), "NX", *_expiry(ttl))
        done = await self._run("add", lambda: self._client.execute_command(*command), Retry.UNSENT)
        return done is not None

    async def delete(self, key: str) -> bool:
        """One round trip."""
        name = self._prefix + check_key(key)
        return bool(await self._run("delete", lambda: self._client.delete(name), Retry.SAFE))

    async def delete_many(self, keys: Sequence[str]) -> int:
        """A pipeline for each 1,000 keys."""
        gone = 0
        for run in batches(check_keys(keys)):
            gone += sum(await self._pipelined("delete_many", [("DEL", self._prefix + key) for key in run]))
        return gone

    async def scan(self, prefix: str = "") -> AsyncIterator[str]:
        """SCAN through every primary: O(all keys of Redis). Redis may give a key twice while it grows."""
        pattern = "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in self._prefix + is_prefix(prefix)) + "*"
        nodes = self._client.get_primaries() if isinstance(self._client, RedisCluster) else [None]
        for node in nodes:
            cursor = 0
            while True:
                cursor, names = await self._page(node, cursor, pattern)
                for name in names:
                    yield name.removeprefix(self._prefix)
                if not cursor:
                    break

    async def _page(self, node: Any, cursor: int, pattern: str) -> tuple[int, list[str]]:
        where = {} if node is None else {"target_nodes": node}
        answer: Any = await self._run(
            "scan", lambda: self._client.scan(cursor, match=pattern, count=BATCH, **where), Retry.SAFE
        )
        following, names = answer
        # a cluster answers with the cursor of each node asked
        return (next(iter(following.values())) if isinstance(following, dict) else int(following)), names

    async def _ping(self) -> Any:
        if isinstance(self._client, RedisCluster):
            return await self._client.ping(target_nodes=RedisCluster.RANDOM)
        return await self._client.ping()

    async def _pipelined(self, operation: str, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        async def send() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute())

        return await self._run(operation, send, Retry.SAFE)

    async def _run(self, operation: str, call: Callable[[], Awaitable[T]], retry: Retry) -> T:
        if self._closed:
            raise closed("redis")
        return await self._guard.run(operation, call, retry=retry)


def _expiry(ttl: float | None) -> tuple[str, ...]:
    seconds = check_ttl(ttl)
    return () if seconds is None else ("PX", str(max(1, round(seconds * 1000))))
