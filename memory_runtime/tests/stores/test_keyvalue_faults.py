"""Key-value stores whose back ends die, hang, move and come back; and what a wrong setting is told."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from hack.services import (
    Authority,
    FaultProxy,
    RedisCluster,
    Service,
    start_redis_sentinels,
    start_redis_tls,
)
from hack.services.redis import MASTER
from memory_runtime.model.errors import DeadlineExceeded, Internal, SomaError, Unavailable
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.interfaces import IKeyValueStore
from memory_runtime.stores.keyvalue.building import build_key_value_store
from memory_runtime.stores.keyvalue.hybrid import PostgresRedisHybridStore
from memory_runtime.stores.keyvalue.memory import InMemoryKeyValueStore
from memory_runtime.stores.keyvalue.postgres import PostgresKeyValueStore
from memory_runtime.stores.keyvalue.redis import RedisKeyValueStore
from memory_runtime.stores.redis.connecting import redis_target
from memory_runtime.stores.resilience import BreakerPolicy, deadline_after
from memory_runtime.tests.stores.conftest import or_unavailable, postgres_store, redis_store, target

pytestmark = pytest.mark.integration


async def until_it_answers(store: IKeyValueStore, key: str, expected: Any, seconds: float = 60.0) -> None:
    """Asks until the store gives that answer; errors on the way are SomaErrors and nothing else."""
    ends = time.monotonic() + seconds
    while True:
        try:
            found = await store.get(key)
        except SomaError:
            found = None
        if found == expected:
            return
        assert time.monotonic() < ends, f"{key} is {found!r}"
        await asyncio.sleep(0.05)


async def test_redis_cut_off_and_back_is_used_again_without_a_restart(redis_service: Service) -> None:
    with FaultProxy.before(redis_service.url) as proxy:
        where = target(proxy.url(redis_service.url), redis_timeout_seconds=0.2)
        store = redis_store(where)
        await store.start()
        await store.put("k", 1)
        proxy.cut()
        with pytest.raises(Unavailable) as caught:
            await store.get("k")
        assert "redis" in caught.value.message
        assert where.login["password"] not in str(caught.value.body())
        assert not await store.ping()
        proxy.heal()
        await until_it_answers(store, "k", 1)
        await store.close()


async def test_a_connection_that_was_reset_is_made_anew_within_the_call(redis_service: Service) -> None:
    with FaultProxy.before(redis_service.url) as proxy:
        store = redis_store(target(proxy.url(redis_service.url)))
        await store.put("k", 1)
        proxy.drop()
        assert await store.get("k") == 1, "a read is repeated"
        proxy.drop()
        await store.put("k", 2)
        assert await store.get("k") == 2, "and so is a put"
        await store.close()


async def test_a_silent_redis_ends_a_call_by_its_time_out_and_by_the_callers_deadline(redis_service: Service) -> None:
    with FaultProxy.before(redis_service.url) as proxy:
        store = redis_store(target(proxy.url(redis_service.url), redis_timeout_seconds=0.3))
        await store.put("k", 1)
        proxy.stall()
        began = time.monotonic()
        with deadline_after(0.1), pytest.raises(DeadlineExceeded):
            await store.get("k")
        with pytest.raises(Unavailable):
            await store.get("k")
        assert time.monotonic() - began < 5.0
        proxy.heal()
        await until_it_answers(store, "k", 1)
        await store.close()


async def test_redis_over_tls_with_client_certificate_and_acl_user(tmp_path: Path, authority: Authority) -> None:
    with or_unavailable():
        service = await asyncio.to_thread(start_redis_tls, tmp_path, authority)
    try:
        pair = authority.issue("runtime")
        trusted = {"redis_ca_cert": authority.certificate, "redis_cert": pair.certificate, "redis_key": pair.key}
        store = redis_store(target(service.url, **trusted))
        await store.start()
        await store.put("k", {"over": "tls"})
        assert await store.get("k") == {"over": "tls"}
        await store.close()

        unchecked = {"redis_cert": pair.certificate, "redis_key": pair.key, "redis_tls_verify": "none"}
        trusting = redis_store(target(service.url, **unchecked))
        await trusting.start()
        await trusting.close()

        stranger = Authority(tmp_path / "stranger", "stranger")
        for settings in (
            {**trusted, "redis_ca_cert": stranger.certificate},  # a server that we do not trust
            {"redis_ca_cert": authority.certificate},  # a client that it does not know
        ):
            refused = redis_store(target(service.url, **settings))
            with pytest.raises(Unavailable):
                await refused.start()
            await refused.close()
        wrong = redis_store(target(service.url, redis_password="guess", **trusted))
        with pytest.raises(Internal, match="refused") as caught:
            await wrong.start()
        assert "guess" not in str(caught.value.body())
        await wrong.close()

        outside = redis_store(target(service.url, **trusted))
        outside._prefix = "elsewhere:"
        with pytest.raises(Internal, match="NoPermission"):
            await outside.get("k")
        await outside.close()
    finally:
        service.stop()


async def test_sentinels_name_the_new_primary_after_the_old_one_was_killed(tmp_path: Path) -> None:
    with or_unavailable():
        sentinels = await asyncio.to_thread(start_redis_sentinels, tmp_path)
    try:
        settings = {"redis_topology": "sentinel", "redis_nodes": sentinels.nodes, "redis_sentinel_master": MASTER}
        where = target(sentinels.primary.url, redis_timeout_seconds=0.5, **settings)
        guard = where.guard(breaker=BreakerPolicy(reset_after=0.2, reset_most=0.5))
        store = RedisKeyValueStore(where.client(), guard)
        await store.start()
        await store.put("k", "before")
        async with redis.asyncio.from_url(sentinels.primary.url) as primary:
            assert await primary.execute_command("WAIT", "1", "5000") == 1, "the replica has it"
        await asyncio.to_thread(sentinels.primary.kill)
        await until_it_answers(store, "k", "before", seconds=30)
        ends = time.monotonic() + 20
        while True:  # the replica is asked first, and takes writes once it is promoted
            try:
                await store.put("k", "after")
                break
            except Unavailable:
                assert time.monotonic() < ends
                await asyncio.sleep(0.1)
        assert await store.get("k") == "after"
        await store.close()
    finally:
        sentinels.stop()


async def test_a_cluster_without_one_member_answers_for_the_others_and_for_all_once_it_is_back(
    redis_cluster: RedisCluster,
) -> None:
    settings = {"redis_topology": "cluster", "redis_nodes": redis_cluster.nodes, "redis_timeout_seconds": 0.5}
    store = redis_store(target(redis_cluster.members[0].url, **settings))
    items = {f"k{n}": n for n in range(60)}
    await store.put_many(items)
    await asyncio.to_thread(redis_cluster.members[1].kill)
    try:
        with pytest.raises(Unavailable):
            await store.get_many(list(items))
    finally:
        await asyncio.to_thread(redis_cluster.members[1].start)
    ends = time.monotonic() + 20
    while True:
        try:
            await store.put_many(items)
            break
        except Unavailable:
            assert time.monotonic() < ends
            await asyncio.sleep(0.1)
    assert await store.get_many(list(items)) == items
    await store.close()


@pytest.fixture
async def hybrid(
    redis_service: Service, postgres_service: Service
) -> AsyncIterator[Callable[..., PostgresRedisHybridStore]]:
    """Makes hybrid stores that share one prefix, so that they are replicas of one another."""
    made: list[PostgresRedisHybridStore] = []
    prefix = f"soma:{uuid.uuid4().hex}:"

    def make(redis_url: str = redis_service.url, postgres_url: str = postgres_service.url) -> PostgresRedisHybridStore:
        where = target(redis_url, redis_timeout_seconds=0.2)
        guard = where.guard(attempt_timeout=0.2, breaker=BreakerPolicy(reset_after=0.2))
        store = PostgresRedisHybridStore(postgres_store(postgres_url), where.client(), guard, prefix=prefix, ttl=60.0)
        made.append(store)
        return store

    yield make
    for store in made:
        await store.close()


async def test_the_hybrid_reads_redis_first_and_postgresql_for_the_rest(
    hybrid: Callable[..., PostgresRedisHybridStore], postgres_service: Service
) -> None:
    store = hybrid()
    await store.start()
    await store.put("written", 1)
    await store.put("read", 2)
    other = await asyncpg.connect(postgres_service.url)
    await other.execute("UPDATE kv_store SET value = '99' WHERE key = ANY('{written}')")  # behind the store's back
    assert await store.get("written") == 1, "written through: PostgreSQL is not asked"
    await other.execute("DELETE FROM kv_store WHERE key = 'read'")
    assert await store.get("read") == 2
    await other.execute("INSERT INTO kv_store (key, value) VALUES ('theirs', '3')")
    assert await store.get("theirs") == 3, "not in Redis: PostgreSQL answers"
    await other.execute("DELETE FROM kv_store")
    assert await store.get("theirs") == 3, "and its answer was put in Redis"
    await other.close()


async def test_the_hybrid_works_without_redis_and_acknowledges_nothing_without_postgresql(
    hybrid: Callable[..., PostgresRedisHybridStore], redis_service: Service, postgres_service: Service
) -> None:
    with FaultProxy.before(redis_service.url) as cache, FaultProxy.before(postgres_service.url) as truth:
        store = hybrid(cache.url(redis_service.url), truth.url(postgres_service.url))
        await store.start()
        await store.put("k", 1)
        cache.cut()
        for value in (2, 3):
            await store.put("k", value)
            assert await store.get("k") == value
        assert await store.ping()
        cache.heal()
        await asyncio.sleep(0.5)
        assert await store.get("k") == 3, "Redis is back with an entry of before: this process does not believe it"
        truth.cut()
        with pytest.raises(Unavailable):
            await store.put("k", 4)
        assert not await store.ping()
        truth.heal()
        await until_it_answers(store, "k", 3)
        await store.put("k", 5)
        assert await store.get("k") == 5


async def test_a_late_reader_of_the_hybrid_brings_nothing_old_back(
    hybrid: Callable[..., PostgresRedisHybridStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race of every cache: it read before the write, and fills after it."""
    writer, reader = hybrid(), hybrid()
    await writer.start()
    await reader.start()
    for change in ("put", "delete"):
        await writer.put("k", "old")
        await writer._client.flushdb()  # so that the reader asks PostgreSQL
        has_read, may_fill = asyncio.Event(), asyncio.Event()
        ask = PostgresKeyValueStore.get_expiring

        async def slowly(self: PostgresKeyValueStore, keys: Any, ask: Any = ask) -> Any:
            found = await ask(self, keys)
            has_read.set()  # noqa: B023
            await may_fill.wait()  # noqa: B023
            return found

        monkeypatch.setattr(PostgresKeyValueStore, "get_expiring", slowly)
        late = asyncio.create_task(reader.get("k"))
        await has_read.wait()
        monkeypatch.setattr(PostgresKeyValueStore, "get_expiring", ask)
        await (writer.put("k", "new") if change == "put" else writer.delete("k"))
        may_fill.set()
        assert await late == "old", "it began before the write"
        for store in (reader, writer):
            assert await store.get("k") == ("new" if change == "put" else None)


