"""Dead letters: what can never pass, with its bytes, its headers, and why; as a record of the DLQ topic.

Value and key are the original's bytes, its headers are kept, and ours begin with `dlq-`. Functions of values, but for
`Morgue`, which publishes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from memory_runtime.events.calls import counted
from memory_runtime.events.poison import RETRYABLE, Poison
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.timestamps import parse_timestamp
from memory_runtime.telemetry.metrics import Metrics

PREFIX: Final = "dlq-"
OF_A_SINK: Final = "sink:"
"""Before the name of a sink, where a letter has no topic that it comes from. No topic can be called so."""
_OMITTED: Final = "dlq-value-omitted"
_MAX_ERROR: Final = 2000


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. `source` is `consumer` or `relay`; for the relay, `offset` is the seq in the ledger's outbox.

    `value` is None where the record had none, or (`omitted`) where even the DLQ topic could not take it: then it is
    still where topic, partition and offset say. `failed_at` is in epoch seconds.
    """

    reason: str
    error: str
    source: str
    topic: str
    partition: int
    offset: int
    failed_at: float
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    attempts: int = 1
    omitted: bool = False

    @property
    def retryable(self) -> bool:
        """Whether it may pass when it is tried again."""
        return self.reason in RETRYABLE

    def record_headers(self) -> list[tuple[str, bytes | None]]:
        """The headers of its record."""
        ours: dict[str, Any] = {
            "reason": self.reason,
            "error": self.error[:_MAX_ERROR],
            "source": self.source,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "failed-at": repr(self.failed_at),
            "attempts": self.attempts,
        }
        said: list[tuple[str, bytes | None]] = [
            (f"{PREFIX}{name}", str(value).encode(errors="replace")) for name, value in ours.items()
        ]
        if self.omitted:
            said.append((_OMITTED, b"1"))
        return [*self.original_headers(), *said]

    def original_headers(self) -> list[tuple[str, bytes | None]]:
        """What the record came with."""
        return [(name, value) for name, value in self.headers if not name.startswith(PREFIX)]


def letter_of(
    poison: Poison, record: Any, *, source: str = "consumer", attempts: int = 1, at: float | None = None
) -> Letter:
    """The letter of a consumed record (aiokafka's ConsumerRecord)."""
    return Letter(
        reason=poison.reason,
        error=str(poison),
        source=source,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        failed_at=time.time() if at is None else at,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
        attempts=attempts,
        omitted=getattr(record, "omitted", False),
    )


def read_letter(record: Any) -> Letter:
    """The letter in a record of the DLQ topic. What another program put there reads as a letter of unknown reason."""
    said = {
        name.removeprefix(PREFIX): value.decode(errors="replace")
        for name, value in record.headers
        if name.startswith(PREFIX) and value is not None
    }
    return Letter(
        reason=said.get("reason", "unknown"),
        error=said.get("error", ""),
        source=said.get("source", "unknown"),
        topic=said.get("topic", ""),
        partition=_whole(said.get("partition"), -1),
        offset=_whole(said.get("offset"), -1),
        failed_at=_moment(said.get("failed-at"), record.timestamp / 1000),
        key=record.key,
        value=record.value,
        headers=[(name, value) for name, value in record.headers if not name.startswith(PREFIX)],
        attempts=_whole(said.get("attempts"), 1),
        omitted="value-omitted" in said,
    )


def _moment(text: str | None, otherwise: float) -> float:
    """Another program may have written there what is no time: a letter is read whatever it says of itself."""
    try:
        return otherwise if text is None else parse_timestamp(float(text))
    except (ValueError, InvalidArgument):
        return otherwise


def _whole(text: str | None, otherwise: int) -> int:
    try:
        return otherwise if text is None else int(text)
    except ValueError:
        return otherwise


class Morgue:
    """Publishes dead letters through a producer with acks=all; returns once the brokers have them."""

    def __init__(self, topic: str, metrics: Metrics) -> None:
        self.topic = topic
        self._metrics = metrics

    async def lay(self, producer: AIOKafkaProducer, letters: Sequence[Letter]) -> None:
        """Makes the letters durable. Raises KafkaError where the brokers do not take them: nothing may be passed over.

        A value that even this topic refuses is left out: the letter says where it still is.
        """
        for letter in letters:
            with counted(self._metrics, "letters"):
                await lay_one(producer, self.topic, letter)
            self._metrics.dead_letters.labels(letter.source, letter.reason).inc()


async def lay_one(producer: AIOKafkaProducer, topic: str, letter: Letter) -> None:
    """Whole; else without the value; else, where even key and headers are too large, as our own words alone.

    Raises KafkaError where the brokers do not take it.
    """
    without = replace(letter, value=None, omitted=True)
    for form in (letter, without, replace(without, key=None, headers=())):
        # Kafka takes a record without key and value, the client does not
        key = b"" if form.key is None and form.value is None else form.key
        try:
            await producer.send_and_wait(topic, form.value, key, headers=form.record_headers())
        except (MessageSizeTooLargeError, AssertionError, TypeError, ValueError) as error:
            last: Exception = error
        else:
            return
    raise last
