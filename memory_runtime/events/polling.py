"""The group's member as aiokafka has it, and what is done with what it hands out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CorruptRecordException, KafkaError, UnsupportedCodecError

from memory_runtime.events.connecting import client_options
from memory_runtime.events.poison import Poison
from memory_runtime.settings import SMFSettings

_FETCH_BYTES: Final = 8 << 20
_CAREFUL_RECORDS: Final = 1000
"""After a record that could not be read, so many are read one by one: a broken batch is behind us by then."""


class Unreadable(Exception):  # noqa: N818 -- a condition, answered by reading again, one record at a time
    """A fetch holds a record that the Kafka client cannot read; what it held besides was not handed out."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for a record that the Kafka client cannot read. Its bytes are where it says, and only there."""

    topic: str
    partition: int
    offset: int
    poison: Poison
    key: None = None
    value: None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    omitted: bool = True


class Reader:
    """Reads what the member's partitions hold. `careful` records are read one by one, to find the one to blame."""

    def __init__(self, consumer: AIOKafkaConsumer, *, careful: bool = False) -> None:
        self._consumer = consumer
        self._careful = _CAREFUL_RECORDS if careful else 0

    async def read(self, timeout_ms: int, most: int) -> list[Any]:
        """At most so many records, in order within each partition; empty where none came in time.

        Raises Unreadable, after which positions are those of what was committed only in a new session.
        """
        if self._careful:
            return await self._one_by_one(timeout_ms, most)
        try:
            return flat(await self._consumer.getmany(timeout_ms=timeout_ms, max_records=most))
        except Exception as error:
            if _is_of_a_record(error):
                raise Unreadable(f"a record cannot be read: {type(error).__name__}") from error
            raise

    async def _one_by_one(self, timeout_ms: int, most: int) -> list[Any]:
        found: list[Any] = []
        for partition in sorted(self._consumer.assignment()):
            while len(found) < most and (record := await self._next(partition)) is not None:
                found.append(record)
        if not found:
            await asyncio.sleep(timeout_ms / 1000)
        self._careful = max(0, self._careful - len(found))
        return found

    async def _next(self, partition: TopicPartition) -> Any:
        position = await self._consumer.position(partition)
        try:
            records = flat(await self._consumer.getmany(partition, timeout_ms=0, max_records=1))
        except Exception as error:
            if not _is_of_a_record(error):
                raise
            self._consumer.seek(partition, position + 1)
            self._careful += _CAREFUL_RECORDS
            poison = Poison("unreadable", f"the Kafka client cannot read the record: {type(error).__name__}")
            return Unread(partition.topic, partition.partition, position, poison)
        return records[0] if records else None


def _is_of_a_record(error: Exception) -> bool:
    """Whether bytes are to blame, and not the connection."""
    return isinstance(error, CorruptRecordException | UnsupportedCodecError) or not isinstance(
        error, KafkaError | OSError
    )


def member_of(settings: SMFSettings) -> AIOKafkaConsumer:
    """A consumer of the configured group that has not been started: offsets are committed by hand, partitions stick."""
    return AIOKafkaConsumer(
        **client_options(settings),
        group_id=settings.kafka_consumer_group,
        enable_auto_commit=False,
        # a group that is new to the topic begins with what is there: nothing published is passed over
        auto_offset_reset="earliest",
        # a class of its own: aiokafka's assignor keeps the member's assignment on the class
        partition_assignment_strategy=(type("Sticky", (StickyPartitionAssignor,), {}),),
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=100,
        session_timeout_ms=10_000,
        heartbeat_interval_ms=1_000,
        max_poll_interval_ms=round((settings.consumer_stall_seconds + settings.consumer_revoke_seconds + 300) * 1000),
        rebalance_timeout_ms=round((settings.consumer_revoke_seconds + 10) * 1000),
    )


def rewind(consumer: AIOKafkaConsumer, records: Iterable[Any]) -> None:
    """Reads these again, as far as their partitions are ours: a rebalance came while they were gathered.

    They may be of the old assignment, which is read again anyway, or of the new one, whose position has passed them.
    """
    first: dict[TopicPartition, int] = {}
    for record in records:
        partition = TopicPartition(record.topic, record.partition)
        first[partition] = min(record.offset, first.get(partition, record.offset))
    for partition in first.keys() & consumer.assignment():
        consumer.seek(partition, first[partition])


def flat(polled: dict[TopicPartition, list[Any]]) -> list[Any]:
    """The records of one poll, in order within each partition."""
    return [record for records in polled.values() for record in records]
