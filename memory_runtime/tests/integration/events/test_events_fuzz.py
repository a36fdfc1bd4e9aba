"""Records that hold anything: each has a fate, and the consumer runs on. The long run is `hack/fuzz_events`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from hack.cluster.errors import ClusterError
from hack.events_fuzz import fresh_database, fuzz
from hack.requirement import unavailable
from hack.services import Service, start_postgres
from memory_runtime.engine.ingesting import IncomingEvent, Outcome
from memory_runtime.events.dlq import DeadLetterQueue
from memory_runtime.events.dlq_consumer import DlqConsumer
from memory_runtime.model.errors import SomaError
from memory_runtime.settings import SMFSettings
from memory_runtime.tests.integration.conftest import Serve
from memory_runtime.tests.integration.events.conftest import DIM, NewSite, Site, eventually, publish
from memory_runtime.tests.integration.events.test_events_faults import environment_of
from memory_runtime.tests.integration.events.test_events_pipeline import event, raw

pytestmark = pytest.mark.integration
SEED = 12
EVENTS = 1500


@pytest.fixture(scope="module")
def fuzz_postgres() -> Iterator[Service]:
    """A PostgreSQL server for the ledger of this module."""
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


@pytest.mark.parametrize("ledger", ["sqlite", "postgres"])
async def test_every_record_has_a_fate_and_nothing_stops(
    ledger: str, topics: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    values: dict[str, Any] = {"data_dir": tmp_path / "data", "embedding_provider": "hash", "vector_dim": DIM}
    values |= {"dlq_retry_seconds": 0.0, "dlq_max_attempts": 2} | topics
    if ledger == "postgres":
        values |= await fresh_database(request.getfixturevalue("fuzz_postgres").url)
    verdict = await fuzz(SMFSettings(**values), seed=SEED, count=EVENTS, ledger=ledger)
    assert verdict.accounted, verdict
    assert min(verdict.applied, verdict.duplicate, verdict.late, verdict.dead) > 0
    assert {"not_json", "schema", "header", "invalid", "schema_version"} <= verdict.reasons.keys()


class Picky:
    """An ingestor with a defect: it fails, with all that it is given, where one event is called `poison`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def apply(self, events: list[IncomingEvent]) -> list[Outcome | SomaError]:
        if any(one.event_id == "poison" for one in events):
            raise OverflowError("int too large to convert to float")
        return await self._site.intake.ingestor.apply(events)


async def test_a_defect_that_one_event_meets_costs_the_others_nothing(site: Site) -> None:
    told = [raw(event(number)) for number in range(20)]
    async with site.consuming(Picky(site)):
        await publish(site.settings, *told[:7], raw(event(99, event_id="poison")), *told[7:])
        await eventually(lambda: site.count("applied") == 20 and site.count("dead") == 1)
    (entry,) = await site.letters()
    assert (entry.letter.reason, entry.letter.retryable) == ("defect", True)
    assert "OverflowError" in entry.letter.error


async def test_what_was_reported_is_set_aside_and_a_server_serves_on(topics: dict[str, Any], serve: Serve) -> None:
    server = serve(**environment_of(topics), SOMA_CONSUMER_IN_SERVE="true", SOMA_VECTOR_DIM=str(DIM))
    settings = SMFSettings(**topics)
    huge = b"9" * 400
    nested = b'{"features":' + b"[" * 5000 + b"]" * 5000 + b"}"
    await publish(settings, raw(event(1)).replace(b'"embedding": [1.0', b'"embedding": [' + huge))
    await publish(settings, raw(event(2, importance=7)).replace(b'"importance": 7', b'"importance": ' + huge))
    await publish(settings, raw(event(3)).replace(b'"coordinate": [3.0', b'"coordinate": [' + huge))
    await publish(settings, raw(event(4)), headers=[("attributes", nested)])
    await publish(settings, raw(event(5)), headers=[("origin", b"o" * 6000)])
    await publish(settings, raw(event(6)), headers=[("attributes", b'{"expires_at": Infinity}')])
    await publish(settings, None, key=b"tombstone")
    await publish(settings, raw(event(7, namespace="api_ns")))

    def matches() -> list[Any]:
        with server.client(tenant="default") as client:
            return list(client.post("/recall", json={"query": "note 7", "top_k": 3}).json()["matches"])

    found = await eventually(lambda: asyncio.to_thread(matches))
    assert [one["text"] for one in found] == ["note 7"]
    letters = await eventually(lambda: seven(settings))
    assert {entry.letter.reason for entry in letters} == {"invalid", "header", "not_json"}
    assert server.stop() == 0


