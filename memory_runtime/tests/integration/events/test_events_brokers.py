"""Three brokers, of which one is lost at a time: no acknowledged change is missing from the topic or from the copy."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, ServiceError, start_kafka
from memory_runtime.engine import build_intake
from memory_runtime.engine.identity import identity_of
from memory_runtime.events.codec import Publisher
from memory_runtime.settings import SMFSettings
from memory_runtime.tests.integration.events.conftest import DIM, Site, create_topics, eventually, read_all
from memory_runtime.tests.integration.events.test_events_pipeline import stored

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    """Three brokers; a topic of three replicas takes writes while two are there."""
    try:
        brokers = start_kafka(tmp_path_factory.mktemp("cluster"), brokers=3)
    except (ClusterError, ServiceError) as error:
        unavailable(str(error))
    yield brokers
    for broker in brokers:
        broker.kill()


async def test_a_broker_that_is_lost_costs_nothing(kafka_cluster: list[Service], tmp_path: Path) -> None:
    name, addresses = uuid.uuid4().hex[:8], ",".join(broker.url for broker in kafka_cluster)
    await create_topics(addresses, f"{name}.events", f"{name}.dlq", partitions=3, replicas=3)

    def site(number: int) -> Site:
        settings = SMFSettings(
            data_dir=tmp_path / f"site-{number}",
            embedding_provider="hash",
            vector_dim=DIM,
            kafka_bootstrap_servers=addresses,
            kafka_memory_events_topic=f"{name}.events",
            kafka_dlq_topic=f"{name}.dlq",
            kafka_consumer_group=f"{name}-{number}",
        )
        opened = Site(build_intake(settings))
        opened.intake.open()
        return opened

    one, two = site(1), site(2)
    try:
        async with one.relaying() as relay, two.consuming():
            await stored(one, 1)
            await eventually(lambda: two.count("applied") == 1, seconds=60)
            began = time.monotonic()
            for number in range(2, 42):
                await stored(one, number)
                if number == 10:
                    await asyncio.to_thread(kafka_cluster[0].kill)
            await asyncio.wait_for(relay.caught_up(), 90)
            await eventually(lambda: two.count("applied") == 41, seconds=90)
            assert time.monotonic() - began < 120
        assert two.count("dead") == 0
        records = await read_all(kafka_cluster[1].url, f"{name}.events")
        publisher = Publisher(await identity_of(one.intake.ledger))
        found = [record.value.partition(b'"event_id":"')[2][:36].decode() for record in records]
        assert set(found) == {publisher.id_of(change) for change in await one.intake.ledger.tail(0)}
    finally:
        for opened in (one, two):
            await asyncio.to_thread(opened.intake.close)
