"""Crashes, outages and rebalances: nothing is lost, and an event has one effect."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hack.services import Service
from memory_runtime.engine.ingesting import IncomingEvent, Outcome
from memory_runtime.events.brokers import publishes
from memory_runtime.events.connecting import reach
from memory_runtime.model.errors import Internal, SomaError, Unavailable
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.tests.integration.conftest import COMMAND, Serve, clean_environment
from memory_runtime.tests.integration.events.conftest import (
    DIM,
    NewSite,
    Site,
    create_topics,
    eventually,
    producing,
    publish,
    read_all,
)
from memory_runtime.tests.integration.events.test_events_pipeline import event, raw, stored

pytestmark = pytest.mark.integration


def environment(topics: dict[str, Any], **settings: str) -> dict[str, str]:
    """The environment of a `soma` process on the test's topics."""
    named = {f"SOMA_{name.upper()}": str(value) for name, value in topics.items()}
    return clean_environment(**named, SOMA_VECTOR_DIM=str(DIM), **settings)


def consume(folder: Path, topics: dict[str, Any], **settings: str) -> subprocess.Popen[bytes]:
    """Starts `soma consume` on a ledger of its own."""
    env = environment(topics, SOMA_DATA_DIR=str(folder / "data"), CONSUMER_METRICS_PORT="0", **settings)
    with (folder / "consume.jsonl").open("wb") as log:
        return subprocess.Popen([*COMMAND, "consume"], env=env, stdout=log, stderr=log)


async def ended(process: subprocess.Popen[bytes], seconds: float = 40.0) -> int:
    try:
        return await asyncio.to_thread(process.wait, seconds)
    finally:
        if process.poll() is None:
            process.kill()


async def test_a_consumer_killed_before_it_commits_offsets_has_one_effect_each(
    topics: dict[str, Any], new_site: NewSite, tmp_path: Path
) -> None:
    settings = SMFSettings(**topics, vector_dim=DIM)
    await publish(settings, *(raw(event(number)) for number in range(20)))
    killed = consume(tmp_path, topics, SOMA_DEBUG_FAULTS="true", SOMA_FAILPOINTS="mid-consume=kill@1")
    assert await ended(killed) == -signal.SIGKILL
    again = consume(tmp_path, topics)
    try:
        await publish(settings, raw(event(99)))
        log = tmp_path / "consume.jsonl"
        await eventually(lambda: "partitions assigned" in log.read_text())
        await asyncio.sleep(1.0)
        again.send_signal(signal.SIGTERM)
        assert await ended(again) == 0
    finally:
        again.kill()
    site = await new_site(data_dir=tmp_path / "data")
    changes = await site.changes()
    assert sorted(json.loads(change.payload)["text"] for change in changes) == sorted(
        f"note {number}" for number in [*range(20), 99]
    )


async def test_a_relay_killed_before_it_moves_its_cursor_publishes_the_same_events_again(
    topics: dict[str, Any], serve: Serve
) -> None:
    settings = environment_of(topics)
    first = serve(**settings, SOMA_DEBUG_FAULTS="true", SOMA_FAILPOINTS="mid-relay=kill@1")
    with first.client(tenant="acme") as client:
        items = [
            {"coord": f"{number}", "payload": {"text": f"note {number}"}, "type": "episodic"} for number in range(5)
        ]
        client.post("/store_bulk", json={"items": items})
    assert await ended(first.process) == -signal.SIGKILL
    second = serve(**settings)
    with second.client(tenant="acme") as client:
        assert client.post("/store", json={"coord": "9", "payload": {"text": "later"}, "type": "episodic"}).is_success

    async def published() -> list[Any]:
        records = await read_all(topics["kafka_bootstrap_servers"], topics["kafka_memory_events_topic"])
        return records if any(b"later" in record.value for record in records) else []

    records = await eventually(published)
    assert second.stop() == 0
    texts = {json.loads(record.value)["event_id"]: json.loads(record.value)["payload"]["text"] for record in records}
    assert sorted(texts.values()) == sorted([*(f"note {number}" for number in range(5)), "later"])
    assert len(records) > len(texts)  # the kill was where it hurts: the same events came twice


async def test_an_embedded_server_consumes_too_and_recalls_what_came(topics: dict[str, Any], serve: Serve) -> None:
    server = serve(**environment_of(topics), SOMA_CONSUMER_IN_SERVE="true", SOMA_VECTOR_DIM=str(DIM))
    await publish(SMFSettings(**topics), raw(event(1, namespace="api_ns")))

    def matches() -> list[Any]:
        with server.client(tenant="default") as client:
            return list(client.post("/recall", json={"query": "note 1", "top_k": 3}).json()["matches"])

    found = await eventually(lambda: asyncio.to_thread(matches))
    assert found[0]["text"] == "note 1"
    assert server.stop() == 0


