"""Takes over what the service that we replace has stored: its rows become events of an origin of their own.

An event acts once however often it comes, and never after a later one: so the take-over may be stopped, started again
and run beside replicas that serve, and what was deleted since stays deleted. The old tables are only read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from memory_runtime.engine.ingesting import EventOperation, IncomingEvent, Ingestor, Outcome
from memory_runtime.events.codec import decode
from memory_runtime.events.poison import Poison
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import parse_coordinate
from memory_runtime.model.errors import InvalidArgument, SomaError
from memory_runtime.model.records import Scope
from memory_runtime.model.timestamps import own_time
from memory_runtime.stores.sessions import Ledger

T = TypeVar("T")
ORIGIN: Final = "legacy"
BATCH: Final = 500
_LARGEST: Final = 1e300
_KEY: Final = re.compile(r"(?P<namespace>.+):\((?P<coordinate>[^()]*)\):data")
_ADDED: Final = ("coordinate", "memory_type", "importance_norm", "access_count")
"""Fields that the old server added to a payload and that ours adds again when it answers."""


class KeyValue(Protocol):
    """A row of `kv_store` with its meta row, as JSON texts."""

    key: str
    value: str
    meta: str | None


class Source(Protocol):
    """Where the rows are: each call gives the next ones after a position (empty: the first)."""

    def key_values(self, after: str, limit: int) -> Sequence[Any]:
        """Rows with key, value and meta."""

    def events(self, after: str, limit: int) -> Sequence[Any]:
        """Rows with id, event_id, namespace, type, timestamp and payload."""


class Refused(NamedTuple):
    """A row that cannot be a memory here, and why."""

    row: str
    reason: str


class Report(NamedTuple):
    """What a take-over did: rows read, memories written, those that were there already, and what was refused."""

    read: int
    imported: int
    present: int
    refused: list[Refused]


def event_of_key_value(row: KeyValue, tenant: str, now: float) -> IncomingEvent:
    """The memory of a `kv_store` row. Raises InvalidArgument for what is none."""
    named = _KEY.fullmatch(row.key)
    if named is None:
        raise InvalidArgument("the key is not NAMESPACE:(COORDINATE):data", field="key")
    value = json.loads(row.value)
    if not isinstance(value, dict):
        raise InvalidArgument("the value is not an object", field="value")
    meta = json.loads(row.meta) if row.meta else {}
    coordinate = parse_coordinate(named["coordinate"].rstrip(", "), field="key")
    payload = {name: one for name, one in value.items() if name not in _ADDED}
    memory_type = value.get("memory_type")
    importance = _number(value.get("importance"))
    return IncomingEvent(
        event_id=row.key,
        scope=Scope(tenant, named["namespace"]),
        operation=EventOperation.CREATED,
        id=row.key,
        memory_type=memory_type if isinstance(memory_type, str) and memory_type else "episodic",
        coordinate=coordinate,
        payload=payload,
        timestamp=_time(value, meta, now),
        importance=importance,
        version=1,
        origin=ORIGIN,
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else None


def _time(value: Mapping[str, Any], meta: Any, now: float) -> float:
    """When it happened: as the payload says, else when it was stored, else now."""
    stored = meta.get("creation_timestamp") if isinstance(meta, dict) else None
    for one in (value, {"timestamp": stored}):
        said = own_time(one)
        if said is not None:
            return said
    return now


def event_of_row(row: Any, tenant: str) -> IncomingEvent:
    """The memory of a `memory_events` row. Raises InvalidArgument for what is none."""
    body = {
        "event_id": row.event_id,
        "id": str(row.id),
        "namespace": row.namespace,
        "type": row.type,
        "timestamp": row.timestamp,
        "payload": json.loads(row.payload),
    }
    try:
        event = decode(canonical_json(body).encode(), [], tenant)
    except Poison as poison:
        raise InvalidArgument(str(poison), field="payload") from None
    return IncomingEvent(
        **{name: getattr(event, name) for name in event.__dataclass_fields__ if name not in {"version", "origin"}},
        version=1,
        origin=ORIGIN,
    )


class TakeOver:
    """One run over both tables."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        ingestor: Ingestor,
        tenant: str,
        clock: Callable[[], float],
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._ingestor = ingestor
        self._tenant = tenant
        self._clock = clock
        self._progress = progress
        self._read = self._imported = self._present = 0
        self._refused: list[Refused] = []

    async def run(self, facts: Mapping[str, str], key_values: str, events: str) -> Report:
        """Goes on where the facts of these names say that it came to. Raises Unavailable."""
        await self._table(
            key_values,
            facts.get(key_values, ""),
            self._source.key_values,
            lambda row: row.key,
            lambda row: event_of_key_value(row, self._tenant, self._clock()),
        )
        await self._table(
            events,
            facts.get(events, ""),
            self._source.events,
            lambda row: str(row.id),
            lambda row: event_of_row(row, self._tenant),
        )
        return Report(self._read, self._imported, self._present, self._refused)

    async def _table(
        self,
        fact: str,
        after: str,
        read: Callable[[str, int], Sequence[T]],
        name: Callable[[T], str],
        event: Callable[[T], IncomingEvent],
    ) -> None:
        while rows := read(after, BATCH):
            made: list[tuple[str, IncomingEvent]] = []
            for row in rows:
                try:
                    made.append((name(row), event(row)))
                except Exception as error:
                    # whatever is wrong with one row is said of it: the others are taken over
                    self._refused.append(Refused(name(row), getattr(error, "message", str(error))))
            fates = await self._ingestor.apply([one for _, one in made])
            for (row_name, _), fate in zip(made, fates, strict=True):
                self._count(row_name, fate)
            self._read += len(rows)
            after = name(rows[-1])
            position = after
            await self._ledger.transact(lambda to, position=position: to.remember(fact, position))  # type: ignore[misc]
            self._progress(self._read)

    def _count(self, row: str, fate: Outcome | SomaError) -> None:
        if isinstance(fate, SomaError):
            self._refused.append(Refused(row, fate.message))
        elif fate is Outcome.APPLIED:
            self._imported += 1
        else:
            self._present += 1
