"""The cache of hot reads: what it answers, what it must never answer, and that losing Redis costs speed only."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import statistics
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from hack.services import FaultProxy, Service, start_redis
from memory_runtime.engine import MemoryEngine, RecallRequest, build_engine
from memory_runtime.engine.cache.entries import as_record, as_text
from memory_runtime.model.errors import NotFound
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SMFSettings
from memory_runtime.tests.stores.conftest import or_unavailable

pytestmark = pytest.mark.integration

HOME = Scope("acme", "notes")
Open = Callable[..., Awaitable[MemoryEngine]]


@pytest.fixture
async def open_cached(tmp_path: Path, redis_service: Service) -> AsyncIterator[Open]:
    opened: list[MemoryEngine] = []

    async def opener(
        url: str = redis_service.url, *, clock: Callable[[], float] = time.time, **settings: Any
    ) -> MemoryEngine:
        values = {"data_dir": tmp_path / "data", "embedding_provider": "hash", "vector_dim": 64, "redis_url": url}
        engine = build_engine(SMFSettings(**(values | {"cache_timeout_ms": 250} | settings)), clock=clock)
        opened.append(engine)
        await engine.start()
        return engine

    yield opener
    for engine in opened:
        await engine.close()


def item(text: str, *place: float, **more: Any) -> StoreItem:
    return StoreItem(coordinate=place or (1.0, 2.0), payload={"text": text}, **more)


async def store(engine: MemoryEngine, one: StoreItem, scope: Scope = HOME) -> None:
    await engine.store(scope, one)
    await engine.cache.idle()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for it, up to ten seconds: other tests may have the machine."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


def lookups(engine: MemoryEngine, result: str) -> float:
    return engine.metrics.registry.get_sample_value("soma_cache_lookups_total", {"result": result}) or 0.0


async def read(engine: MemoryEngine, *place: float, scope: Scope = HOME, memory_type: str | None = None) -> str | None:
    try:
        record = await engine.get(scope, place or (1.0, 2.0), memory_type)
    except NotFound:
        return None
    await engine.cache.idle()
    return str(record.payload["text"])


async def recalled(engine: MemoryEngine, query: str, scope: Scope = HOME) -> list[str]:
    found = await engine.recall(scope, RecallRequest(query=query, top_k=5))
    await engine.cache.idle()
    return [str(hit.record.payload["text"]) for hit in found.hits]


async def test_the_second_read_is_a_hit_by_coordinate_by_type_and_in_recall(open_cached: Open) -> None:
    engine = await open_cached()
    await store(engine, item("Ann lives in Lisbon", memory_type="semantic"))
    assert [await read(engine) for _ in range(2)] == ["Ann lives in Lisbon"] * 2
    assert lookups(engine, "hit") == 1
    assert await read(engine, memory_type="semantic") == "Ann lives in Lisbon"
    assert await recalled(engine, "where does Ann live") == ["Ann lives in Lisbon"]
    assert lookups(engine, "hit") == 3
    ratio = engine.metrics.registry.get_sample_value("soma_cache_hit_ratio")
    assert ratio is not None
    assert 0.5 <= ratio < 1.0


async def test_a_cached_record_is_the_record(open_cached: Open) -> None:
    engine = await open_cached()
    more = {"importance": 3.5, "timestamp": 1.75e9, "pinned": True, "features": {"a": 0.5}}
    await store(engine, StoreItem((0.1, -2.0), {"text": "Zürich 🗻", "n": [1, 2.5, None, 2**70]}, **more))  # type: ignore[arg-type]
    fresh = await engine.get(HOME, (0.1, -2.0))
    await engine.cache.idle()
    again = await engine.get(HOME, (0.1, -2.0))
    assert lookups(engine, "hit") == 1
    assert dataclasses.asdict(again) == dataclasses.asdict(fresh)
    assert as_record("{}") is as_record("") is None
    assert as_text(dataclasses.replace(fresh, payload={"text": "x" * 300_000})) is None


async def test_an_update_and_a_delete_are_seen_at_once(open_cached: Open) -> None:
    engine = await open_cached()
    for n in range(5):
        await store(engine, item(f"version {n}"))
        assert [await read(engine), await read(engine)] == [f"version {n}"] * 2
        assert await recalled(engine, "version") == [f"version {n}"]
    await engine.delete(HOME, (1.0, 2.0))
    assert await read(engine) is None
    assert await recalled(engine, "version") == []
    await store(engine, item("again"))
    assert await read(engine) == "again"


async def test_of_two_types_at_a_coordinate_the_newest_is_read(open_cached: Open) -> None:
    engine = await open_cached()
    await store(engine, item("first", memory_type="episodic"))
    assert await read(engine) == "first"
    await store(engine, item("second", memory_type="semantic"))
    assert [await read(engine), await read(engine)] == ["second", "second"]
    await engine.delete(HOME, (1.0, 2.0), "semantic")
    assert [await read(engine), await read(engine)] == ["first", "first"]


async def test_an_expired_memory_is_not_given_however_long_its_entry_lives(open_cached: Open) -> None:
    now = 1.75e9
    engine = await open_cached(clock=lambda: now)
    await store(engine, item("short", ttl=60.0))
    assert [await read(engine), await read(engine)] == ["short", "short"]
    assert lookups(engine, "hit") == 1
    now += 60.0
    assert await read(engine) is None
    assert await recalled(engine, "short") == []


async def test_what_is_not_there_is_not_cached(open_cached: Open, redis_service: Service) -> None:
    engine = await open_cached()
    assert [await read(engine, 9.0, 9.0) for _ in range(3)] == [None] * 3
    assert await read(engine, 9.0, 9.0, memory_type="semantic") is None
    async with redis.asyncio.from_url(redis_service.url) as client:
        assert not [key async for key in client.scan_iter(f"{_prefix(engine)}*")]


async def test_a_new_memory_costs_redis_its_coordinate_and_an_update_its_record_too(
    open_cached: Open, redis_service: Service
) -> None:
    """Of a memory that never was there is no entry; one that is stored again after a delete is not such a memory."""
    engine = await open_cached()

    async def kinds() -> list[str]:
        async with redis.asyncio.from_url(redis_service.url, decode_responses=True) as client:
            names = [key async for key in client.scan_iter(f"{_prefix(engine)}*")]
            await client.delete(*names)
        return sorted(name.split(":")[-2] for name in names)

    await store(engine, item("first"))
    assert await kinds() == ["c"]
    await store(engine, item("second"))
    assert await kinds() == ["c", "r"]
    await engine.delete(HOME, (1.0, 2.0))
    assert await kinds() == ["r"]
    await store(engine, item("third"))
    assert await kinds() == ["c", "r"]
    assert await read(engine) == "third"


async def test_nothing_crosses_tenants_even_if_an_entry_is_put_under_anothers_key(
    open_cached: Open, redis_service: Service
) -> None:
    engine = await open_cached()
    other = Scope("rival", "notes")
    await store(engine, item("Acme's secret", memory_type="semantic"))
    await store(engine, item("Rival's own", memory_type="semantic"), other)
    assert await read(engine, memory_type="semantic") == "Acme's secret"
    assert await read(engine, scope=other, memory_type="semantic") == "Rival's own"
    async with redis.asyncio.from_url(redis_service.url, decode_responses=True) as client:
        names = [key async for key in client.scan_iter(f"{_prefix(engine)}*:r:*")]
        held = {name: await client.get(name) for name in names}
        assert len(names) == 2
        for name in names:  # each under the other's key
            (foreign,) = (text for there, text in held.items() if there != name)
            await client.set(name, foreign)
    assert await read(engine, scope=other, memory_type="semantic") == "Rival's own"
    assert await read(engine, memory_type="semantic") == "Acme's secret"


async def test_old_contents_of_redis_resurrect_nothing(open_cached: Open, redis_service: Service) -> None:
    """Redis comes back from a backup of before the delete and the update: what it holds is recognised as old."""
    engine = await open_cached()
    await store(engine, item("deleted later", 1.0))
    await store(engine, item("updated later", 2.0))
    assert [await read(engine, 1.0), await read(engine, 2.0)] == ["deleted later", "updated later"]
    async with redis.asyncio.from_url(redis_service.url, decode_responses=True) as client:
        names = [key async for key in client.scan_iter(f"{_prefix(engine)}*")]
        before = {name: await client.get(name) for name in names}
        await engine.delete(HOME, (1.0,))
        await store(engine, item("updated", 2.0))
        await engine.cache.idle()
        for name, text in before.items():
            await client.set(name, text)
    assert await read(engine, 1.0) is None
    assert await read(engine, 2.0) == "updated"
    assert lookups(engine, "stale") >= 2
    assert await recalled(engine, "deleted updated later") == ["updated"]


async def test_without_redis_in_the_settings_nothing_is_cached(open_cached: Open) -> None:
    for settings in ({"redis_url": None}, {"cache_ttl_seconds": 0}):
        engine = await open_cached(**settings)
        await store(engine, item("plain"))
        assert [await read(engine), await read(engine)] == ["plain"] * 2
        assert lookups(engine, "hit") == lookups(engine, "miss") == 0
        await engine.close()


async def test_the_cache_can_be_switched_off_and_on_while_it_serves(open_cached: Open) -> None:
    engine = await open_cached()
    await store(engine, item("before"))
    assert [await read(engine) for _ in range(2)] == ["before"] * 2
    engine.reload(engine.settings.model_copy(update={"cache_enabled": False}))
    looked = {result: lookups(engine, result) for result in ("hit", "miss")}
    await store(engine, item("meanwhile"))
    assert await read(engine) == "meanwhile"
    assert await recalled(engine, "meanwhile") == ["meanwhile"]
    assert {result: lookups(engine, result) for result in ("hit", "miss")} == looked
    engine.reload(engine.settings.model_copy(update={"cache_enabled": True}))
    assert [await read(engine) for _ in range(2)] == ["meanwhile"] * 2, "not what was cached before"
    assert lookups(engine, "hit") == looked["hit"] + 1


@contextlib.asynccontextmanager
async def load(engine: MemoryEngine) -> AsyncIterator[list[float]]:
    """Reads, writes and deletes while the context lasts; every read must be right. Gives each read's seconds."""
    truth: dict[int, int | None] = {}
    seconds: list[float] = []
    over = asyncio.Event()

    async def run() -> None:
        for n in itertools.count():
            if over.is_set():
                return
            place = n % 5
            if n % 11 == 10:
                await engine.delete(HOME, (float(place),))
                truth[place] = None
            elif n % 4 == 0 or place not in truth:
                await engine.store(HOME, item(f"{n}", float(place)))
                truth[place] = n
            began = time.monotonic()
            try:
                found: str | None = str((await engine.get(HOME, (float(place),))).payload["text"])
            except NotFound:
                found = None
            seconds.append(time.monotonic() - began)
            expected = truth[place]
            assert found == (None if expected is None else str(expected))
            await asyncio.sleep(0)

    task = asyncio.create_task(run())
    try:
        yield seconds
    finally:
        over.set()
        await task


