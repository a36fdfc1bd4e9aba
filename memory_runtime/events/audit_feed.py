"""The audit chain as a stream: its lines, in order, onto a Kafka topic of their own.

The relay does it, with its lease, its breaker and its metrics: `AuditTail` shows it the chain in place of the outbox,
and keeps its cursor among the facts, as a sink's cursor would hold back the outbox. A line that comes again after a
crash has the same number; whoever keeps the lines can verify the chain (`stores.audit.verify`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka import AIOKafkaProducer

from memory_runtime.engine.identity import identity_of
from memory_runtime.events.codec import ORIGIN, SCHEMA
from memory_runtime.events.connecting import reach, require_topics
from memory_runtime.events.kafka_sink import producer_of
from memory_runtime.events.sinks import SinkTransaction, SinkView
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.timestamps import shown_time
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.audit import AuditLine
from memory_runtime.stores.contracts import Lineage
from memory_runtime.stores.sessions import Ledger

T = TypeVar("T")
NAME: Final = "audit"
CURSOR: Final = "audit_published"
"""The fact that holds the number of the last line that was published."""
SCHEMA_VERSION: Final = 1


class Numbered(NamedTuple):
    """A line, with its number where the relay looks for a seq."""

    seq: int
    line: AuditLine


class AuditTail:
    """The part of a ledger that a relay works with (`sinks.SinkLedger`), of the audit chain."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.head_seq = 0

    @property
    def lineage(self) -> str:
        """The ledger's line of history."""
        return self._ledger.lineage

    async def tail(self, seq: int, limit: int = 1000, token: str = "") -> list[Any]:
        """The lines after that number; `token` is of changes, and lines have none: they are a chain of hashes."""
        del token
        self.head_seq, lines = await self._ledger.read(lambda view: (view.audit_head(), view.audit(seq, limit)))
        return [Numbered(line.number, line) for line in lines]

    async def read(self, query: Callable[[Any], T]) -> T:
        """Runs a query on a view whose only cursor is this one's."""
        return await self._ledger.read(lambda view: query(_View(view)))

    async def transact(self, run: Callable[[Any], T]) -> T:
        """Runs a transaction in which this cursor can be moved."""
        return await self._ledger.transact(lambda transaction: run(_Transaction(transaction)))


class _View:
    def __init__(self, view: SinkView) -> None:
        self._view = view

    def facts(self) -> dict[str, str]:
        return self._view.facts()

    def lineages(self) -> list[Lineage]:
        return self._view.lineages()

    def sinks(self) -> dict[str, int]:
        kept = self._view.facts().get(CURSOR)
        return {} if kept is None else {NAME: int(kept)}


class _Transaction:
    def __init__(self, transaction: SinkTransaction) -> None:
        self._transaction = transaction
        self.remember, self.forget = transaction.remember, transaction.forget

    @property
    def view(self) -> _View:
        return _View(self._transaction.view)

    def advance_sink(self, name: str, seq: int, at: float) -> None:
        """`name` and `at` are the relay's; the facts hold one cursor, and no times."""
        self._transaction.remember(CURSOR, str(seq))


class AuditSink:
    """Publishes lines of the audit chain, all with the ledger's identity as key: they stay in order."""

    name = NAME

    def __init__(self, ledger: Ledger, settings: SMFSettings) -> None:
        self._ledger, self._settings = ledger, settings
        self._topic = settings.kafka_audit_topic or ""
        self._producer: AIOKafkaProducer | None = None
        self._origin = ""

    async def deliver(self, changes: Sequence[Any]) -> int:
        """Publishes the lines; all in-sync replicas have them when it returns. Raises where the brokers do not answer,
        and SettingsError for a topic that is not there: logged with its remedy, tried again.
        """
        producer = await self._connected()
        headers = [(SCHEMA, str(SCHEMA_VERSION).encode()), (ORIGIN, self._origin.encode())]
        try:
            key = self._origin.encode()
            sent = [
                await producer.send(self._topic, encode(one.line), key, headers=[*headers, ("number", b"%d" % one.seq)])
                for one in changes
            ]
            for one in sent:
                await one
        except BaseException:
            # after a failed batch an idempotent producer has lost its count: only a fresh one starts a new one
            await self.close()
            raise
        return int(changes[-1].seq)

    async def rebuild(self) -> int:
        """Never asked: the chain is not trimmed."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the producer; the next delivery makes a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            await reach(self._settings)
            await require_topics(self._settings, {"kafka_audit_topic": self._topic})
            self._origin = self._origin or await identity_of(self._ledger)
            producer = producer_of(self._settings, most_bytes=self._settings.kafka_max_message_bytes)
            await producer.start()
            self._producer = producer
        return self._producer


def encode(line: AuditLine) -> bytes:
    """Canonical JSON by `schemas/audit.line.json`. `at` is for people; what the hash covers is `unix_time`."""
    body = line._asdict() | {"at": shown_time(line.at), "unix_time": line.at, "detail": json.loads(line.detail)}
    return canonical_json(body, field="audit").encode()
