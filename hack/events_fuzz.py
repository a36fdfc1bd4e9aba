"""Fuzz of the consumer of events: records that hold anything, over a real Kafka, into a real ledger of each kind.

    hack/fuzz_events --events 50000 [--seed N] [--ledger sqlite|postgres] [--json]

Every record must have a fate: applied, duplicate, late, or on the dead-letter topic; and the consumer must run on. At
the end the dead letters are given to the role that tries them again, and put back with `soma dlq replay`'s code, which
must not end either. Exit status 1 says that something was not accounted for; the seed shows it again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from hack.events_records import DIM, Raw, records
from hack.services import start_kafka, start_postgres
from memory_runtime.engine import Intake, build_intake
from memory_runtime.engine.identity import identity_of
from memory_runtime.engine.ingesting import Outcome
from memory_runtime.events.consumer import Consumer
from memory_runtime.events.dlq import DeadLetterQueue
from memory_runtime.events.dlq_consumer import DlqConsumer
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.postgres import migrating
from memory_runtime.telemetry.metrics import Metrics

_STALLED_SECONDS: Final = 60.0
_FATES: Final = (*(one.value for one in Outcome), "own", "dead")


@dataclass(slots=True)
class Verdict:
    """What became of the records. `stops` counts how often the consumer ended or left its group."""

    ledger: str
    seed: int
    sent: int
    applied: int
    duplicate: int
    late: int
    own: int
    dead: int
    stops: int
    reasons: dict[str, int]
    replayed: int
    seconds: float

    @property
    def accounted(self) -> bool:
        """Whether every record has a fate, and nothing stopped."""
        return self.applied + self.duplicate + self.late + self.own + self.dead == self.sent and not self.stops


async def fuzz(settings: SMFSettings, *, seed: int, count: int, ledger: str) -> Verdict:
    """Sends and consumes `count` records on the settings' topics, which must be fresh. Raises TimeoutError."""
    began = time.monotonic()
    intake = build_intake(settings)
    await asyncio.to_thread(intake.open)
    try:
        await _send(settings, records(seed, count))
        metrics = Metrics()
        stops = await _consume(settings, intake, metrics, count)
        entries = await DeadLetterQueue(settings).entries()
        fates = {name: _count(metrics, name) for name in _FATES}
        assert len(entries) == fates["dead"], f"{len(entries)} letters lie there, {fates['dead']} were counted"
        stops += await _try_again(settings, intake)
        replayed, _ = await DeadLetterQueue(settings).replay(None)
        again = Metrics()
        stops += await _consume(settings, intake, again, len(replayed))
        reasons = dict(Counter(entry.letter.reason for entry in entries))
        seconds = round(time.monotonic() - began, 1)
        return Verdict(
            ledger, seed, count, **fates, stops=stops, reasons=reasons, replayed=len(replayed), seconds=seconds
        )
    finally:
        await asyncio.to_thread(intake.close)


async def _send(settings: SMFSettings, made: Iterator[Raw]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, max_request_size=8 << 20, linger_ms=5
    )
    await producer.start()
    try:
        topic = settings.kafka_memory_events_topic
        waiting: list[Any] = []
        for number, one in enumerate(made):
            # the client wants one of the two
            key = b"" if one.key is None and one.value is None else one.key
            sent = await producer.send(topic, one.value, key, partition=number % 2, headers=one.headers)
            waiting.append(sent)
            if len(waiting) == 5000:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()


def _count(metrics: Metrics, outcome: str) -> int:
    return round(metrics.registry.get_sample_value("soma_consumer_events_total", {"outcome": outcome}) or 0)


def _fated(metrics: Metrics) -> int:
    return sum(_count(metrics, name) for name in _FATES)


async def _consume(settings: SMFSettings, intake: Intake, metrics: Metrics, count: int) -> int:
    """Consumes until that many records have a fate; returns how often it stopped on the way."""
    stops = _Stops()
    logging.getLogger("memory_runtime.events.consumer").addHandler(stops)
    stop = asyncio.Event()
    consumer = Consumer(settings, intake.ingestor, metrics, lambda: identity_of(intake.ledger))
    task = asyncio.create_task(consumer.run(stop))
    try:
        seen, since = -1, time.monotonic()
        while (now := _fated(metrics)) < count and not task.done():
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > _STALLED_SECONDS:
                raise TimeoutError(f"the consumer stands still after {now} of {count} records")
            await asyncio.sleep(0.1)
    finally:
        stop.set()
        await asyncio.wait({task})
        logging.getLogger("memory_runtime.events.consumer").removeHandler(stops)
    task.result()
    return stops.count


