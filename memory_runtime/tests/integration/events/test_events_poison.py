"""Changes that cannot be made events: they become letters with their reason, and the relay goes on for all others."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from memory_runtime.events import codec, kafka_sink
from memory_runtime.events.dlq import DeadLetterQueue
from memory_runtime.events.kafka_sink import RelayLetters
from memory_runtime.events.relay import Relay
from memory_runtime.stores.contracts import Change, Unit
from memory_runtime.tests.integration.conftest import Serve
from memory_runtime.tests.integration.events.conftest import Site, eventually, read_all
from memory_runtime.tests.integration.events.test_events_faults import environment_of
from memory_runtime.tests.integration.events.test_events_pipeline import changed

pytestmark = pytest.mark.integration


async def events_of(site: Site) -> list[dict[str, Any]]:
    records = await read_all(str(site.settings.kafka_bootstrap_servers), site.settings.kafka_memory_events_topic)
    return [json.loads(record.value) for record in records]


async def test_an_existing_memory_of_an_impossible_time_stops_no_one(site: Site) -> None:
    ledger = site.intake.ledger
    times = [1.7e9, -9e10, 1e12, 1.7e9]
    for number, at in enumerate(times):
        put = changed(number, {"text": f"note {number}"})
        await ledger.commit(Unit([dataclasses.replace(put, event_time=at)]))  # type: ignore[type-var]
    async with site.relaying() as relay:
        await relay.caught_up()
    assert sorted(one["payload"]["text"] for one in await events_of(site)) == ["note 0", "note 3"]
    entries = sorted(await site.letters(), key=lambda entry: entry.letter.offset)
    assert [(entry.letter.reason, entry.letter.source, entry.letter.offset) for entry in entries] == [
        ("invalid", "relay", 2),
        ("invalid", "relay", 3),
    ]
    assert "no time of the years 1 to 9999" in entries[0].letter.error
    assert b"note 1" in (entries[0].letter.value or b"")


async def test_a_defect_of_the_encoder_costs_one_change(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = codec.encode

    def fails_for_one(change: Change, *rest: Any) -> Any:
        if change.seq == 2:
            raise OverflowError("date value out of range")
        return encode(change, *rest)

    monkeypatch.setattr(kafka_sink, "encode", fails_for_one)
    for number in range(4):
        await site.intake.ledger.commit(Unit([changed(number, {"text": f"note {number}"})]))
    async with site.relaying() as relay:
        await relay.caught_up()
    assert len(await events_of(site)) == 3
    (entry,) = await site.letters()
    assert (entry.letter.reason, entry.letter.offset) == ("defect", 2)
    assert "OverflowError" in entry.letter.error


class Mirror:
    """A sink that cannot take one change."""

    name = "mirror"

    def __init__(self) -> None:
        self.taken: list[int] = []

    async def deliver(self, changes: Sequence[Change]) -> int:
        if any(change.seq == 2 for change in changes):
            raise ValueError("Out of range float values are not JSON compliant")
        self.taken += [change.seq for change in changes]
        return changes[-1].seq

    async def rebuild(self) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        pass


async def test_what_another_sink_cannot_take_is_a_letter_too(site: Site) -> None:
    for number in range(3):
        await site.intake.ledger.commit(Unit([changed(number, {"text": f"note {number}"})]))
    mirror = Mirror()
    letters = RelayLetters(site.settings, lambda: 1.7e9)
    relay = Relay(site.intake.ledger, mirror, site.metrics, set_aside=letters.lay)
    relay.start()
    await eventually(lambda: relay.lag == 0)
    await relay.stop()
    assert mirror.taken == [1, 3]
    (entry,) = await site.letters()
    assert (entry.letter.topic, entry.letter.offset, entry.letter.reason) == ("sink:mirror", 2, "defect")
    assert b"note 1" in (entry.letter.value or b"")
    done, (left,) = await DeadLetterQueue(site.settings).replay(None)
    assert (done, left.entry.position) == ([], entry.position)
    assert "no event" in left.reason


async def test_a_server_refuses_the_time_that_stopped_the_relay(topics: dict[str, Any], serve: Serve) -> None:
    server = serve(**environment_of(topics))
    with server.client(tenant="acme") as client:
        body = {"coord": "1", "payload": {"text": "tea"}, "type": "episodic"}
        assert client.post("/store", json=body | {"timestamp": -9e10}).status_code == 400
        assert client.post("/store", json=body).is_success

    async def published() -> list[Any]:
        return await read_all(topics["kafka_bootstrap_servers"], topics["kafka_memory_events_topic"])

    assert len(await eventually(published)) == 1
    assert server.stop() == 0
