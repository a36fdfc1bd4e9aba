"""From one ledger over Kafka into another: what arrives, how often, and what is set aside."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine.identity import identity_of
from memory_runtime.events.codec import Publisher
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import memory_id
from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import Delete, Put, TailTrimmed, Unit
from memory_runtime.tests.integration.events.conftest import NewSite, Site, eventually, publish, read_all

pytestmark = pytest.mark.integration
SCOPE = Scope("acme", "notes")


def event(number: int = 1, **fields: Any) -> dict[str, Any]:
    """A version 1 event, as a producer of the service that we replace writes it."""
    return {
        "event_id": str(uuid.uuid4()),
        "id": f"memory-{number}",
        "namespace": "notes",
        "type": "created",
        "timestamp": 1_700_000_000.25,
        "payload": {"text": f"note {number}", "coordinate": [float(number), 2.0]},
        "embedding": [1.0, float(number), 0.0],
    } | fields


def raw(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def changed(number: int, payload: dict[str, Any] | None) -> Put | Delete:
    """What a request to store (or, without a payload, to delete) comes to."""
    identity = memory_id(SCOPE.tenant, SCOPE.namespace, "episodic", f"{float(number)!r},0.5")
    if payload is None:
        return Delete(identity, SCOPE, "episodic", time.time())
    return Put(
        id=identity,
        scope=SCOPE,
        memory_type="episodic",
        coordinate=f"{float(number)!r},0.5",
        payload=canonical_json(payload),
        search_text=payload["text"],
        event_time=1_700_000_000.0,
        ingest_time=time.time(),
        importance=2.5,
        features={"mood": 0.5},
        vector=np.array([0.6, 0.8, 0.0], np.float32),
        model_revision="client",
        pinned=True,
    )


async def stored(site: Site, number: int = 1, *, text: str = "note") -> str:
    """Stores in the site's own ledger, and returns the memory's id."""
    # a client may have fields of its own under the names that an event adds
    payload = {"text": text, "n": number} | ({"coordinate": "mine"} if number == 1 else {})
    receipt = (await site.intake.ledger.commit(Unit([changed(number, payload)]))).receipts[0]
    return str(receipt.id)


async def deleted(site: Site, number: int) -> None:
    await site.intake.ledger.commit(Unit([changed(number, None)]))


async def test_a_memory_is_the_same_in_another_ledger(new_site: NewSite) -> None:
    one, two = await new_site(), await new_site()
    identity = await stored(one)
    gone = await stored(one, 2)
    await stored(one, text="note, mended")
    await deleted(one, 2)
    async with one.relaying() as relay, two.consuming():
        await relay.caught_up()
        await eventually(lambda: two.count("applied") == 3)  # the erased creation of `gone` says nothing
        copy, original = await two.get(identity), await one.get(identity)
        assert await two.get(gone) is None
        await deleted(one, 1)
        await eventually(lambda: two.count("applied") == 4)
        assert await two.get(identity) is None
    assert copy is not None
    assert original is not None
    assert (copy.payload, copy.coordinate, copy.memory_type) == (original.payload, original.coordinate, "episodic")
    assert (copy.importance, copy.event_time, copy.features) == (2.5, original.event_time, {"mood": 0.5})
    assert copy.pinned
    assert np.array_equal(copy.vector, original.vector)
    events = await read_all(one.settings.kafka_bootstrap_servers or "", one.settings.kafka_memory_events_topic)
    assert sorted(dict(record.headers)["op"] for record in events) == [b"created", b"deleted", b"deleted", b"updated"]
    assert {record.key for record in events} == {f"acme:{identity}".encode(), f"acme:{gone}".encode()}


def _lines(view: Any) -> Any:
    return view.lineages()


async def test_a_copy_is_not_published_again_and_own_events_are_dropped(new_site: NewSite) -> None:
    one, two = await new_site(), await new_site()
    await stored(one)
    async with one.relaying() as relay, two.relaying() as other, one.consuming(), two.consuming():
        await relay.caught_up()
        await eventually(lambda: two.count("applied") == 1 and one.count("own") == 1)
        await other.caught_up()
    assert len(await one.changes()) == 1
    records = await read_all(one.settings.kafka_bootstrap_servers or "", one.settings.kafka_memory_events_topic)
    assert len(records) == 1


async def test_calls_to_kafka_are_counted_as_those_to_other_back_ends(site: Site) -> None:
    await stored(site)
    async with site.relaying() as relay, site.consuming():
        await relay.caught_up()
        await publish(site.settings, raw(event(7)), b"not json")
        await eventually(lambda: site.count("applied") == 1 and site.count("dead") == 1)
        await eventually(lambda: calls(site, "commit") > 0)
    assert {name: calls(site, name) > 0 for name in ("connect", "publish", "letters", "commit")} == {
        "connect": True,
        "publish": True,
        "letters": True,
        "commit": True,
    }


def calls(site: Site, operation: str) -> float:
    said = {"adapter": "kafka", "operation": operation, "outcome": "ok"}
    return site.metrics.registry.get_sample_value("soma_backend_calls_total", said) or 0.0


async def test_a_topic_that_is_new_to_an_old_ledger_is_told_what_lives_and_what_was_deleted(new_site: NewSite) -> None:
    one, two = await new_site(), await new_site()
    for number in (2, 3, 4):
        await stored(one, number)
    await stored(one, 2, text="note, mended")
    await deleted(one, 4)
    await one.intake.ledger.transact(lambda transaction: transaction.trim(0.0, 0))
    with pytest.raises(TailTrimmed):
        await one.changes()
    async with one.relaying() as relay, two.consuming():
        await relay.caught_up()
        await stored(one, 5)
        await eventually(lambda: two.count("applied") == 4)
    assert await two.intake.ledger.counts() == await one.intake.ledger.counts()
    records = await read_all(one.settings.kafka_bootstrap_servers or "", one.settings.kafka_memory_events_topic)
    found = {int(dict(record.headers)["seq"]): json.loads(record.value)["event_id"] for record in records}
    assert sorted(found) == [2, 4, 5, 6]
    publisher = Publisher(await identity_of(one.intake.ledger), chain=await one.intake.ledger.read(_lines))
    changes = await one.intake.ledger.tail(5)
    assert found[6] == publisher.id_of(changes[0])


async def test_an_event_has_one_effect_however_often_it_comes(site: Site) -> None:
    again = raw(event())
    async with site.consuming():
        await publish(site.settings, again, again, raw(event(2)), again)
        await eventually(lambda: site.count("applied") == 2 and site.count("duplicate") == 2)
    assert len(await site.changes()) == 2


async def test_a_late_event_does_not_bring_back_what_was_deleted(site: Site) -> None:
    identity = str(uuid.uuid4())

    def told(version: int, op: str) -> list[tuple[str, bytes]]:
        return [("origin", b"elsewhere"), ("record-version", str(version).encode()), ("op", op.encode())]

    async with site.consuming():
        await publish(
            site.settings, raw(event(id=identity, payload={"text": "b", "coordinate": [1]})), headers=told(2, "updated")
        )
        await publish(site.settings, raw(event(id=identity, payload={"coordinate": [1]})), headers=told(3, "deleted"))
        await publish(
            site.settings, raw(event(id=identity, payload={"text": "a", "coordinate": [1]})), headers=told(1, "created")
        )
        await eventually(lambda: site.count("late") == 1)
    assert site.count("applied") == 2
    assert await site.intake.ledger.counts() == {}


async def test_poison_is_set_aside_with_its_bytes_and_blocks_nobody(site: Site) -> None:
    poison = {
        "not_json": b"\xff{",
        "schema": raw(event(extra=1)),
        "invalid": raw(event(embedding=[1.0, 2.0])),
        "schema_version": raw(event(3)),
    }
    async with site.consuming():
        await publish(site.settings, poison["not_json"], poison["schema"], poison["invalid"])
        await publish(site.settings, poison["schema_version"], headers=[("schema-version", b"9"), ("x", b"\x00\xff")])
        await publish(site.settings, raw(event(4)))
        await eventually(lambda: site.count("applied") == 1 and site.count("dead") == 4)
    letters = [entry.letter for entry in await site.letters()]
    assert {one.reason: one.value for one in letters} == poison
    assert {one.key for one in letters} == {b"default:k"}
    assert {one.topic for one in letters} == {site.settings.kafka_memory_events_topic}
    assert sorted(one.offset for one in letters) == [0, 1, 2, 3]
    wrong = next(one for one in letters if one.reason == "schema_version")
    assert ("x", b"\x00\xff") in wrong.headers
    assert "vector" in next(one.error for one in letters if one.reason == "invalid")