async def seven(settings: SMFSettings) -> list[Any]:
    entries = await DeadLetterQueue(settings).entries()
    return entries if len(entries) == 7 else []


class Name(str):
    """A header's name whose bytes are not UTF-8, as a client in C can send it."""

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


async def test_a_record_that_the_client_cannot_read_is_set_aside(site: Site) -> None:
    async with producing_raw(site.settings) as producer:
        topic = site.settings.kafka_memory_events_topic
        for number in range(1, 6):
            batch = producer.create_batch()
            # the other builder takes a name as it comes
            batch._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 20)
            headers = [(Name("x") if number == 3 else "x", b"1")]
            batch.append(key=b"k", value=raw(event(number)), timestamp=None, headers=headers)
            batch.close()
            await (await producer.send_batch(batch, topic, partition=0))
    async with site.consuming():
        await eventually(lambda: site.count("applied") == 4 and site.count("dead") == 1)
    (entry,) = await site.letters()
    assert (entry.letter.reason, entry.letter.partition, entry.letter.offset) == ("unreadable", 0, 2)
    assert entry.letter.omitted


async def test_a_letter_whose_headers_are_too_large_is_laid_without_them(site: Site) -> None:
    large = [(f"h{number}", b"x" * 100_000) for number in range(9)]
    async with site.consuming():
        await publish(site.settings, b"x" * 90_000, headers=large)
        await eventually(lambda: site.count("dead") == 1)


async def test_the_role_and_the_commands_get_over_letters_that_others_wrote(new_site: NewSite) -> None:
    site = await new_site(dlq_retry_seconds=0.0)
    topic = site.settings.kafka_dlq_topic
    nonsense: list[list[tuple[str, Any]]] = [
        [("dlq-reason", b"defect"), ("dlq-source", b"consumer"), ("dlq-failed-at", b"soon")],
        [("dlq-reason", b"defect"), ("dlq-source", b"consumer"), ("dlq-failed-at", b"inf"), ("dlq-attempts", b"x")],
        [("dlq-reason", None), ("dlq-offset", b"9" * 5000), ("dlq-topic", b"no such topic")],
        [("dlq-marker", b"nonsense"), ("dlq-marked", None)],
        [("dlq-marker", None)],
    ]
    async with producing_raw(site.settings) as producer:
        for headers in nonsense:
            await producer.send_and_wait(topic, b"{", b"k", partition=0, headers=headers)
        good = [("dlq-reason", b"defect"), ("dlq-source", b"consumer")]
        await producer.send_and_wait(topic, raw(event(1)), b"k", partition=0, headers=good)
    stop = asyncio.Event()
    role = DlqConsumer(site.settings, site.intake.ingestor, site.metrics)
    task = asyncio.create_task(role.run(stop))
    try:
        await eventually(site.changes)
        assert not task.done()
    finally:
        stop.set()
        await task
    queue = DeadLetterQueue(site.settings)
    assert len(await queue.entries()) >= 4
    done, left = await queue.replay(None)
    assert done
    assert ["no topic" in one.reason for one in left] == [True]


def producing_raw(settings: SMFSettings) -> Any:
    """A producer that is entered and left."""
    return AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, max_request_size=10 << 20)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_events_that_a_producer_compresses_are_read(site: Site, codec: str) -> None:
    brokers = site.settings.kafka_bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=brokers, compression_type=codec, linger_ms=20) as producer:
        topic = site.settings.kafka_memory_events_topic
        sent = [await producer.send(topic, raw(event(number)), b"k", partition=0) for number in range(20)]
        await asyncio.gather(*sent)
    async with site.consuming():
        await eventually(lambda: site.count("applied") == 20)
    assert site.count("dead") == 0
