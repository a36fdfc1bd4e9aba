"""The audit chain on its topic: every line, in order, once, and again after a crash; and only where one is named."""

from __future__ import annotations

import json
import time
import uuid
from importlib.resources import files
from typing import Any

import jsonschema_rs
import pytest

from hack.services import Service
from memory_runtime.events.audit_feed import AuditSink, AuditTail
from memory_runtime.events.pipeline import Pipeline
from memory_runtime.events.relay import Relay
from memory_runtime.stores.audit import AuditLine, verify
from memory_runtime.stores.contracts import AuditEntry, Unit
from memory_runtime.tests.integration.events.conftest import NewSite, Site, create_topics, eventually, read_all

pytestmark = pytest.mark.integration


@pytest.fixture
async def audited(new_site: NewSite, kafka: Service) -> Site:
    """A ledger whose audit chain has a topic."""
    topic = f"{uuid.uuid4().hex[:12]}.audit"
    await create_topics(kafka.url, topic)
    return await new_site(kafka_audit_topic=topic, eventing_enabled=True)


def entry(number: int) -> AuditEntry:
    return AuditEntry("acme", "token@10.0.0.1", "delete", f"notes/{number}", 1.7e9 + number / 3, {"größe": number})


def relay_of(site: Site) -> Relay:
    return Relay(AuditTail(site.intake.ledger), AuditSink(site.intake.ledger, site.settings), site.metrics)


def line_of(record: Any) -> AuditLine:
    body = json.loads(record.value)
    schema = json.loads(files("memory_runtime.events.schemas").joinpath("audit.line.json").read_text())
    jsonschema_rs.Draft7Validator(schema, validate_formats=True).validate(body)
    assert dict(record.headers)["number"] == str(body["number"]).encode()
    values = [body[name] for name in ("number", "unix_time", "tenant", "actor", "action", "subject")]
    detail = json.dumps(body["detail"], ensure_ascii=False, separators=(",", ":"))
    return AuditLine(*values, detail, body["previous_hash"], body["hash"])


async def test_whoever_reads_the_topic_can_prove_the_chain(audited: Site, kafka: Service) -> None:
    ledger, topic = audited.intake.ledger, str(audited.settings.kafka_audit_topic)
    for number in range(1, 6):
        await ledger.commit(Unit(audit=[entry(number)]))
    first = relay_of(audited)
    first.start()
    await eventually(lambda: first._passed == 5)
    await first.stop()
    for number in range(6, 9):
        await ledger.commit(Unit(audit=[entry(number)]))
    second = relay_of(audited)
    second.start()
    await eventually(lambda: second._passed == 8)
    await second.stop()
    records = await read_all(kafka.url, topic)
    assert len({record.key for record in records}) == 1
    assert verify(map(line_of, records)).number == 8
    # the outbox is not held back by this cursor
    assert "audit" not in await ledger.read(lambda view: view.sinks())


async def test_a_line_whose_publishing_was_not_counted_comes_again(audited: Site, kafka: Service) -> None:
    ledger, topic = audited.intake.ledger, str(audited.settings.kafka_audit_topic)
    await ledger.commit(Unit(audit=[entry(1)]))
    sink, tail = AuditSink(ledger, audited.settings), AuditTail(ledger)
    assert await sink.deliver(await tail.tail(0)) == 1
    await sink.close()
    relay = relay_of(audited)
    relay.start()
    await eventually(lambda: relay._passed == 1)
    await relay.stop()
    records = await read_all(kafka.url, topic)
    assert [json.loads(record.value)["number"] for record in records] == [1, 1]


async def test_without_the_topic_in_the_settings_nothing_is_fed(audited: Site) -> None:
    ledger, settings = audited.intake.ledger, audited.settings
    named = Pipeline(settings, ledger, audited.metrics, time.time)
    assert [relay.sink.name for relay in named.relays] == ["kafka", "audit"]
    plain = settings.model_copy(update={"kafka_audit_topic": None})
    assert [relay.sink.name for relay in Pipeline(plain, ledger, audited.metrics, time.time).relays] == ["kafka"]


async def test_a_topic_that_is_not_there_is_waited_for(new_site: NewSite, kafka: Service) -> None:
    later = f"{uuid.uuid4().hex[:12]}.later"
    site = await new_site(kafka_audit_topic=later)
    await site.intake.ledger.commit(Unit(audit=[entry(1)]))
    relay = relay_of(site)
    relay.start()
    await eventually(lambda: relay.failures > 0)
    assert relay.lag == 1
    await create_topics(kafka.url, later)
    await eventually(lambda: relay._passed == 1, seconds=60)
    await relay.stop()


async def test_a_line_whose_time_has_no_name_is_published_all_the_same(audited: Site, kafka: Service) -> None:
    ledger, topic = audited.intake.ledger, str(audited.settings.kafka_audit_topic)
    await ledger.commit(Unit(audit=[odd(-9e10)]))
    await ledger.commit(Unit(audit=[entry(2)]))
    relay = relay_of(audited)
    relay.start()
    await eventually(lambda: relay._passed == 2)
    await relay.stop()
    records = await read_all(kafka.url, topic)
    assert json.loads(records[0].value)["at"] is None
    assert verify(map(line_of, records)).number == 2


def odd(at: float) -> AuditEntry:
    return AuditEntry("acme", "token@10.0.0.1", "delete", "notes/1", at, {})
