"""What the service that we replace has left in its database: rows of `kv_store` and `memory_events`, in batches."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

from memory_runtime.settings import SMFSettings
from memory_runtime.stores.postgres import connecting
from memory_runtime.stores.postgres.session import Session, run_apart
from memory_runtime.stores.sessions import Ledger

KEY_VALUES: Final = "legacy_kv_store"
EVENTS: Final = "legacy_memory_events"
"""Facts: how far each table has been taken over."""

_ENDING: Final = ":data"


class KeyValue(NamedTuple):
    """A `…:data` row and the `…:meta` row beside it, as JSON texts."""

    key: str
    value: str
    meta: str | None


class EventRow(NamedTuple):
    """A row of `memory_events`; the payload is a JSON text."""

    id: uuid.UUID
    event_id: str
    namespace: str
    type: str
    timestamp: float
    payload: str


THERE: Final = (
    "SELECT EXISTS (SELECT 1 FROM kv_store WHERE right(key, 5) = ':data') OR EXISTS (SELECT 1 FROM memory_events)"
)
"""Whether the old service's tables hold anything that may be a memory."""


def key_values(session: Session, after: str, limit: int) -> list[KeyValue]:
    """The next rows after a key, in order of key."""
    found = session.rows(
        "SELECT d.key, d.value::text, m.value::text FROM (SELECT key, value FROM kv_store"
        " WHERE key ~>~ $1 AND right(key, 5) = $2 ORDER BY key USING ~<~ LIMIT $3) d"
        " LEFT JOIN kv_store m ON m.key = left(d.key, -5) || ':meta' ORDER BY d.key USING ~<~",
        after,
        _ENDING,
        limit,
    )
    return [KeyValue(*one) for one in found]


def events(session: Session, after: uuid.UUID | None, limit: int) -> list[EventRow]:
    """The next rows after an id, in order of id. Other forms of the table have text where ours has UUID or double."""
    found = session.rows(
        "SELECT id, event_id::text, namespace, type, timestamp::float8, payload::text FROM memory_events"
        " WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2",
        after,
        limit,
    )
    return [EventRow(uuid.UUID(bytes=one[0].bytes), *one[1:]) for one in found]


class Source:
    """The rows as the take-over asks for them, of an open ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def key_values(self, after: str, limit: int) -> Sequence[KeyValue]:
        """See `key_values`."""
        return self._ledger.read_now(lambda view: key_values(view.session, after, limit))  # type: ignore[attr-defined]

    def events(self, after: str, limit: int) -> Sequence[EventRow]:
        """See `events`."""
        last = uuid.UUID(after) if after else None
        return self._ledger.read_now(lambda view: events(view.session, last, limit))  # type: ignore[attr-defined]


def waiting(settings: SMFSettings) -> bool:
    """Whether there is anything to take over. Blocking; connects once."""
    return run_apart(_waiting(settings))


async def _waiting(settings: SMFSettings) -> bool:
    connection = await connecting.target(settings).connect(cached=False)
    try:
        async with connection.transaction(readonly=True):
            return bool(await connection.fetchval(THERE))
    finally:
        await connection.close(timeout=1.0)
