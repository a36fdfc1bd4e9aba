"""Key and value in this process's memory: for tests, and where nothing need survive. Bounded."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from memory_runtime.model.errors import Unavailable
from memory_runtime.stores.interfaces import JsonValue
from memory_runtime.stores.keyvalue.values import check_key, check_keys, check_ttl, closed, decode, encode, is_prefix

_Entry = tuple[str, float | None]


class InMemoryKeyValueStore:
    """Values are kept as JSON text, so that no caller can change another's. Gone with the process.

    At most `most` keys: a put of a new one beyond that raises Unavailable, once what has expired is gone.
    """

    def __init__(self, *, most: int = 1_000_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._entries: dict[str, _Entry] = {}
        self._closed = False

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Forgets everything."""
        self._closed = True
        self._entries.clear()

    async def ping(self) -> bool:
        """Whether it is open."""
        return not self._closed

    async def get(self, key: str) -> JsonValue | None:
        """O(1)."""
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, JsonValue]:
        """O(n)."""
        live = ((key, self._live(key)) for key in check_keys(keys))
        return {key: decode(text) for key, text in live if text is not None}

    async def put(self, key: str, value: JsonValue, *, ttl: float | None = None) -> None:
        """O(1)."""
        await self.put_many({key: value}, ttl=ttl)

    async def put_many(self, items: Mapping[str, JsonValue], *, ttl: float | None = None) -> None:
        """O(n), all or none."""
        self._check_open()
        seconds = check_ttl(ttl)
        until = None if seconds is None else self._clock() + seconds
        entries: dict[str, _Entry] = {check_key(key): (encode(value), until) for key, value in items.items()}
        if len(self._entries) + len(entries) > self._most:
            self._sweep()
            if len(self._entries.keys() | entries.keys()) > self._most:
                raise Unavailable(f"memory: holds {self._most} keys already", remedy="delete some")
        self._entries.update(entries)

    async def add(self, key: str, value: JsonValue, *, ttl: float | None = None) -> bool:
        """O(1)."""
        if self._live(check_key(key)) is not None:
            return False
        await self.put(key, value, ttl=ttl)
        return True

    async def delete(self, key: str) -> bool:
        """O(1)."""
        return await self.delete_many([key]) == 1

    async def delete_many(self, keys: Sequence[str]) -> int:
        """O(n)."""
        there = [key for key in check_keys(keys) if self._live(key) is not None]
        for key in there:
            del self._entries[key]
        return len(there)

    async def scan(self, prefix: str = "") -> AsyncIterator[str]:
        """O(all keys)."""
        is_prefix(prefix)
        self._check_open()
        for key in [key for key in self._entries if key.startswith(prefix)]:
            if self._live(key) is not None:
                yield key

    def _live(self, key: str) -> str | None:
        self._check_open()
        text, until = self._entries.get(key, (None, None))
        if until is not None and until <= self._clock():
            del self._entries[key]
            return None
        return text

    def _sweep(self) -> None:
        for key in list(self._entries):
            self._live(key)

    def _check_open(self) -> None:
        if self._closed:
            raise closed("memory")