async def test_redis_killed_wiped_and_started_again_under_load_costs_speed_only(
    open_cached: Open, tmp_path: Path
) -> None:
    with or_unavailable():
        service = await asyncio.to_thread(start_redis, tmp_path / "own-redis", "--appendonly", "no", "--save", "")
    try:
        engine = await open_cached(service.url, cache_timeout_ms=100)
        async with load(engine) as reads:
            await until(lambda: lookups(engine, "hit") > 5, "the cache is used")
            await asyncio.to_thread(service.kill)
            so_far = len(reads)
            await until(lambda: lookups(engine, "away") > 0 and len(reads) > so_far + 20, "reads go on without it")
            await asyncio.to_thread(service.start)  # with no file to read: wiped
            hits = lookups(engine, "hit")
            await until(lambda: lookups(engine, "hit") > hits + 5, "it is used again without a restart of ours")
            async with redis.asyncio.from_url(service.url) as client:
                await client.flushall()
            hits = lookups(engine, "hit")
            await until(lambda: lookups(engine, "hit") > hits + 5, "and filled again after a wipe")
    finally:
        service.stop()


async def test_a_slow_or_silent_redis_is_soon_not_waited_for(open_cached: Open, redis_service: Service) -> None:
    with FaultProxy.before(redis_service.url) as proxy:
        engine = await open_cached(proxy.url(redis_service.url), cache_timeout_ms=50)

        def circuit() -> float | None:
            return engine.metrics.registry.get_sample_value("soma_backend_circuit_state", {"adapter": "redis"})

        async with load(engine) as reads:
            await until(lambda: lookups(engine, "hit") > 5, "the cache is used")
            proxy.latency = 2.0
            await until(lambda: circuit() == 2.0, "the circuit opens")
            proxy.stall()
            so_far = len(reads)
            await until(lambda: len(reads) > so_far + 100, "reads go on")
            assert statistics.median(reads[so_far:]) < 0.05, "most reads do not wait for Redis at all"
            proxy.heal()
            hits = lookups(engine, "hit")
            await until(lambda: lookups(engine, "hit") > hits + 5, "it is used again")