async def test_writers_at_once_leave_in_redis_what_postgresql_has(
    hybrid: Callable[..., PostgresRedisHybridStore],
) -> None:
    stores = [hybrid(), hybrid()]
    await stores[0].start()
    await stores[1].start()
    for round_ in range(15):
        await asyncio.gather(*(store.put("k", [round_, n]) for n, store in enumerate(stores * 3)))
        truth = await stores[0]._truth.get("k")
        assert [await store.get("k") for store in stores] == [truth, truth]


async def test_postgresql_killed_and_started_is_reached_again_without_a_restart(
    hybrid: Callable[..., PostgresRedisHybridStore], postgres_service: Service
) -> None:
    store = postgres_store(postgres_service.url)
    await store.start()
    await store.put("k", 1)
    await asyncio.to_thread(postgres_service.kill)
    try:
        with pytest.raises(Unavailable):
            await store.get("k")
        assert not await store.ping()
    finally:
        await asyncio.to_thread(postgres_service.start)
    await until_it_answers(store, "k", 1)
    await store.put("k", 2)
    assert await store.get("k") == 2
    await store.close()


async def test_what_the_old_service_wrote_is_read_and_what_we_write_it_can_read(postgres_service: Service) -> None:
    url = postgres_service.url
    other = await asyncpg.connect(url)
    await other.execute("DROP TABLE IF EXISTS kv_store")
    await other.execute("CREATE TABLE kv_store (key TEXT PRIMARY KEY, value JSONB NOT NULL)")
    old = "api_ns:(1.0, 2.0, 3.0):data"
    await other.execute("INSERT INTO kv_store VALUES ($1, $2)", old, '{"task": "old", "memory_type": "episodic"}')
    store = postgres_store(url)
    await store.start()
    assert await store.get(old) == {"task": "old", "memory_type": "episodic"}
    assert [key async for key in store.scan("api_ns:")] == [old]
    await store.put(old, {"task": "new"}, ttl=60.0)
    upsert = "INSERT INTO kv_store (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"
    await other.execute(upsert, old, '{"task": "theirs"}')
    assert await store.get(old) == {"task": "theirs"}
    await store.put("gone", 1, ttl=0.01)
    await asyncio.sleep(0.05)
    assert await store.sweep() == 1
    assert await other.fetchval("SELECT count(*) FROM kv_store") == 1
    await other.close()
    await store.close()


