"""Real Redis and PostgreSQL for the stores' tests, each started once; a store is made anew for each test."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import (
    Authority,
    RedisCluster,
    Service,
    start_postgres,
    start_redis,
    start_redis_cluster,
)
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.interfaces import IKeyValueStore
from memory_runtime.stores.keyvalue.hybrid import PostgresRedisHybridStore
from memory_runtime.stores.keyvalue.memory import InMemoryKeyValueStore
from memory_runtime.stores.keyvalue.postgres import PostgresKeyValueStore, postgres_failure
from memory_runtime.stores.keyvalue.redis import RedisKeyValueStore
from memory_runtime.stores.redis.connecting import RedisTarget, redis_target
from memory_runtime.stores.resilience import Guard, GuardPolicy, Retry


@contextlib.contextmanager
def or_unavailable() -> Iterator[None]:
    """What this machine lacks skips the test, or fails it where nothing may be skipped."""
    try:
        yield
    except ClusterError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def redis_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with or_unavailable():
        service = start_redis(tmp_path_factory.mktemp("redis"), "--appendonly", "no", "--save", "")
    yield service
    service.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with or_unavailable():
        cluster = start_redis_cluster(tmp_path_factory.mktemp("redis-cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def postgres_service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="soma-postgres-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # PostgreSQL's own account must reach it
        with or_unavailable():
            service = start_postgres(directory, settings={"shared_buffers": "16MB"})
        yield service
        service.stop()


def target(url: str, **settings: Any) -> RedisTarget:
    """What a process with these settings would connect to."""
    made = redis_target(SMFSettings(redis_url=url, **settings))
    assert made is not None
    return made


def postgres_store(url: str, **policy: Any) -> PostgresKeyValueStore:
    async def connect() -> Any:
        return await asyncpg.connect(url, timeout=5, command_timeout=10)

    return PostgresKeyValueStore(connect, Guard("postgres", GuardPolicy(**policy), classify=postgres_failure))


def redis_store(where: RedisTarget) -> RedisKeyValueStore:
    return RedisKeyValueStore(where.client(), where.guard(), prefix=f"soma:{uuid.uuid4().hex}:")


Make = Callable[[pytest.FixtureRequest], IKeyValueStore]


def _memory(_: pytest.FixtureRequest) -> IKeyValueStore:
    return InMemoryKeyValueStore()


def _redis(request: pytest.FixtureRequest) -> IKeyValueStore:
    return redis_store(target(request.getfixturevalue("redis_service").url))


def _cluster(request: pytest.FixtureRequest) -> IKeyValueStore:
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    return redis_store(target(cluster.members[0].url, redis_topology="cluster", redis_nodes=cluster.nodes))


def _postgres(request: pytest.FixtureRequest) -> IKeyValueStore:
    return postgres_store(request.getfixturevalue("postgres_service").url)


def _hybrid(request: pytest.FixtureRequest) -> IKeyValueStore:
    where = target(request.getfixturevalue("redis_service").url)
    prefix = f"soma:{uuid.uuid4().hex}:"
    truth = postgres_store(request.getfixturevalue("postgres_service").url)
    return PostgresRedisHybridStore(truth, where.client(), where.guard(attempt_timeout=0.2), prefix=prefix)


MAKERS: dict[str, Make] = {
    "memory": _memory,
    "redis": _redis,
    "cluster": _cluster,
    "postgres": _postgres,
    "hybrid": _hybrid,
}


@pytest.fixture(params=MAKERS)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[IKeyValueStore]:
    """A started, empty store of each kind."""
    made = MAKERS[request.param](request)
    await made.start()
    truth = getattr(made, "_truth", made)
    if isinstance(truth, PostgresKeyValueStore):
        await truth._fetch("truncate", Retry.SAFE, "TRUNCATE kv_store")
    yield made
    await made.close()
