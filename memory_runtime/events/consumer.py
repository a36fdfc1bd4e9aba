"""The consumer: reads events in batches, applies each once, sets poison aside, and commits offsets last of all.

Offsets are committed after the ledger's transaction and after the DLQ has what could not be applied: a crash in
between brings events again, and their ids keep their effect single. While the ledger is away the batch is tried
again with full jitter; after `consumer_stall_seconds` the consumer leaves its group, so that one with a ledger can
take its partitions, and comes back when its own answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from memory_runtime.engine.ingesting import BREATH, IncomingEvent, Outcome, passes
from memory_runtime.events.backoff import in_words, pause_after
from memory_runtime.events.calls import counted
from memory_runtime.events.codec import origin_of, told
from memory_runtime.events.connecting import reach, require_topics
from memory_runtime.events.dead_letters import Letter, Morgue, letter_of
from memory_runtime.events.gaps import Gap, Positions, missed
from memory_runtime.events.kafka_sink import producer_of
from memory_runtime.events.poison import Poison, poison_of
from memory_runtime.events.polling import Reader, Unread, Unreadable, member_of, rewind
from memory_runtime.model import failpoints
from memory_runtime.model.errors import Internal, SomaError
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.tracing import recording, span_of_event

log = logging.getLogger(__name__)

COMPONENT: Final = "ledger"
_POLL_MS: Final = 200
_LETTER_ROOM: Final = 10 << 20
_DEFECT_TRIES: Final = 3


class Applies(Protocol):
    """What takes events: `engine.ingesting.Ingestor`."""

    async def apply(self, events: Sequence[IncomingEvent]) -> list[Outcome | SomaError]: ...


class Stalled(Exception):  # noqa: N818 -- a condition, answered by leaving the group for a while
    """The ledger has been away for too long."""


class Abandoned(Exception):  # noqa: N818 -- a condition, answered by dropping the batch
    """The batch is no longer ours to finish: its partitions went away, or the process must stop."""


@dataclass(slots=True)
class _Batch:
    """What was read at once, sorted: `sources[i]` is the record of `events[i]`."""

    records: Sequence[Any]
    events: list[IncomingEvent] = field(default_factory=list)
    sources: list[Any] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    own: int = 0


class Consumer:
    """Runs until told to stop. One per process."""

    def __init__(
        self,
        settings: SMFSettings,
        ingestor: Applies,
        metrics: Metrics,
        identity: Callable[[], Awaitable[str]],
        positions: Positions | None = None,
    ) -> None:
        """`identity` gives the origin whose events are dropped: our ledger's. `positions` is where the group stood."""
        self.partitions: frozenset[TopicPartition] = frozenset()
        self._settings = settings
        self._ingestor = ingestor
        self._metrics = metrics
        self._identity = identity
        self._morgue = Morgue(settings.kafka_dlq_topic, metrics)
        self._busy = asyncio.Lock()
        self._working: asyncio.Task[None] | None = None
        self._epoch = 0
        self._next: dict[TopicPartition, int] = {}
        self._positions = positions
        self._new: set[TopicPartition] = set()
        self._expected: dict[TopicPartition, int] = {}
        self._stop = asyncio.Event()
        self._joined = self._careful = False
        for outcome in (*(one.value for one in Outcome), "own", "dead"):
            metrics.consumer_events.labels(outcome)

    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until `stop`, and finishes the batch in hand.

        Raises SettingsError where brokers or topics are not as the settings say when it begins, and nothing else: a
        process that serves may run it, and no event may end that.
        """
        self._stop = stop
        failures = 0
        while not stop.is_set():
            try:
                await self._session()
                failures = 0
            except Exception as error:
                if isinstance(error, SettingsError) and not self._joined:
                    raise
                failures += 1
                self._careful = self._careful or isinstance(error, Unreadable)
                self._metrics.consumer_failure.labels(COMPONENT).inc()
                pause = pause_after(failures)
                known = isinstance(error, KafkaError | SomaError | SettingsError | OSError | Stalled | Unreadable)
                log.warning(
                    "consuming stopped: %s",
                    in_words(error),
                    extra={"pause_seconds": round(pause, 2)},
                    exc_info=None if known else error,
                )
                await self._rest(pause)

    async def _session(self) -> None:
        """One membership in the group: from joining to leaving."""
        settings = self._settings
        topics = {
            "kafka_memory_events_topic": settings.kafka_memory_events_topic,
            "kafka_dlq_topic": settings.kafka_dlq_topic,
        }
        with counted(self._metrics, "connect"):
            await reach(settings)
            await require_topics(settings, topics)
        identity = await self._identity()
        async with contextlib.AsyncExitStack() as stack:
            producer = producer_of(settings, most_bytes=settings.kafka_max_message_bytes + _LETTER_ROOM)
            await producer.start()
            stack.push_async_callback(producer.stop)
            consumer = member_of(settings)
            consumer.subscribe([settings.kafka_memory_events_topic], listener=_Listener(self))
            await consumer.start()
            stack.push_async_callback(consumer.stop)
            stack.push_async_callback(self._settled)
            self._joined = True
            reader, self._careful = Reader(consumer, careful=self._careful), False
            while not self._stop.is_set():
                await self._turn(consumer, reader, producer, identity)

    async def _turn(
        self, consumer: AIOKafkaConsumer, reader: Reader, producer: AIOKafkaProducer, identity: str
    ) -> None:
        """Gathers and decodes one batch while the one before is being made durable; batches never overtake."""
        epoch = self._epoch
        await self._look_for_gaps(consumer)
        records = await self._gather(reader)
        await self._look_within(consumer, records)
        batch = await self._sort(records, identity) if records else None
        await self._settled()
        if batch is not None:
            self._working = asyncio.create_task(self._work(consumer, producer, batch, epoch), name="batch")
        await self._measure(consumer)

    async def _settled(self) -> None:
        """Returns once no batch is being worked on. Raises what ended it, if anything did."""
        working, self._working = self._working, None
        if working is not None:
            await working

    async def _work(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, batch: _Batch, epoch: int) -> None:
        async with self._busy:
            if epoch != self._epoch:
                rewind(consumer, batch.records)
                self._expected.clear()
                return
            began, since = time.perf_counter(), time.time_ns()
            with contextlib.suppress(Abandoned):
                fates = await self._handle(producer, batch, epoch)
                failpoints.reach("mid-consume")
                await self._commit(consumer, batch.records)
                _trace(batch, fates, since)
                self._metrics.consumer_latency.observe(time.perf_counter() - began)

    async def _gather(self, reader: Reader) -> list[Any]:
        """A batch: full, or as much as came within the window after its first record."""
        most, window = self._settings.consumer_batch_size, self._settings.consumer_batch_window_ms / 1000
        records = await reader.read(_POLL_MS, most)
        closes = time.monotonic() + window
        while records and len(records) < most and not self._stop.is_set():
            left = closes - time.monotonic()
            if left <= 0:
                break
            records += await reader.read(max(1, round(left * 1000)), most - len(records))
        return records

    async def _handle(self, producer: AIOKafkaProducer, batch: _Batch, epoch: int) -> Sequence[Outcome | SomaError]:
        """The events' fates, once every record is durable in the ledger, on the DLQ, or our own."""
        letters = list(batch.letters)
        fates = await self._apply(batch.events, epoch)
        for source, fate in zip(batch.sources, fates, strict=True):
            if isinstance(fate, SomaError):
                letters.append(letter_of(poison_of(fate), source))
        if letters:
            await self._persist(lambda: self._morgue.lay(producer, letters), epoch)
        self._count(batch, fates, letters)
        return fates

    async def _apply(self, events: list[IncomingEvent], epoch: int) -> list[Outcome | SomaError]:
        """Each event's fate. What fails by a defect, which may be of the moment, is tried a few times."""
        fates: dict[int, Outcome | SomaError] = {}
        again = list(range(len(events)))
        for attempt in range(_DEFECT_TRIES if events else 0):
            if attempt:
                await self._rest(pause_after(attempt))
            tried = [events[at] for at in again]
            fates |= zip(again, await self._persist(partial(self._fates, tried), epoch), strict=True)
            again = [at for at in again if isinstance(fates[at], Internal)]
            if not again:
                break
        return [fates[at] for at in range(len(events))]

    async def _fates(self, events: list[IncomingEvent]) -> list[Outcome | SomaError]:
        """The fate of each. What fails as a whole is halved until the event that is to blame is alone."""
        try:
            return await self._ingestor.apply(events)
        except Exception as error:
            if passes(error) or isinstance(error, KafkaError):
                raise
            if len(events) == 1:
                log.exception("an event met a defect: %s", type(error).__name__)
                return [Internal(f"the event could not be applied: {type(error).__name__}", remedy="see the log")]
        middle = len(events) // 2
        return [*await self._fates(events[:middle]), *await self._fates(events[middle:])]

    async def _sort(self, records: Sequence[Any], identity: str) -> _Batch:
        batch = _Batch(records)
        for number, record in enumerate(records):
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)  # whoever serves in this process must not wait for a whole batch
            if origin_of(record.headers) == identity:
                batch.own += 1
                continue
            try:
                if isinstance(record, Unread):
                    raise record.poison
                batch.events.append(told(record.value, record.headers, self._settings.default_tenant))
                batch.sources.append(record)
            except Poison as poison:
                batch.letters.append(letter_of(poison, record))
        return batch

    async def _persist(self, act: Callable[[], Awaitable[Any]], epoch: int) -> Any:
        """Tries until it succeeds. Raises Abandoned, or Stalled when it has failed for too long."""
        failures, since = 0, time.monotonic()
        while True:
            try:
                return await act()
            except Exception as error:
                if not (passes(error) or isinstance(error, KafkaError)):
                    raise
                failures += 1
                self._metrics.consumer_failure.labels(COMPONENT).inc()
                pause = pause_after(failures)
                level = logging.WARNING if failures in {1, 5} else logging.DEBUG
                log.log(level, "a batch is put off: %s", in_words(error), extra={"pause_seconds": round(pause, 2)})
                if time.monotonic() - since > self._settings.consumer_stall_seconds:
                    raise Stalled(in_words(error)) from error
            await self._rest(pause)
            if epoch != self._epoch or self._stop.is_set():
                raise Abandoned

    async def _commit(self, consumer: AIOKafkaConsumer, records: Iterable[Any]) -> None:
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            offsets[TopicPartition(record.topic, record.partition)] = record.offset + 1
        try:
            with counted(self._metrics, "commit"):
                await consumer.commit(offsets)
            self._next.update(offsets)
            await self._keep(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("offsets were not committed, their events come again: %s", in_words(error))

    def _count(self, batch: _Batch, fates: Sequence[Any], letters: Sequence[Letter]) -> None:
        self._metrics.consumed.labels(self._settings.kafka_memory_events_topic).inc(len(batch.records))
        self._metrics.consumer_success.labels(COMPONENT).inc(len(batch.records) - len(letters))
        self._metrics.consumer_failure.labels(COMPONENT).inc(len(letters))
        for outcome in Outcome:
            self._metrics.consumer_events.labels(outcome.value).inc(sum(fate is outcome for fate in fates))
        self._metrics.consumer_events.labels("own").inc(batch.own)
        self._metrics.consumer_events.labels("dead").inc(len(letters))
        for letter in letters:
            where = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
            log.warning("dead letter: %s", letter.error, extra={"reason": letter.reason, **where})

    async def _measure(self, consumer: AIOKafkaConsumer) -> None:
        for partition in consumer.assignment():
            self._metrics.consumer_missed.labels(partition.topic, partition.partition)
            with contextlib.suppress(IllegalStateError, KafkaError):
                if partition not in self._next:
                    self._next[partition] = await consumer.position(partition)
                end = consumer.highwater(partition)
                if end is not None:
                    lag = max(0, end - self._next[partition])
                    self._metrics.consumer_lag.labels(partition.topic, partition.partition).set(lag)

    async def _look_for_gaps(self, consumer: AIOKafkaConsumer) -> None:
        """Whether retention took what a partition that is newly ours still had for us."""
        if not self._new:
            return
        known = {} if self._positions is None else await self._positions.known()
        for partition in sorted(self._new & consumer.assignment()):
            committed = await consumer.committed(partition)
            stood = known.get(partition.partition) if committed is None else committed
            begins = (await consumer.beginning_offsets([partition]))[partition]
            if missed(stood, begins):
                await self._missed(partition, stood or 0, begins)
        self._new.clear()

    async def _look_within(self, consumer: AIOKafkaConsumer, records: Sequence[Any]) -> None:
        """The same while it runs: the client goes on at the beginning without a word when its position is gone."""
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            expected = self._expected.get(partition)
            self._expected[partition] = record.offset + 1
            if expected is not None and record.offset > expected:
                # offsets are left out by transactions and compaction too: only the beginning tells
                begins = (await consumer.beginning_offsets([partition]))[partition]
                if missed(expected, begins):
                    await self._missed(partition, expected, begins)

    async def _missed(self, partition: TopicPartition, stood: int, begins: int) -> None:
        gap = Gap(partition.topic, partition.partition, stood, begins, time.time())
        self._metrics.consumer_missed.labels(gap.topic, gap.partition).inc(gap.records)
        log.error(
            "retention took %d records of %s/%d before they were read: refill from the ledger that published them"
            " (soma events republish)",
            gap.records,
            gap.topic,
            gap.partition,
            extra={"topic": gap.topic, "partition": gap.partition, "first": gap.first, "next": gap.next},
        )
        await self._keep({partition: begins}, gap)

    async def _keep(self, offsets: Mapping[TopicPartition, int], gap: Gap | None = None, *, now: bool = False) -> None:
        if self._positions is None:
            return
        try:
            await self._positions.keep({one.partition: at for one, at in offsets.items()}, gap, now=now)
        except SomaError as error:
            log.log(logging.WARNING if gap else logging.DEBUG, "where the group stands is not kept: %s", error.message)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def revoked(self) -> None:
        """Waits for the batch in hand, within the deadline; what is not done by then is left to the next owner."""
        try:
            async with asyncio.timeout(self._settings.consumer_revoke_seconds), self._busy:
                self._epoch += 1
        except TimeoutError:
            self._epoch += 1
            log.warning("a batch was not finished before its partitions went: its events come again elsewhere")

    def assigned(self, partitions: Iterable[TopicPartition]) -> None:
        """Takes note of what is ours now; the lag of what went is another's to tell."""
        now = frozenset(partitions)
        for gone in self.partitions - now:
            with contextlib.suppress(KeyError):
                self._metrics.consumer_lag.remove(gone.topic, str(gone.partition))
        self._next.clear()
        self._expected.clear()
        self._new = set(now)
        self.partitions = now
        names = sorted(f"{one.topic}/{one.partition}" for one in now)
        log.info("partitions assigned: %s", ", ".join(names) or "none")


def _trace(batch: _Batch, fates: Sequence[Outcome | SomaError], since: int) -> None:
    """A span for each event, in the trace of the store that caused it, which so ends with the commit here."""
    if not recording():
        return
    now = time.time_ns()
    for event, source, fate in zip(batch.events, batch.sources, fates, strict=True):
        said = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.destination.name": source.topic,
            "messaging.destination.partition.id": str(source.partition),
            "messaging.kafka.offset": source.offset,
            "soma.outcome": "dead" if isinstance(fate, SomaError) else fate.value,
        }
        span_of_event(event.trace, f"process {source.topic}", since, now, said)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, owner: Consumer) -> None:
        self._owner = owner

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Before the group is joined again."""
        await self._owner.revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """After it was."""
        self._owner.assigned(assigned)