def environment_of(topics: dict[str, Any]) -> dict[str, str]:
    return {f"SOMA_{name.upper()}": str(value) for name, value in topics.items()}


class Slow:
    """Applies, and then keeps its caller waiting, until it is let go."""

    def __init__(self, site: Site) -> None:
        self.inner = site.intake.ingestor
        self.entered, self.leave = asyncio.Event(), asyncio.Event()

    async def apply(self, events: Sequence[IncomingEvent]) -> list[Outcome | SomaError]:
        fates = await self.inner.apply(events)
        self.entered.set()
        await self.leave.wait()
        return fates


async def test_a_batch_is_finished_and_committed_before_its_partitions_go(site: Site) -> None:
    slow = Slow(site)
    async with site.consuming(slow):
        await publish(site.settings, raw(event(1)))
        await slow.entered.wait()
        async with site.consuming() as other:
            await asyncio.sleep(1.5)
            assert not other.partitions  # the group waits for the batch in hand
            slow.leave.set()
            await eventually(lambda: other.partitions)
            for number in range(2, 8):
                await publish(site.settings, raw(event(number)), key=str(number).encode())
            await eventually(lambda: site.count("applied") == 7)
    assert site.count("duplicate") == 0
    assert len(await site.changes()) == 7


async def test_a_batch_that_is_not_done_in_time_is_left_to_the_next_owner(new_site: NewSite) -> None:
    site = await new_site(consumer_revoke_seconds=0.5)
    slow = Slow(site)
    async with site.consuming(slow):
        await publish(site.settings, raw(event(1)))
        await slow.entered.wait()
        async with site.consuming():
            await eventually(lambda: site.count("duplicate") == 1)
            slow.leave.set()
    assert len(await site.changes()) == 1


class Away:
    """A ledger that is away for a number of calls."""

    def __init__(self, site: Site, calls: float) -> None:
        self.inner, self.left, self.failed = site.intake.ingestor, calls, 0

    async def apply(self, events: Sequence[IncomingEvent]) -> list[Outcome | SomaError]:
        if self.left > 0:
            self.left -= 1
            self.failed += 1
            raise Unavailable("the ledger is away")
        return await self.inner.apply(events)


async def test_a_ledger_that_is_away_costs_time_and_no_event(site: Site) -> None:
    away = Away(site, 3)
    async with site.consuming(away):
        await publish(site.settings, *(raw(event(number)) for number in range(5)))
        await eventually(lambda: site.count("applied") == 5)
    assert away.failed == 3


async def test_a_consumer_without_a_ledger_leaves_its_partitions_to_one_that_has_one(new_site: NewSite) -> None:
    site = await new_site(consumer_stall_seconds=0.5)
    away = Away(site, float("inf"))
    async with site.consuming(away):
        await publish(site.settings, raw(event(1)))
        await eventually(lambda: away.failed)
        async with site.consuming():
            await eventually(lambda: site.count("applied") == 1)
    assert len(await site.changes()) == 1


class Defect:
    """Fails at one event, as a defect of ours would."""

    def __init__(self, site: Site) -> None:
        self.inner, self.calls = site.intake.ingestor, 0

    async def apply(self, events: Sequence[IncomingEvent]) -> list[Outcome | SomaError]:
        self.calls += 1
        fates = await self.inner.apply([one for one in events if one.id != "memory-2"])
        return [fates.pop(0) if one.id != "memory-2" else Internal("a defect") for one in events]


async def test_an_event_that_meets_a_defect_of_ours_holds_nobody_up(site: Site) -> None:
    defect = Defect(site)
    async with site.consuming(defect):
        await publish(site.settings, *(raw(event(number)) for number in range(5)))
        await eventually(lambda: site.count("dead") == 1)
        await eventually(lambda: site.count("applied") + site.count("duplicate") == 4)
    assert [entry.letter.reason for entry in await site.letters()] == ["defect"]
    assert len(await site.changes()) == 4