@pytest.fixture
async def open_replica(tmp_path: Path, redis_service: Service, postgres_service: Service) -> AsyncIterator[Open]:
    """Replicas of one ledger on PostgreSQL, a fresh database for the test."""
    opened: list[MemoryEngine] = []
    name = f"cache_{uuid.uuid4().hex[:12]}"
    owner = await asyncpg.connect(postgres_service.url)
    await owner.execute(f"CREATE DATABASE {name}")

    async def opener(**settings: Any) -> MemoryEngine:
        values: dict[str, Any] = {
            "mode": "distributed",
            "postgres_url": f"{postgres_service.url.rpartition('/')[0]}/{name}",
            "postgres_migrate_at_start": True,
            "postgres_pool_size": 6,
            "redis_url": redis_service.url,
            "cache_timeout_ms": 250,
            "data_dir": tmp_path / f"replica-{len(opened)}",
            "embedding_provider": "hash",
            "vector_dim": 64,
        }
        engine = build_engine(SMFSettings(**(values | settings)))
        opened.append(engine)
        await engine.start()
        return engine

    yield opener
    for engine in opened:
        await engine.close()
    await owner.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await owner.close()


async def test_replicas_share_entries_and_one_that_lags_gives_nothing_that_another_deleted(open_replica: Open) -> None:
    one, two = await open_replica(), await open_replica()
    assert one.cache._space == two.cache._space
    for n in range(3):
        await store(one, item(f"kept {n}", float(n)))
    await until(lambda: two.follower.applied_seq >= one.follower.applied_seq, "the second follows")
    assert [await read(one, float(n)) for n in range(3)] == ["kept 0", "kept 1", "kept 2"]
    assert [await read(two, float(n)) for n in range(3)] == ["kept 0", "kept 1", "kept 2"]
    assert lookups(two, "hit") == 3, "what the first read and cached"
    assert len(await recalled(two, "kept")) == 3
    held = threading.Event()
    # the thread that alone follows the ledger: the second replica hears of nothing until it is let go
    stuck = asyncio.create_task(two.ledger.exclusively(lambda _: held.wait(20)))
    try:
        await asyncio.sleep(0.05)
        await one.delete(HOME, (0.0,))
        await one.store(HOME, item("changed", 1.0))
        assert two.follower.applied_seq < one.follower.applied_seq
        assert [await read(two, float(n)) for n in range(3)] == [None, "changed", "kept 2"]
        assert sorted(await recalled(two, "kept changed")) == ["changed", "kept 2"]
    finally:
        held.set()
        await stuck


async def test_another_database_on_the_same_redis_shares_nothing(open_replica: Open, open_cached: Open) -> None:
    distributed, embedded = await open_replica(), await open_cached()
    await store(distributed, item("theirs"))
    assert await read(distributed) == "theirs"
    assert distributed.cache._space != embedded.cache._space
    assert await read(embedded) is None


def _prefix(engine: MemoryEngine) -> str:
    return f"soma:cache:{engine.cache._space}:"
