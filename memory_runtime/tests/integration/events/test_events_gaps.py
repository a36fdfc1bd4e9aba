"""Retention that is shorter than a consumer's outage: noticed, counted, remembered, and mended by the producer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from memory_runtime.engine.identity import identity_of
from memory_runtime.events.consumer import Consumer
from memory_runtime.events.gaps import Positions, gaps_in, missed
from memory_runtime.events.relay import REPUBLISH
from memory_runtime.settings import SMFSettings
from memory_runtime.tests.integration.conftest import Serve
from memory_runtime.tests.integration.events.conftest import NewSite, Site, eventually, publish
from memory_runtime.tests.integration.events.test_events_faults import environment_of
from memory_runtime.tests.integration.events.test_events_pipeline import deleted, event, raw, stored

pytestmark = pytest.mark.integration


async def retention(settings: SMFSettings, before: int) -> None:
    """Takes the records before that offset from every partition, as retention would."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await consumer.start()
    await admin.start()
    try:
        partitions = [TopicPartition(settings.kafka_memory_events_topic, number) for number in (0, 1)]
        ends = await consumer.end_offsets(partitions)
        await admin.delete_records({one: RecordsToDelete(min(before, end)) for one, end in ends.items()})
    finally:
        await admin.close()
        await consumer.stop()


def missed_by(site: Site) -> float:
    name, topic = "soma_consumer_missed_records_total", site.settings.kafka_memory_events_topic
    values = [site.metrics.registry.get_sample_value(name, {"topic": topic, "partition": str(n)}) for n in (0, 1)]
    return sum(value or 0.0 for value in values)


async def gaps_of(site: Site) -> list[dict[str, Any]]:
    return gaps_in(await site.intake.ledger.read(lambda view: view.facts()))


async def test_what_retention_took_while_the_consumer_was_away_is_said_counted_and_remembered(
    new_site: NewSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = await new_site()
    async with site.consuming():
        await publish(site.settings, *(raw(event(number)) for number in range(3)))
        await eventually(lambda: site.count("applied") == 3)
        await asyncio.sleep(0.5)
    await publish(site.settings, *(raw(event(number)) for number in range(10, 20)))
    await retention(site.settings, 8)
    with caplog.at_level(logging.ERROR):
        async with site.consuming():
            await eventually(lambda: site.count("applied") == 8)
    assert missed_by(site) == 5
    (gap,) = await gaps_of(site)
    assert (gap["first"], gap["next"], gap["records"]) == (3, 8, 5)
    assert gap["group"] == site.settings.kafka_consumer_group
    assert "soma events republish" in caplog.text
    async with site.consuming():
        await publish(site.settings, raw(event(99)))
        await eventually(lambda: site.count("applied") == 9)
    assert (missed_by(site), len(await gaps_of(site))) == (5, 1)


async def test_a_group_that_kafka_has_forgotten_is_remembered_by_the_ledger(new_site: NewSite) -> None:
    site = await new_site()
    async with site.consuming():
        await publish(site.settings, *(raw(event(number)) for number in range(3)))
        await eventually(lambda: site.count("applied") == 3)
        await asyncio.sleep(0.5)
    await publish(site.settings, *(raw(event(number)) for number in range(10, 20)))
    await retention(site.settings, 8)
    # Kafka knows nothing of this group, as after `offsets.retention.minutes`; the ledger knows where it stood
    group, topic = site.settings.kafka_consumer_group, site.settings.kafka_memory_events_topic
    facts = await site.intake.ledger.read(lambda view: view.facts())
    kept = facts[f"consumer:{group}:{topic}"]
    await site.intake.ledger.transact(lambda to: to.remember(f"consumer:{group}-forgotten:{topic}", kept))
    ledger, settings = (
        site.intake.ledger,
        site.settings.model_copy(update={"kafka_consumer_group": f"{group}-forgotten"}),
    )
    positions = Positions(ledger, settings.kafka_consumer_group, topic)
    consumer = Consumer(settings, site.intake.ingestor, site.metrics, lambda: identity_of(ledger), positions)
    stop = asyncio.Event()
    task = asyncio.create_task(consumer.run(stop))
    await eventually(lambda: site.count("applied") == 8)
    stop.set()
    await task
    assert missed_by(site) == 5


async def test_a_group_that_is_new_has_missed_nothing(new_site: NewSite) -> None:
    site = await new_site()
    await publish(site.settings, *(raw(event(number)) for number in range(10)))
    await retention(site.settings, 4)
    async with site.consuming():
        await eventually(lambda: site.count("applied") == 6)
    assert (missed_by(site), await gaps_of(site)) == (0, [])


async def test_the_producer_publishes_all_that_it_holds_again(new_site: NewSite) -> None:
    one, two = await new_site(), await new_site()
    kept = [await stored(one, number) for number in range(2, 5)]
    gone = await stored(one, 5)
    async with two.consuming(), one.relaying() as relay:
        await relay.caught_up()
        await eventually(lambda: two.count("applied") == 4)
    await stored(one, 2, text="note, mended")
    await deleted(one, 5)
    async with one.relaying() as relay:
        await relay.caught_up()
    # the update and the delete are gone before the other ledger sees them
    await retention(one.settings, 1000)
    assert (await two.get(gone)) is not None
    await one.intake.ledger.transact(lambda to: to.remember(REPUBLISH, "1"))
    async with two.consuming(), one.relaying():
        await eventually(lambda: mended(two, kept[0], gone))
    assert REPUBLISH not in await one.intake.ledger.read(lambda view: view.facts())


async def mended(site: Site, identity: str, gone: str) -> bool:
    record = await site.get(identity)
    return record is not None and record.payload["text"] == "note, mended" and await site.get(gone) is None


async def test_the_command_asks_for_it_and_stats_show_gaps(topics: dict[str, Any], serve: Serve) -> None:
    server = serve(**environment_of(topics))
    with server.client() as client:
        client.post("/store", json={"coord": "1", "payload": {"text": "tea"}})
        assert client.get("/stats").json()["consumer_gaps"] == []
    done = server.soma("events", "republish", "--json")
    assert done.returncode == 0, done.stderr
    await eventually(lambda: any("published every memory" in one.get("message", "") for one in server.log_lines()))
    assert server.stop() == 0


def test_a_server_without_brokers_refuses_the_command(serve: Serve) -> None:
    server = serve()
    done = server.soma("events", "republish")
    assert done.returncode != 0
    assert "KAFKA_BOOTSTRAP_SERVERS" in done.stderr
    assert server.stop() == 0


@pytest.mark.parametrize(("stood", "begins", "records"), [(None, 9, 0), (9, 9, 0), (10, 9, 0), (3, 9, 6), (0, 0, 0)])
def test_what_was_missed(stood: int | None, begins: int, records: int) -> None:
    assert missed(stood, begins) == records
