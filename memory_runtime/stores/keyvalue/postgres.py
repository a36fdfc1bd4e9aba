"""Key and value in PostgreSQL's `kv_store` (key TEXT, value JSONB), the table of the service that we replace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import asyncpg

from memory_runtime.settings import SettingsError
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
from memory_runtime.stores.resilience import Failure, Guard, Retry, socket_failure

T = TypeVar("T")
Connection = Any  # asyncpg ships without types
Connect = Callable[[], Awaitable[Connection]]

_TABLE: Final = "CREATE TABLE IF NOT EXISTS kv_store (key TEXT PRIMARY KEY, value JSONB NOT NULL)"
_PATTERN: Final = "CREATE INDEX IF NOT EXISTS idx_kv_key_pattern ON kv_store (key text_pattern_ops)"
_EXPIRY: Final = "ALTER TABLE kv_store ADD COLUMN IF NOT EXISTS expires_at TIMESTAMPTZ"
_LIVE: Final = "(expires_at IS NULL OR expires_at > clock_timestamp())"
_GET: Final = f"""
SELECT key, value, extract(epoch FROM expires_at - clock_timestamp())::float8 AS left FROM kv_store
WHERE key = ANY($1) AND {_LIVE}
"""  # noqa: S608
_PUT: Final = """
INSERT INTO kv_store (key, value, expires_at)
SELECT key, value::jsonb, clock_timestamp() + make_interval(secs => $3)
FROM unnest($1::text[], $2::text[]) AS given(key, value)
ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, expires_at = EXCLUDED.expires_at
"""
_ADD: Final = f"{_PUT} WHERE NOT (kv_store.expires_at IS NULL OR kv_store.expires_at > clock_timestamp()) RETURNING key"
_DELETE: Final = f"DELETE FROM kv_store WHERE key = ANY($1) RETURNING {_LIVE} AS live"  # noqa: S608
# ~>~ compares bytes whatever the collation, and is what an index with text_pattern_ops can walk
_SCAN: Final = f"""
SELECT key FROM kv_store WHERE key ~>~ $1 AND ($2::text IS NULL OR key ~<~ $2) AND {_LIVE}
ORDER BY key USING ~<~ LIMIT {BATCH}
"""  # noqa: S608 -- only our own constants


def postgres_failure(error: Exception) -> Failure | None:
    """What asyncpg's errors mean to the guard."""
    state = str(getattr(error, "sqlstate", None) or "")
    if state in {"40001", "40P01", "55P03"}:  # serialization, deadlock, lock not available: undone
        return Failure.CONTENDED
    if state in {"53300", "57P03", "25006"}:  # too many connections, starting up, read-only: nothing was done
        return Failure.UNSENT
    if state[:2] in {"08", "53", "57", "58"}:
        return Failure.AWAY
    if isinstance(error, asyncpg.PostgresError):
        return Failure.REFUSED
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return Failure.AWAY  # "connection is closed", and what a broken stream looks like
    return socket_failure(error)