async def test_the_settings_name_the_store(redis_service: Service, postgres_service: Service) -> None:
    redis_url, postgres_url = {"redis_url": redis_service.url}, {"postgres_url": postgres_service.url}
    for settings, kind in (
        ({}, InMemoryKeyValueStore),
        (redis_url, RedisKeyValueStore),
        (postgres_url, PostgresKeyValueStore),
        (redis_url | postgres_url, PostgresRedisHybridStore),
        (redis_url | postgres_url | {"cache_ttl_seconds": 0}, PostgresKeyValueStore),
    ):
        store = build_key_value_store(SMFSettings(**settings))
        assert type(store) is kind
        await store.start()
        await store.put("named", 1)
        assert await store.get("named") == 1
        assert await store.delete("named")
        await store.close()


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"redis_url": "http://host"}, "redis_url"),
        ({"redis_url": "redis://:hunter2@host:notaport/0"}, "redis_url"),
        ({"redis_url": "redis://host", "redis_nodes": ["nohost"]}, "redis_nodes"),
        ({"redis_url": "redis://host/3", "redis_topology": "cluster"}, "redis_db"),
        ({"redis_url": "rediss://host", "redis_ca_cert": "/nonexistent/ca.pem"}, "redis_ca_cert"),
        ({"redis_url": "rediss://host", "redis_ca_cert": __file__}, "redis_ca_cert"),
    ],
)
def test_a_wrong_setting_is_named_without_its_secret(settings: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingsError) as caught:
        redis_target(SMFSettings(**settings))
    assert caught.value.setting == setting
    assert caught.value.remedy
    assert "hunter2" not in str(caught.value)


def test_where_redis_is_comes_from_url_or_host_and_separate_settings_win() -> None:
    assert redis_target(SMFSettings()) is None
    made = redis_target(SMFSettings(redis_host="cache", redis_port=7000, redis_db=2))
    assert made is not None
    assert (made.nodes, made.database, made.tls) == ((("cache", 7000),), 2, {})
    made = redis_target(SMFSettings(redis_url="rediss://u:p@host:7001/4", redis_password="q"))
    assert made is not None
    assert (made.nodes, made.database, made.login) == ((("host", 7001),), 4, {"username": "u", "password": "q"})
    assert made.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    made = redis_target(SMFSettings(redis_host="cache", redis_tls=True, redis_tls_verify="ca", redis_password="q"))
    assert made is not None
    assert made.tls == {"ssl_cert_reqs": "required", "ssl_check_hostname": False}
    assert "'q'" not in repr(made)
