"""The sink that publishes: changes become events on Kafka, acknowledged by all in-sync replicas before they count."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from memory_runtime.engine.identity import identity_of
from memory_runtime.engine.ingesting import IncomingEvent
from memory_runtime.events.abandoned import abandoned_events
from memory_runtime.events.blame import body_of
from memory_runtime.events.calls import counted
from memory_runtime.events.codec import Encoded, Publisher, encode
from memory_runtime.events.connecting import client_options, reach, require_topics
from memory_runtime.events.dead_letters import OF_A_SINK, Letter, Morgue, lay_one
from memory_runtime.events.poison import Poison
from memory_runtime.events.registry import register
from memory_runtime.model.coordinates import canonical_coordinate
from memory_runtime.model.records import MemoryRecord
from memory_runtime.model.threads import in_thread
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Change, Lineage, Operation
from memory_runtime.stores.sessions import Ledger, LedgerView
from memory_runtime.telemetry.metrics import Metrics

log = logging.getLogger(__name__)
_BATCH_BYTES: Final = 256 << 10
_LETTER_ROOM: Final = 64 << 10
_REBUILD_ROWS: Final = 500


class _Sent(NamedTuple):
    change: Change
    event: Encoded


def producer_of(settings: SMFSettings, *, most_bytes: int) -> AIOKafkaProducer:
    """A producer that is told of nothing before all in-sync replicas have it, and writes nothing twice on a retry."""
    return AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        enable_idempotence=True,
        linger_ms=2,
        max_batch_size=min(_BATCH_BYTES, settings.kafka_max_message_bytes),
        max_request_size=most_bytes,
    )


class KafkaSink:
    """Publishes the ledger's changes of memories; links stay in the ledger."""

    name = "kafka"

    def __init__(self, ledger: Ledger, settings: SMFSettings, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._settings = settings
        self._topic = settings.kafka_memory_events_topic
        self._morgue = Morgue(settings.kafka_dlq_topic, metrics)
        self._clock = clock
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._publisher: Publisher | None = None
        self._offsets: dict[str, int] = {}

    @property
    def position(self) -> str:
        """The offsets after what was published last, by partition: what comes later was not counted by the cursor."""
        return json.dumps(self._offsets)

    def resume(self, position: str | None) -> None:
        """Goes on from a position that was kept with the cursor."""
        self._offsets = json.loads(position) if position else {}

    async def reconcile(self, chain: Sequence[Lineage], since: str, cursor: int, position: str | None) -> None:
        """Publishes the truth about every memory of which the topic tells what the ledger has lost."""
        del since, cursor
        producer = await self._connected()
        assert self._publisher is not None  # noqa: S101 -- set with the producer
        events = await abandoned_events(self._settings, self._topic, self._publisher.origin, chain, position)
        if not events:
            return
        log.warning("the topic tells of %d memories what the ledger has lost: it is told again", len(events))
        restating = dataclasses.replace(self._publisher, chain=chain, restates=True)
        told = list(events.values())
        for start in range(0, len(told), _REBUILD_ROWS):
            page = told[start : start + _REBUILD_ROWS]
            ids = [uuid.UUID(event.id).bytes for event in page]
            records = await self._ledger.read(lambda view, ids=ids: view.by_ids(ids))  # type: ignore[misc]
            changes = [_restated(event, records.get(uuid.UUID(event.id).bytes)) for event in page]
            await self._publish(producer, changes, await self._records(changes), restating)

    async def deliver(self, changes: Sequence[Change]) -> int:
        """Publishes them in order; what can never pass goes to the DLQ topic. Raises where the brokers do not answer.

        A topic or a credential that is wrong raises SettingsError, is logged with its remedy, and is tried again:
        requests do not stop for it.
        """
        producer = await self._connected()
        try:
            records, publisher = await self._records(changes), await self._publisher_now()
            with counted(self._metrics, "publish"):
                await self._publish(producer, changes, records, publisher)
        except BaseException:
            # after a failed batch an idempotent producer has lost its count: only a fresh one starts a new one
            await self.close()
            raise
        return changes[-1].seq

    async def close(self) -> None:
        """Ends the producer; the next delivery makes a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        with counted(self._metrics, "connect"):
            return await self._connect()

    async def _connect(self) -> AIOKafkaProducer:
        await reach(self._settings)
        topics = {"kafka_memory_events_topic": self._topic, "kafka_dlq_topic": self._morgue.topic}
        await require_topics(self._settings, topics)
        if self._publisher is None:
            schema_id = await register(self._settings)
            self._publisher = Publisher(await identity_of(self._ledger), schema_id)
        producer = producer_of(self._settings, most_bytes=self._settings.kafka_max_message_bytes + _LETTER_ROOM)
        await producer.start()
        self._producer = producer
        return producer

    async def _publisher_now(self) -> Publisher:
        """Who publishes, with the ledger's lines as they are."""
        assert self._publisher is not None  # noqa: S101 -- set with the producer
        chain = await self._ledger.read(lambda view: view.lineages())
        return dataclasses.replace(self._publisher, chain=chain)

    async def _records(self, changes: Sequence[Change]) -> dict[bytes, MemoryRecord]:
        """The memories as they are now, with their vectors where events carry them."""
        ids = list({change.id.bytes for change in changes if change.operation is Operation.PUT and not change.origin})
        dim = self._settings.vector_dim if self._settings.event_embeddings else None

        def query(view: LedgerView) -> dict[bytes, MemoryRecord]:
            records = view.by_ids(ids)
            if dim is not None:
                for rows in view.some(ids, dim):
                    for identity, vector in zip(rows.ids, rows.vectors, strict=True):
                        if identity in records:
                            records[identity] = dataclasses.replace(records[identity], vector=vector)
            return records

        return await self._ledger.read(query) if ids else {}

    async def _publish(
        self,
        producer: AIOKafkaProducer,
        changes: Sequence[Change],
        records: dict[bytes, MemoryRecord],
        publisher: Publisher,
    ) -> None:
        # in a thread: a thousand vectors take longer to write out than a request may wait for the event loop
        sent, letters = await in_thread(self._encoded, changes, records, publisher)
        waiting = [
            await producer.send(self._topic, one.event.value, one.event.key, headers=one.event.headers) for one in sent
        ]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        failed = [(one, result) for one, result in zip(sent, results, strict=True) if isinstance(result, BaseException)]
        for result in results:
            if not isinstance(result, BaseException):
                self._offsets[str(result.partition)] = result.offset + 1
        if any(isinstance(result, MessageSizeTooLargeError) for _, result in failed):
            # behind a batch that is too large all others fail too: the count of the idempotent producer has a gap
            letters += await self._one_by_one([one for one, _ in failed])
        elif failed:
            raise failed[0][1]
        await self._morgue.lay(await self._connected(), letters)

    def _encoded(
        self, changes: Sequence[Change], records: dict[bytes, MemoryRecord], publisher: Publisher
    ) -> tuple[list[_Sent], list[Letter]]:
        """The events to publish, and letters for what can never pass."""
        sent: list[_Sent] = []
        letters: list[Letter] = []
        limit = self._settings.kafka_max_message_bytes
        for change in changes:
            try:
                event = encode(change, records.get(change.id.bytes), publisher)
            except Exception as error:
                # nothing that is wrong with one change may stop those behind it
                if not isinstance(error, Poison):
                    log.exception("a change cannot be made an event", extra={"seq": change.seq})
                poison = error if isinstance(error, Poison) else Poison("defect", f"no event: {type(error).__name__}")
                letters.append(self._letter(change, poison, Encoded(_key(change), body_of(change), [])))
                continue
            if event is None:
                continue
            if len(event.value) > limit:
                letters.append(self._letter(change, _too_large(event, limit), event))
            else:
                sent.append(_Sent(change, event))
        return sent, letters

    async def _one_by_one(self, unsent: Sequence[_Sent]) -> list[Letter]:
        """Publishes each alone, in order; those that the topic finds too large come back as letters."""
        letters: list[Letter] = []
        await self.close()
        for one in unsent:
            producer = await self._connected()
            try:
                await producer.send_and_wait(self._topic, one.event.value, one.event.key, headers=one.event.headers)
            except MessageSizeTooLargeError:
                letters.append(self._letter(one.change, _too_large(one.event, None), one.event))
                await self.close()
        return letters

    def _letter(self, change: Change, poison: Poison, event: Encoded) -> Letter:
        return Letter(
            reason=poison.reason,
            error=str(poison),
            source="relay",
            topic=self._topic,
            partition=-1,
            offset=change.seq,
            failed_at=self._clock(),
            key=event.key or None,
            value=event.value,
            headers=event.headers,
        )

    async def rebuild(self) -> int:
        """Publishes every live memory as it is now, and every delete, for whoever has missed what was published.

        Their event ids are those of the changes that made them so: who has seen those sees nothing new.
        """
        head = await self._ledger.read(lambda view: view.head())
        ids = await in_thread(self._all_ids)
        for start in range(0, len(ids), _REBUILD_ROWS):
            part = ids[start : start + _REBUILD_ROWS]
            found = await self._ledger.read(lambda view, part=part: view.by_ids(part))  # type: ignore[misc]
            changes = [_change_of(record) for record in found.values()]
            if changes:
                await self.deliver(sorted(changes, key=lambda change: change.seq))
        after = -1
        while gone := await self._ledger.read(partial(_tombstones, after)):
            await self.deliver(sorted((change for _, change in gone), key=lambda change: change.seq))
            after = gone[-1][0]
        return head

    def _all_ids(self) -> list[bytes]:
        return [identity for rows in self._ledger.scan(self._settings.vector_dim) for identity in rows.ids]


def _restated(event: IncomingEvent, record: MemoryRecord | None) -> Change:
    """What the ledger holds of the memory that an abandoned event told of: its state, or that there is none."""
    if record is not None:
        return dataclasses.replace(_change_of(record), created=False, collection=event.collection)
    return Change(
        seq=0,
        operation=Operation.DELETE,
        id=uuid.UUID(event.id),
        scope=event.scope,
        memory_type=event.memory_type,
        version=0,
        at=event.at if event.at is not None else event.timestamp,
        payload=None,
        collection=event.collection,
        coordinate=canonical_coordinate(event.coordinate),
    )


def _tombstones(after: int, view: LedgerView) -> list[tuple[int, Change]]:
    return view.tombstones(after, _REBUILD_ROWS)


def _change_of(record: MemoryRecord) -> Change:
    return Change(
        seq=record.seq,
        operation=Operation.PUT,
        id=record.id,
        scope=record.scope,
        memory_type=record.memory_type,
        version=record.version,
        at=record.ingest_time,
        # not the canonical text: an older ledger may hold what has none, which is said when the event is made
        payload=json.dumps(record.payload, ensure_ascii=False),
        created=record.version == 1,
        coordinate=record.coordinate_text,
        event_time=record.event_time,
        importance=record.importance,
        model_revision=record.model_revision,
    )


def _key(change: Change) -> bytes:
    return f"{change.scope.tenant}:{change.id}".encode(errors="replace")


class RelayLetters:
    """Lays what a sink cannot take, whichever it is, on the dead-letter topic.

    The letter's topic names the sink, in a form that is the name of no topic: what is in it is no event to put back.
    """

    def __init__(self, settings: SMFSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock

    async def lay(self, sink: str, change: Any, reason: str, error: str) -> None:
        """Returns once the brokers have it. Raises KafkaError, Unavailable or SettingsError."""
        await reach(self._settings)
        topic = self._settings.kafka_dlq_topic
        await require_topics(self._settings, {"kafka_dlq_topic": topic})
        key = _key(change) if isinstance(change, Change) else b""
        letter = Letter(
            reason,
            error,
            "relay",
            OF_A_SINK + sink,
            -1,
            change.seq,
            self._clock(),
            key or None,
            body_of(change),
            [],
            omitted=False,
        )
        # rare: a producer of its own, which nothing else can have left in a bad state
        producer = producer_of(self._settings, most_bytes=self._settings.kafka_max_message_bytes + _LETTER_ROOM)
        await producer.start()
        try:
            await lay_one(producer, topic, letter)
        finally:
            await producer.stop()


def _too_large(event: Encoded, limit: int | None) -> Poison:
    bound = f"kafka_max_message_bytes is {limit}" if limit is not None else "the topic's max.message.bytes is less"
    return Poison("too_large", f"the event has {len(event.value)} bytes, and {bound}")
