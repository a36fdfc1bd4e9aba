"""The dead-letter topic as a list: which letters wait, putting them back, clearing them away.

What became of a letter is in the topic too, as a marker: a record of no value that names the letter. So the state
needs no store of its own, and is the same for everyone who looks.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import MessageSizeTooLargeError

from memory_runtime.events.connecting import client_options, reach, require_topics, topics_of
from memory_runtime.events.dead_letters import OF_A_SINK, Letter, read_letter
from memory_runtime.events.kafka_sink import producer_of
from memory_runtime.model.errors import InvalidArgument, NotFound
from memory_runtime.settings import SMFSettings

_MARKER: Final = "dlq-marker"
_MARKED: Final = "dlq-marked"
_ROOM: Final = 10 << 20
_POLL_MS: Final = 500


class State(enum.StrEnum):
    """What became of a letter."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    APPLIED = "applied"
    RETRIED = "retried"


_STATES: Final = frozenset(State)


class Position(NamedTuple):
    """Where a letter is in the DLQ topic; written `partition:offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class Entry(NamedTuple):
    """A letter, where it is, and what became of it."""

    position: Position
    letter: Letter
    state: State


def position_of(text: str) -> Position:
    """The inverse of `str`. Raises InvalidArgument."""
    partition, separator, offset = text.partition(":")
    if not separator or not partition.isdigit() or not offset.isdigit():
        raise InvalidArgument(
            f"letter: {text!r} is not partition:offset", field="letter", remedy="take it from `soma dlq list`"
        )
    return Position(int(partition), int(offset))


def marker(position: Position, state: State) -> list[tuple[str, bytes]]:
    """The headers of the record that says what became of the letter there."""
    return [(_MARKER, state.value.encode()), (_MARKED, str(position).encode())]


def is_marker(record: Any) -> bool:
    """Whether a record of the topic is a marker rather than a letter."""
    return any(name == _MARKER for name, _ in record.headers)


def entries_of(records: Sequence[Any]) -> list[Entry]:
    """The letters among the topic's records, in order of partition and offset, each with its last marker's state."""
    states: dict[str, State] = {}
    letters = []
    for record in records:
        said = dict(record.headers)
        if _MARKER in said:
            state = (said[_MARKER] or b"").decode(errors="replace")
            if state in _STATES:
                states[(said.get(_MARKED) or b"").decode(errors="replace")] = State(state)
        else:
            letters.append((Position(record.partition, record.offset), read_letter(record)))
    return [Entry(at, letter, states.get(str(at), State.WAITING)) for at, letter in sorted(letters, key=lambda p: p[0])]


class Left(NamedTuple):
    """A letter that was not put back, and why."""

    entry: Entry
    reason: str


class DeadLetterQueue:
    """Reads all of the topic at each call: what is on it is looked at by people, and should be little."""

    def __init__(self, settings: SMFSettings) -> None:
        self._settings = settings
        self._topic = settings.kafka_dlq_topic

    async def check(self) -> None:
        """Raises SettingsError or Unavailable where brokers or topic are not there."""
        await reach(self._settings)
        await require_topics(self._settings, {"kafka_dlq_topic": self._topic})

    async def entries(self) -> list[Entry]:
        """Every letter on the topic."""
        await self.check()
        return entries_of(await self._records())

    async def entry(self, position: Position) -> Entry:
        """One letter. Raises NotFound."""
        for found in await self.entries():
            if found.position == position:
                return found
        raise NotFound(f"no letter at {position}", field="letter", remedy="see `soma dlq list --all`")

    async def replay(self, chosen: Sequence[Position] | None) -> tuple[list[Entry], list[Left]]:
        """Puts letters back on the topics they come from, byte for byte, so that their event ids keep effects single.

        `chosen` None takes all that wait. Returns those put back, and those that cannot be, with the reason.
        Raises NotFound, before anything is put back, where a chosen letter is not there.
        """
        found = {entry.position: entry for entry in await self.entries()}
        if chosen is None:
            wanted = [entry for entry in found.values() if entry.state is State.WAITING]
        else:
            missing = [str(one) for one in chosen if one not in found]
            if missing:
                raise NotFound(f"no letter at {', '.join(missing)}", field="letter", remedy="see `soma dlq list --all`")
            wanted = [found[one] for one in dict.fromkeys(chosen)]
        done: list[Entry] = []
        left: list[Left] = []
        topics = await topics_of(self._settings)
        async with self._producer() as producer:
            for entry in wanted:
                topic = entry.letter.topic or self._settings.kafka_memory_events_topic
                if topic.startswith(OF_A_SINK):
                    sink = topic.removeprefix(OF_A_SINK)
                    left.append(Left(entry, f"it is a change that the sink {sink!r} could not take, and no event"))
                elif entry.letter.omitted:
                    left.append(Left(entry, "its bytes are not here: `soma dlq show` says where they are"))
                elif topic not in topics:
                    left.append(Left(entry, f"the brokers have no topic {topic!r}"))
                else:
                    try:
                        await self._put_back(producer, entry, topic)
                        done.append(entry)
                    except (MessageSizeTooLargeError, AssertionError, TypeError, ValueError) as error:
                        # one letter that no broker takes must not keep the others here
                        left.append(Left(entry, f"it cannot be sent: {type(error).__name__}"))
        return done, left

    async def _put_back(self, producer: AIOKafkaProducer, entry: Entry, topic: str) -> None:
        letter = entry.letter
        await producer.send_and_wait(topic, letter.value, letter.key, headers=letter.original_headers())
        # only now: a crash in between puts it back once more, and its id keeps the effect single
        await mark(producer, self._topic, entry.position, State.REPLAYED)

    async def purge(self, *, settled_only: bool) -> int:
        """Deletes letters, with their markers; returns how many. Raises as `check`.

        `settled_only` stops in each partition before the first letter that still waits.
        """
        records = await self._records_checked()
        entries = entries_of(records)
        bounds = {record.partition: record.offset + 1 for record in records}
        if settled_only:
            for entry in entries:
                if entry.state is State.WAITING:
                    at = entry.position
                    bounds[at.partition] = min(bounds[at.partition], at.offset)
        gone: int = sum(entry.position.offset < bounds[entry.position.partition] for entry in entries)
        if bounds:
            admin = AIOKafkaAdminClient(**client_options(self._settings))
            await admin.start()
            try:
                await admin.delete_records(
                    {TopicPartition(self._topic, at): RecordsToDelete(bound) for at, bound in bounds.items()}
                )
            finally:
                await admin.close()
        return gone

    async def _records_checked(self) -> list[Any]:
        await self.check()
        return await self._records()

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = producer_of(self._settings, most_bytes=self._settings.kafka_max_message_bytes + _ROOM)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def _records(self) -> list[Any]:
        """Everything between the beginnings and the ends that the partitions have now."""
        consumer = AIOKafkaConsumer(
            self._topic,
            **client_options(self._settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_ROOM,
        )
        await consumer.start()
        try:
            partitions = sorted(consumer.assignment())
            ends = await consumer.end_offsets(partitions)
            records: list[Any] = []
            while await _behind(consumer, ends):
                for found in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                    records += [
                        record
                        for record in found
                        if record.offset < ends[TopicPartition(record.topic, record.partition)]
                    ]
            return records
        finally:
            await consumer.stop()


async def _behind(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return True
    return False


async def mark(producer: AIOKafkaProducer, topic: str, position: Position, state: State) -> None:
    """Says on the topic what became of a letter; in its partition, so that the marker comes after it."""
    await producer.send_and_wait(
        topic, None, str(position).encode(), partition=position.partition, headers=marker(position, state)
    )