async def test_a_broker_that_was_away_gets_everything_when_it_is_back(kafka: Service, new_site: NewSite) -> None:
    one, two = await new_site(), await new_site()
    async with one.relaying() as relay, two.consuming():
        await stored(one, 1)
        await eventually(lambda: two.count("applied") == 1)
        kafka.kill()
        kafka.log.write_text("")
        for number in range(2, 12):
            await asyncio.wait_for(stored(one, number), 5)
        assert relay.lag >= 10
        await asyncio.to_thread(kafka.start)
        await asyncio.wait_for(relay.caught_up(), 60)
        await eventually(lambda: two.count("applied") == 11, seconds=60)
    assert await two.intake.ledger.counts() == await one.intake.ledger.counts()


async def test_an_event_too_large_for_the_setting_is_a_dead_letter_and_the_rest_passes(new_site: NewSite) -> None:
    site = await new_site(kafka_max_message_bytes=2000)
    await stored(site, 2)
    await stored(site, 3, text="x" * 3000)
    await stored(site, 4)
    async with site.relaying() as relay:
        await asyncio.wait_for(relay.caught_up(), 20)
    (entry,) = await site.letters()
    assert (entry.letter.reason, entry.letter.source, entry.letter.offset) == ("too_large", "relay", 2)
    assert b"xxx" in (entry.letter.value or b"")
    records = await read_all(site.settings.kafka_bootstrap_servers or "", site.settings.kafka_memory_events_topic)
    assert len(records) == 2


async def test_an_event_too_large_for_the_topics_is_found_alone_and_leaves_word(
    kafka: Service, new_site: NewSite
) -> None:
    name = uuid.uuid4().hex
    small = {"kafka_memory_events_topic": f"{name}.events", "kafka_dlq_topic": f"{name}.dlq"}
    await create_topics(kafka.url, *small.values(), max_message_bytes="1500")
    site = await new_site(**small, event_embeddings=False)
    for number in range(2, 8):
        await stored(site, number, text="x" * (3000 if number == 4 else 100))
    async with site.relaying() as relay:
        await asyncio.wait_for(relay.caught_up(), 20)
    (entry,) = await site.letters()
    assert entry.letter.omitted
    assert (entry.letter.reason, entry.letter.offset, entry.letter.value) == ("too_large", 3, None)
    records = await read_all(kafka.url, small["kafka_memory_events_topic"])
    assert sorted(json.loads(record.value)["payload"]["n"] for record in records) == [2, 3, 5, 6, 7]


async def test_a_large_poison_keeps_its_bytes(site: Site) -> None:
    poison = b"\xff" * 900_000
    async with site.consuming():
        async with producing(site.settings) as producer:
            await producer.send_and_wait(site.settings.kafka_memory_events_topic, poison)
        await eventually(lambda: site.count("dead") == 1)
    assert [entry.letter.value for entry in await site.letters()] == [poison]


@pytest.mark.parametrize("setting", ["kafka_memory_events_topic", "kafka_dlq_topic"])
async def test_an_unknown_topic_is_named_with_its_setting(new_site: NewSite, setting: str) -> None:
    site = await new_site(**{setting: "nowhere"})
    with pytest.raises(SettingsError, match=rf"{setting}.*nowhere"):
        await asyncio.wait_for(site.consumer().run(asyncio.Event()), 20)


async def test_a_topic_that_is_missing_keeps_changes_in_the_outbox(new_site: NewSite) -> None:
    site = await new_site(kafka_memory_events_topic="nowhere")
    await stored(site)
    async with site.relaying() as relay:
        await eventually(lambda: relay.failures)
        assert relay.lag == 1


@pytest.mark.parametrize("address", ["localhost", "localhost:0", "localhost:port", ":9092"])
def test_brokers_are_host_and_port(address: str) -> None:
    with pytest.raises(SettingsError, match=r"kafka_bootstrap_servers.*host:port"):
        asyncio.run(reach(SMFSettings(kafka_bootstrap_servers=address)))


def test_a_mode_that_promises_events_wants_brokers() -> None:
    with pytest.raises(SettingsError, match="kafka_bootstrap_servers"):
        publishes(SMFSettings(mode="evented_enterprise"))
    assert not publishes(SMFSettings(mode="distributed"))
    assert publishes(SMFSettings(kafka_bootstrap_servers="b:9092"))
    assert not publishes(SMFSettings(kafka_bootstrap_servers="b:9092", eventing_enabled=False))


def test_consume_says_which_setting_is_missing(tmp_path: Path) -> None:
    env = clean_environment(SOMA_DATA_DIR=str(tmp_path / "data"))
    done = subprocess.run([*COMMAND, "consume"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "kafka_bootstrap_servers" in done.stderr
    assert "Traceback" not in done.stderr
