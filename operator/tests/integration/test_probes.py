"""The probes against the real systems: each is recognised, and nothing else is taken for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from hack.requirement import unavailable
from hack.services import Service, ServiceError, start_kafka, start_postgres, start_redis
from hack.services.service import free_port
from soma_operator.catalog.back_ends import BackEnd, Endpoint
from soma_operator.observe.dependencies import Answer, Sight
from soma_operator.probes.conversations import ask

SECONDS = 5.0
UP, DOWN = Answer(Sight.ANSWERS), Answer(Sight.SILENT)


def opened(directory: Path) -> Path:
    """PostgreSQL's own account must reach its data below pytest's private folders."""
    for folder in (directory, *directory.parents[:2]):
        folder.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[BackEnd, Service]]:
    started: dict[BackEnd, Service] = {}
    try:
        started[BackEnd.POSTGRESQL] = start_postgres(opened(tmp_path_factory.mktemp("postgres")))
        started[BackEnd.REDIS] = start_redis(tmp_path_factory.mktemp("redis"))
        (started[BackEnd.KAFKA],) = start_kafka(tmp_path_factory.mktemp("kafka"))
        yield started
    except ServiceError as error:
        unavailable(str(error))
    finally:
        for service in started.values():
            service.stop()


def endpoint(name: BackEnd, service: Service, *, tls: bool = False, topics: tuple[str, ...] = ()) -> Endpoint:
    port = urlsplit(service.url).port if "://" in service.url else int(service.url.rpartition(":")[2])
    assert port is not None
    return Endpoint(name, (("127.0.0.1", port),), tls=tls, topics=topics)


async def test_each_system_is_recognised_and_no_other_is_taken_for_it(servers: dict[BackEnd, Service]) -> None:
    for name in servers:
        for other, service in servers.items():
            expected = UP if name is other else DOWN
            assert await ask(endpoint(name, service), SECONDS if expected is UP else 0.5) == expected, (name, other)


async def test_a_system_without_tls_is_told_where_tls_is_wanted(servers: dict[BackEnd, Service]) -> None:
    for name, service in servers.items():
        answer = await ask(endpoint(name, service, tls=True), 1.0)
        assert answer.sight in (Sight.NO_TLS, Sight.SILENT), name
    postgres = endpoint(BackEnd.POSTGRESQL, servers[BackEnd.POSTGRESQL], tls=True)
    assert (await ask(postgres, SECONDS)).sight is Sight.NO_TLS


def test_a_probe_leaves_no_line_in_the_log_of_postgresql(servers: dict[BackEnd, Service]) -> None:
    service = servers[BackEnd.POSTGRESQL]
    before = service.log.read_text()
    for _ in range(5):
        assert asyncio.run(ask(endpoint(BackEnd.POSTGRESQL, service), SECONDS)) == UP
    time.sleep(0.3)
    assert service.log.read_text() == before


async def test_missing_topics_are_named_and_not_made_by_asking(servers: dict[BackEnd, Service]) -> None:
    service = servers[BackEnd.KAFKA]
    asked = endpoint(BackEnd.KAFKA, service, topics=("memory.dlq", "memory.events"))
    assert (await ask(asked, SECONDS)).missing == ("memory.dlq", "memory.events")
    admin = AIOKafkaAdminClient(bootstrap_servers=service.url)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("memory.events", num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()
    for _ in range(50):
        if (await ask(asked, SECONDS)).missing == ("memory.dlq",):
            return
        await asyncio.sleep(0.1)
    raise AssertionError((await ask(asked, SECONDS)).missing)


async def test_nobody_there_is_silence_and_the_next_address_counts(servers: dict[BackEnd, Service]) -> None:
    nobody = ("127.0.0.1", free_port())
    assert await ask(Endpoint(BackEnd.KAFKA, (nobody,), tls=False), SECONDS) == DOWN
    assert await ask(Endpoint(BackEnd.REDIS, (("no-such-name.invalid", 1),), tls=False), SECONDS) == DOWN
    kafka = endpoint(BackEnd.KAFKA, servers[BackEnd.KAFKA])
    assert await ask(Endpoint(BackEnd.KAFKA, (nobody, *kafka.addresses), tls=False), SECONDS) == UP


async def test_a_server_that_takes_connections_and_says_nothing_is_silence_in_time() -> None:
    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for name in BackEnd:
            for tls in (False, True):
                async with asyncio.timeout(SECONDS):
                    assert await ask(Endpoint(name, (("127.0.0.1", port),), tls=tls), 0.2) == DOWN, (name, tls)
