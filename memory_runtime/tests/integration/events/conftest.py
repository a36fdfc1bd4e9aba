"""One real Kafka broker for all tests of this folder, with fresh topics and ledgers for each."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Authority, SecureKafka, Service, ServiceError, start_secure_kafka
from memory_runtime.engine import Intake, build_intake
from memory_runtime.engine.identity import identity_of
from memory_runtime.events.consumer import Consumer
from memory_runtime.events.dlq import DeadLetterQueue, Entry
from memory_runtime.events.gaps import Positions
from memory_runtime.events.kafka_sink import KafkaSink
from memory_runtime.events.relay import Relay
from memory_runtime.model.records import MemoryRecord
from memory_runtime.settings import SMFSettings
from memory_runtime.telemetry.metrics import Metrics

Json = dict[str, Any]
DIM = 3


@dataclass(frozen=True)
class Secure:
    """The broker with its secured listeners, and the files that its clients need."""

    broker: SecureKafka
    authority: Path
    certificate: Path
    key: Path
    other_authority: Path


@pytest.fixture(scope="session")
def kafka_secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """One broker that speaks plainly, over mutual TLS and over SASL."""
    folder = tmp_path_factory.mktemp("kafka")
    try:
        authority, other = Authority(folder / "ca"), Authority(folder / "other", "another")
        pair = authority.issue("client")
        broker = start_secure_kafka(folder / "broker", authority)
    except (ClusterError, ServiceError) as error:
        unavailable(str(error))
    yield Secure(broker, authority.certificate, pair.certificate, pair.key, other.certificate)
    broker.service.kill()


@pytest.fixture(scope="session")
def kafka(kafka_secure: Secure) -> Service:
    """The broker by its plain listener; its url is host:port."""
    return kafka_secure.broker.service


async def create_topics(address: str, *names: str, partitions: int = 1, replicas: int = 1, **configs: str) -> None:
    """Creates the topics; `configs` are topic settings with underscores for dots."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        given = {name.replace("_", "."): value for name, value in configs.items()}
        await admin.create_topics([NewTopic(name, partitions, replicas, topic_configs=given) for name in names])
    finally:
        await admin.close()


@dataclass
class Site:
    """One ledger with its relay and consumer, as a process of its own would have them."""

    intake: Intake
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def settings(self) -> SMFSettings:
        return self.intake.settings

    def relay(self, **options: Any) -> Relay:
        import time

        sink = KafkaSink(self.intake.ledger, self.settings, self.metrics, time.time)
        return Relay(self.intake.ledger, sink, self.metrics, **options)

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[Relay]:
        relay = self.relay()
        relay.start()
        try:
            yield relay
        finally:
            await relay.stop()

    def consumer(self, ingestor: Any = None) -> Consumer:
        ledger, settings = self.intake.ledger, self.settings
        positions = Positions(ledger, settings.kafka_consumer_group, settings.kafka_memory_events_topic)
        return Consumer(
            settings, ingestor or self.intake.ingestor, self.metrics, lambda: identity_of(ledger), positions
        )

    @asynccontextmanager
    async def consuming(self, ingestor: Any = None) -> AsyncIterator[Consumer]:
        stop = asyncio.Event()
        consumer = self.consumer(ingestor)
        task = asyncio.create_task(consumer.run(stop))
        try:
            yield consumer
        finally:
            stop.set()
            await task

    def count(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("soma_consumer_events_total", {"outcome": outcome}) or 0.0

    async def get(self, identity: str) -> MemoryRecord | None:
        return await self.intake.ledger.get(uuid.UUID(identity))

    async def changes(self) -> list[Any]:
        return await self.intake.ledger.tail(0)

    async def letters(self) -> list[Entry]:
        return await DeadLetterQueue(self.settings).entries()


async def eventually(ask: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """What `ask` gives once it is true."""
    async with asyncio.timeout(seconds):
        while True:
            found = ask()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.05)


NewSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def topics(kafka: Service) -> dict[str, Any]:
    """Fresh topics of one test, as settings."""
    name = uuid.uuid4().hex[:12]
    found = {"kafka_memory_events_topic": f"{name}.events", "kafka_dlq_topic": f"{name}.dlq"}
    await create_topics(kafka.url, *found.values(), partitions=2)
    return found | {"kafka_bootstrap_servers": kafka.url, "kafka_consumer_group": f"{name}-group"}


@pytest.fixture
async def new_site(topics: dict[str, Any], tmp_path: Path) -> AsyncIterator[NewSite]:
    """Opens ledgers on the test's topics: `await new_site(consumer_batch_size=2)`."""
    sites: list[Site] = []

    async def opener(**settings: Any) -> Site:
        number = len(sites)
        values = {"data_dir": tmp_path / f"site-{number}", "embedding_provider": "hash", "vector_dim": DIM}
        values |= topics | {"kafka_consumer_group": f"{topics['kafka_consumer_group']}-{number}"} | settings
        site = Site(build_intake(SMFSettings(**values)))
        await asyncio.to_thread(site.intake.open)
        sites.append(site)
        return site

    yield opener
    for site in sites:
        await asyncio.to_thread(site.intake.close)


@pytest.fixture
async def site(new_site: NewSite) -> Site:
    return await new_site()


@asynccontextmanager
async def producing(settings: SMFSettings) -> AsyncIterator[AIOKafkaProducer]:
    """A plain producer, as another program has it."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, max_request_size=10 << 20)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def publish(
    settings: SMFSettings, *values: bytes | None, headers: Sequence[tuple[str, bytes]] = (), key: bytes = b"default:k"
) -> None:
    """Puts values on the events topic, in order, under one key."""
    async with producing(settings) as producer:
        for value in values:
            await producer.send_and_wait(
                settings.kafka_memory_events_topic, value, key, headers=list(headers), timestamp_ms=None
            )


async def read_all(address: str, topic: str) -> list[Any]:
    """Every record of the topic."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=address, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        found: list[Any] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                while len(found) < sum(ends.values()):
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        found += records
        return found
    finally:
        await consumer.stop()