async def _try_again(settings: SMFSettings, intake: Intake) -> int:
    """Lets the dead-letter role look at every letter once; returns how often it stopped."""
    stops = _Stops()
    logging.getLogger("memory_runtime.events.dlq_consumer").addHandler(stops)
    stop = asyncio.Event()
    role = DlqConsumer(settings, intake.ingestor, Metrics())
    task = asyncio.create_task(role.run(stop))
    try:
        while not task.done() and await _behind(settings):  # noqa: ASYNC110 -- only the brokers know
            await asyncio.sleep(1.0)
    finally:
        stop.set()
        await asyncio.wait({task})
        logging.getLogger("memory_runtime.events.dlq_consumer").removeHandler(stops)
    task.result()
    return stops.count


async def _behind(settings: SMFSettings) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(f"{settings.kafka_consumer_group}-dlq")
    finally:
        await admin.close()
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(settings.kafka_dlq_topic, number) for number in (0, 1)])
    finally:
        await consumer.stop()
    return any(
        end > 0 and (partition not in committed or committed[partition].offset < end) for partition, end in ends.items()
    )


class _Stops(logging.Handler):
    """Counts how often a consumer says that it stopped."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Counts it."""
        if "consuming stopped" in record.getMessage() or "are not looked at" in record.getMessage():
            self.count += 1


async def fresh_topics(address: str) -> dict[str, Any]:
    """Topics of one run, as settings."""
    name = uuid.uuid4().hex[:12]
    found = {"kafka_memory_events_topic": f"{name}.events", "kafka_dlq_topic": f"{name}.dlq"}
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 2, 1) for topic in found.values()])
    finally:
        await admin.close()
    return found | {"kafka_bootstrap_servers": address, "kafka_consumer_group": f"{name}-group"}


async def fresh_database(url: str) -> dict[str, Any]:
    """A migrated database of one run, as settings."""
    name = f"fuzz_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    values: dict[str, Any] = {"mode": "distributed", "postgres_url": f"{url.rpartition('/')[0]}/{name}"}
    await asyncio.to_thread(migrating.migrate, SMFSettings(**values, vector_dim=DIM))
    return values


@contextmanager
def _services(folder: Path, ledgers: Sequence[str]) -> Iterator[tuple[str, str]]:
    kafka = start_kafka(folder / "kafka")
    postgres = start_postgres(folder / "postgres") if "postgres" in ledgers else None
    try:
        yield kafka[0].url, postgres.url if postgres is not None else ""
    finally:
        kafka[0].kill()
        if postgres is not None:
            postgres.stop()


async def _run(ledger: str, kafka: str, postgres: str, folder: Path, seed: int, count: int) -> Verdict:
    values: dict[str, Any] = {"embedding_provider": "hash", "vector_dim": DIM, "data_dir": folder / f"data-{ledger}"}
    values |= await fresh_topics(kafka)
    values |= {"dlq_retry_seconds": 0.0, "dlq_max_attempts": 2}
    if ledger == "postgres":
        values |= await fresh_database(postgres)
    return await fuzz(SMFSettings(**values), seed=seed, count=count, ledger=ledger)


def main() -> int:
    """Runs it; 0 where everything was accounted for."""
    parser = argparse.ArgumentParser(description="fuzz of the consumer of events")
    parser.add_argument("--events", type=int, default=50_000, help="records sent to each ledger")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--ledger", choices=("sqlite", "postgres"), action="append")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else int(time.time())
    ledgers = arguments.ledger or ["sqlite", "postgres"]
    logging.basicConfig()
    logging.getLogger().handlers[0].setLevel(logging.ERROR)
    print(f"seed {seed}", file=sys.stderr)
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="soma-fuzz-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL's own account must reach it
        with _services(folder, ledgers) as (kafka, postgres):
            for ledger in ledgers:
                verdict = asyncio.run(_run(ledger, kafka, postgres, folder, seed, arguments.events))
                verdicts.append(verdict)
                found = asdict(verdict) | {"accounted": verdict.accounted}
                print(json.dumps(found) if arguments.json else found, flush=True)
    return 0 if all(one.accounted for one in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
