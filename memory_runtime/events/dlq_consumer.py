"""The role that empties the dead-letter topic by itself, as far as that can be: refused events are tried again.

Only what may pass later is tried (`poison.RETRYABLE`), once it is `dlq_retry_seconds` old, and `dlq_max_attempts`
times in all; what is left waits for a person. Its group is the consumers' with `-dlq` behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from memory_runtime.engine.ingesting import Outcome, passes
from memory_runtime.events.backoff import in_words, pause_after
from memory_runtime.events.codec import told
from memory_runtime.events.connecting import client_options, reach, require_topics
from memory_runtime.events.consumer import Applies
from memory_runtime.events.dead_letters import Letter, Morgue, read_letter
from memory_runtime.events.dlq import Position, State, is_marker, mark
from memory_runtime.events.kafka_sink import producer_of
from memory_runtime.events.poison import Poison, poison_of
from memory_runtime.events.polling import Reader, Unread, Unreadable
from memory_runtime.model.errors import Internal, SomaError
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_POLL_MS: Final = 500
_ROOM: Final = 10 << 20
_LOOK_AT_ONCE: Final = 200


class DlqConsumer:
    """Runs until told to stop. One letter at a time: what is here is rare, and may be what breaks a batch."""

    def __init__(self, settings: SMFSettings, ingestor: Applies, metrics: Metrics) -> None:
        self._settings = settings
        self._ingestor = ingestor
        self._metrics = metrics
        self._morgue = Morgue(settings.kafka_dlq_topic, metrics)
        self._stop = asyncio.Event()
        self._joined = self._careful = False
        for outcome in ("applied", "retried", "parked"):
            metrics.dlq_letters.labels(outcome)

    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until `stop`.

        Raises SettingsError where brokers or topic are not as the settings say when it begins, and nothing else.
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
                known = isinstance(error, KafkaError | SomaError | SettingsError | OSError | Unreadable)
                log.warning("dead letters are not looked at: %s", in_words(error), exc_info=None if known else error)
                await self._rest(pause_after(failures))

    async def _session(self) -> None:
        settings = self._settings
        await reach(settings)
        await require_topics(settings, {"kafka_dlq_topic": settings.kafka_dlq_topic})
        async with contextlib.AsyncExitStack() as stack:
            producer = producer_of(settings, most_bytes=settings.kafka_max_message_bytes + _ROOM)
            await producer.start()
            stack.push_async_callback(producer.stop)
            consumer = AIOKafkaConsumer(
                settings.kafka_dlq_topic,
                **client_options(settings),
                group_id=f"{settings.kafka_consumer_group}-dlq",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=_ROOM,
                # a letter may be waited for until it is old enough
                max_poll_interval_ms=round((settings.dlq_retry_seconds + 300) * 1000),
            )
            await consumer.start()
            stack.push_async_callback(consumer.stop)
            reader, self._careful = Reader(consumer, careful=self._careful), False
            self._joined = True
            while not self._stop.is_set():
                passed: dict[TopicPartition, int] = {}
                for record in await reader.read(_POLL_MS, _LOOK_AT_ONCE):
                    if not await self._look_at(producer, record):
                        break
                    passed[TopicPartition(record.topic, record.partition)] = record.offset + 1
                    if not isinstance(record, Unread) and read_letter(record).retryable:
                        # at once: what was done with it must not be done again for a crash further on
                        await _commit(consumer, passed)
                await _commit(consumer, passed)

    async def _look_at(self, producer: AIOKafkaProducer, record: Any) -> bool:
        """Deals with one record; False where the process must stop first. A letter that breaks us is left alone."""
        if isinstance(record, Unread) or is_marker(record):
            return True
        try:
            return await self._try(producer, record)
        except Exception as error:
            if passes(error) or isinstance(error, KafkaError):
                raise
            self._metrics.dlq_letters.labels("parked").inc()
            where = {"partition": record.partition, "offset": record.offset}
            log.exception("a dead letter met a defect and waits for a person", extra=where)
            return True

    async def _try(self, producer: AIOKafkaProducer, record: Any) -> bool:
        """Deals with one letter; False where the process must stop first."""
        letter = read_letter(record)
        if not letter.retryable or letter.omitted or letter.source != "consumer":
            return True
        if letter.attempts >= self._settings.dlq_max_attempts:
            self._metrics.dlq_letters.labels("parked").inc()
            log.warning("a dead letter waits for a person: %s", letter.error, extra={"attempts": letter.attempts})
            return True
        await self._rest(letter.failed_at + self._settings.dlq_retry_seconds - time.time())
        if self._stop.is_set():
            return False
        position = Position(record.partition, record.offset)
        refusal = await self._apply(letter)
        if refusal is None:
            await mark(producer, self._morgue.topic, position, State.APPLIED)
            self._metrics.dlq_letters.labels("applied").inc()
            return True
        again = dataclasses.replace(
            letter, reason=refusal.reason, error=str(refusal), attempts=letter.attempts + 1, failed_at=time.time()
        )
        await self._morgue.lay(producer, [again])
        await mark(producer, self._morgue.topic, position, State.RETRIED)
        self._metrics.dlq_letters.labels("retried").inc()
        return True

    async def _apply(self, letter: Letter) -> Poison | None:
        """None once the event is durable; else why not. Raises Unavailable."""
        try:
            event = told(letter.value, letter.original_headers(), self._settings.default_tenant)
        except Poison as poison:
            return poison
        try:
            fate: Outcome | SomaError = (await self._ingestor.apply([event]))[0]
        except Exception as error:
            if passes(error):
                raise
            fate = Internal(f"the event could not be applied: {type(error).__name__}", remedy="see the log")
        return poison_of(fate) if isinstance(fate, SomaError) else None

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), seconds)


async def _commit(consumer: AIOKafkaConsumer, passed: dict[TopicPartition, int]) -> None:
    if passed:
        with contextlib.suppress(CommitFailedError, IllegalStateError):
            await consumer.commit(passed)
