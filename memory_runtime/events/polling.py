"""The group's member as aiokafka has it, and what is done with what it hands out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from memory_runtime.events.connecting import client_options
from memory_runtime.settings import SMFSettings

_FETCH_BYTES: Final = 8 << 20


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
