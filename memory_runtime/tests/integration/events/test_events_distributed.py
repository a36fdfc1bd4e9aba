"""The distributed shape: ledgers in PostgreSQL, `soma serve` and `soma consume` as processes, Kafka between them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, start_postgres
from memory_runtime.events import Lease
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.postgres import migrating
from memory_runtime.tests.integration.conftest import Serve
from memory_runtime.tests.integration.events.conftest import DIM, NewSite, Site, eventually, publish, read_all
from memory_runtime.tests.integration.events.test_events_faults import consume, ended
from memory_runtime.tests.integration.events.test_events_pipeline import event, raw, stored

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def kafka_postgres() -> Iterator[Service]:
    """A PostgreSQL server for the ledgers of this module."""
    with tempfile.TemporaryDirectory(prefix="soma-postgres-") as name:
        Path(name).chmod(0o755)  # PostgreSQL's own account must reach it
        try:
            service = start_postgres(Path(name), settings={"shared_buffers": "32MB"})
        except ClusterError as error:
            unavailable(str(error))
        try:
            yield service
        finally:
            service.stop()


@pytest.fixture
async def databases(kafka_postgres: Service) -> list[dict[str, Any]]:
    """Settings of two fresh ledgers."""
    found = []
    for number in (1, 2):
        name = f"ledger_{time.monotonic_ns()}_{number}"
        connection = await asyncpg.connect(kafka_postgres.url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        url = f"{kafka_postgres.url.rpartition('/')[0]}/{name}"
        values = {"mode": "distributed", "postgres_url": url}
        await asyncio.to_thread(migrating.migrate, SMFSettings(**values, vector_dim=DIM))
        found.append(values)
    return found


async def test_a_memory_is_the_same_in_another_ledger(new_site: NewSite, databases: list[dict[str, Any]]) -> None:
    one, two = await new_site(**databases[0]), await new_site(**databases[1])
    identity = await stored(one)
    async with one.relaying() as relay, two.consuming():
        await stored(one, text="note, mended")
        await asyncio.wait_for(relay.caught_up(), 20)
        await eventually(lambda: two.count("applied") == 2)
        again = raw(event(7))
        await publish(two.settings, again, again)
        await eventually(lambda: two.count("duplicate") == 1)
        copy, original = await two.get(identity), await one.get(identity)
    assert copy is not None
    assert original is not None
    assert (copy.payload, copy.coordinate, copy.importance) == (original.payload, original.coordinate, 2.5)


async def test_of_two_replicas_on_one_database_one_relays(new_site: NewSite, databases: list[dict[str, Any]]) -> None:
    sites = [await new_site(**databases[0]) for _ in range(2)]
    ledgers = [site.intake.ledger for site in sites]
    relays = [
        site.relay(lease=Lease(ledger, "sink:kafka", time.time, seconds=1.5))
        for site, ledger in zip(sites, ledgers, strict=True)
    ]
    for relay in relays:
        relay.start()
    for number in range(2, 12):
        await stored(sites[number % 2], number)
    async with asyncio.timeout(20):
        for relay in relays:
            await relay.caught_up()
    for relay in relays:
        await relay.stop()
    settings = sites[0].settings
    records = await read_all(settings.kafka_bootstrap_servers or "", settings.kafka_memory_events_topic)
    assert len(records) == 10


async def test_served_over_http_consumed_by_a_process_that_is_killed(
    new_site: NewSite, topics: dict[str, Any], databases: list[dict[str, Any]], serve: Serve, tmp_path: Path
) -> None:
    how = {f"SOMA_{name.upper()}": str(value) for name, value in (topics | databases[0]).items()}
    server = serve(**how, SOMA_VECTOR_DIM=str(DIM))
    with server.client(tenant="acme") as client:
        items = [
            {"coord": str(number), "payload": {"text": f"note {number}"}, "type": "episodic"} for number in range(30)
        ]
        assert client.post("/store_bulk", json={"items": items}).status_code == 200
        assert client.delete("/memories/3").status_code == 200
    target = {
        "SOMA_MODE": "distributed",
        "SOMA_POSTGRES_URL": databases[1]["postgres_url"],
        "SOMA_CONSUMER_BATCH_SIZE": "5",
    }
    killed = consume(tmp_path, topics, **target, SOMA_DEBUG_FAULTS="true", SOMA_FAILPOINTS="mid-consume=kill@2")
    assert await ended(killed) == -signal.SIGKILL
    with running(consume(tmp_path, topics, **target)) as again:
        there: Site = await new_site(**databases[1])

        async def memories() -> bool:
            return sum((await there.intake.ledger.counts()).values()) == 29

        await eventually(memories, seconds=40)
        again.send_signal(signal.SIGTERM)
        assert await ended(again) == 0
    assert server.stop() == 0
    seen = [change for change in await there.changes() if change.operation.value == "put"]
    assert len(seen) == len({change.id for change in seen})


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