class PostgresKeyValueStore:
    """Durable: what `put` returned for survives a crash of the server, with synchronous_commit on.

    Reads what the old service wrote. Expiry is by the database's clock, in a column of our own (`expires_at`, added
    where it is absent); `sweep` gives back the room of what has expired. `put_many` is one statement for 1,000 keys.
    """

    def __init__(self, connect: Connect, guard: Guard, *, pool_size: int = 15) -> None:
        """`connect` opens one connection, with its time-outs and TLS: `asyncpg.connect`'s answer."""
        self._connect, self._guard, self._pool_size = connect, guard, pool_size
        self._pool: Any = None
        self._closed = False

    async def start(self) -> None:
        """Opens the pool; makes table, index and column where absent. Raises SettingsError, Unavailable."""
        if self._pool is None and not self._closed:
            # the pool hands on arguments that belong to asyncpg.connect; ours has its own
            self._pool = await asyncpg.create_pool(
                connect=lambda *_, **__: self._connect(), min_size=0, max_size=self._pool_size
            )
        try:
            await self._run("prepare", self._prepare, Retry.SAFE)
        except asyncpg.InsufficientPrivilegeError:
            raise SettingsError(
                "postgres_url: its user may not make kv_store",
                setting="postgres_url",
                remedy="grant CREATE, or run 'soma migrate' as the table's owner",
            ) from None

    async def close(self) -> None:
        """Ends every connection; calls under way are cut off after a second."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 1.0)
            except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                pool.terminate()

    async def ping(self) -> bool:
        """On a connection of the pool that is free; False, where none is within a second."""
        pool = self._pool
        if pool is None:
            return False
        with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(1.0), pool.acquire() as connection:
                return bool(await connection.fetchval("SELECT TRUE"))
        return False

    async def get(self, key: str) -> JsonValue | None:
        """One round trip, one index lookup."""
        return (await self.get_many([key])).get(key)

    async def get_many(self, keys: Sequence[str]) -> dict[str, JsonValue]:
        """One statement for each 1,000 keys."""
        return {key: value for key, (value, _) in (await self.get_expiring(keys)).items()}

    async def get_expiring(self, keys: Sequence[str]) -> dict[str, tuple[JsonValue, float | None]]:
        """As `get_many`, each value with the seconds that it has left; None where it stays."""
        found: dict[str, tuple[JsonValue, float | None]] = {}
        for run in batches(check_keys(keys)):
            rows = await self._fetch("get_many", Retry.SAFE, _GET, run)
            found |= {row["key"]: (decode(row["value"]), row["left"]) for row in rows}
        return found

    async def put(self, key: str, value: JsonValue, *, ttl: float | None = None) -> None:
        """One upsert."""
        await self.put_many({key: value}, ttl=ttl)

    async def put_many(self, items: Mapping[str, JsonValue], *, ttl: float | None = None) -> None:
        """One upsert for each 1,000 keys, in order of key: two callers' rows are locked in one order."""
        seconds = check_ttl(ttl)
        texts = {check_key(key): encode(value) for key, value in items.items()}
        for run in batches(sorted(texts)):
            await self._fetch("put_many", Retry.SAFE, _PUT, run, [texts[key] for key in run], seconds)

    async def add(self, key: str, value: JsonValue, *, ttl: float | None = None) -> bool:
        """One statement; an expired row counts as missing."""
        seconds, text = check_ttl(ttl), encode(value)
        return bool(await self._fetch("add", Retry.UNSENT, _ADD, [check_key(key)], [text], seconds))

    async def delete(self, key: str) -> bool:
        """One statement."""
        return await self.delete_many([key]) == 1

    async def delete_many(self, keys: Sequence[str]) -> int:
        """One statement for each 1,000 keys."""
        gone = 0
        for run in batches(sorted(check_keys(keys))):
            gone += sum(row["live"] for row in await self._fetch("delete_many", Retry.SAFE, _DELETE, run))
        return gone

    async def scan(self, prefix: str = "") -> AsyncIterator[str]:
        """In order of key's bytes, a page of 1,000 at a time by the pattern index: O(keys with the prefix)."""
        after, end = is_prefix(prefix), _end(prefix)
        if after and await self.get_many([after]):  # the pages begin after a key: the prefix may be one itself
            yield after
        while rows := await self._fetch("scan", Retry.SAFE, _SCAN, after, end):
            for row in rows:
                yield row["key"]
            after = rows[-1]["key"]

    async def sweep(self, most: int = 10_000) -> int:
        """Removes up to `most` expired rows and says how many there were."""
        sql = (
            "WITH gone AS (SELECT key FROM kv_store WHERE expires_at <= clock_timestamp() LIMIT $1 FOR UPDATE SKIP"
            " LOCKED) DELETE FROM kv_store USING gone WHERE kv_store.key = gone.key RETURNING kv_store.key"
        )
        return len(await self._fetch("sweep", Retry.SAFE, sql, most))

    async def _prepare(self, connection: Connection) -> None:
        columns = await connection.fetch(
            "SELECT attname FROM pg_attribute"
            " WHERE attrelid = to_regclass('kv_store') AND attnum > 0 AND NOT attisdropped"
        )
        names = {row["attname"] for row in columns}
        if not names:
            await connection.execute(f"{_TABLE}; {_PATTERN}")
        if "expires_at" not in names:
            # the catalogue alone changes; the old service's statements go on working
            await connection.execute(_EXPIRY)

    async def _fetch(self, operation: str, retry: Retry, sql: str, *values: Any) -> list[Any]:
        return await self._run(operation, lambda connection: connection.fetch(sql, *values), retry)

    async def _run(self, operation: str, call: Callable[[Connection], Awaitable[T]], retry: Retry) -> T:
        pool = self._pool
        if pool is None:
            raise closed("postgres")

        async def on_a_connection() -> T:
            async with pool.acquire() as connection:
                return await call(connection)

        return await self._guard.run(operation, on_a_connection, retry=retry)


def _end(prefix: str) -> str | None:
    """The first text after every text with the prefix, in order of bytes; None where there is none."""
    while prefix:
        last = ord(prefix[-1]) + 1
        if last == 0xD800:
            last = 0xE000  # surrogates are no characters
        if last <= 0x10FFFF:
            return prefix[:-1] + chr(last)
        prefix = prefix[:-1]
    return None
