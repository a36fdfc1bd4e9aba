"""Applying a batch of events: one unit an event, guarded by its id, so that however often it comes it acts once."""

from __future__ import annotations

import asyncio
import enum
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from memory_runtime.embedding import EmbeddingProvider, payload_text
from memory_runtime.engine.type_bound import refuse, types_of
from memory_runtime.engine.validation import Checked, check_item, check_time
from memory_runtime.model.coordinates import NAMESPACE_SOMA_COORDINATES, Coordinate, canonical_coordinate, memory_id
from memory_runtime.model.errors import Internal, InvalidArgument, SomaError
from memory_runtime.model.records import Scope, StoreItem, Vector, check_name
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Collection, Committed, Delete, IdempotencyKey, OriginVersion, Put, Unit
from memory_runtime.stores.sessions import Ledger
from memory_runtime.stores.values import CLIENT_REVISION, Facts

log = logging.getLogger(__name__)

OPERATION: Final = "event"
"""The operation of the idempotency rows: an event's id is its key within its scope."""
BREATH: Final = 32
"""Events that are worked on before the event loop has its turn: about 2 ms."""
_AWAY: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RATE_LIMITED"})


class EventOperation(enum.StrEnum):
    """What an event says happened."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, eq=False)
class IncomingEvent:
    """One event, decoded. `at` is when its origin committed it (None: not said); times are epoch seconds.

    `version` is the record's version at its origin, 0 where not said; `origin` names the ledger it comes from, empty
    for a producer that names none; `id` is the memory's id at its origin, used where there is no coordinate.
    """

    event_id: str
    scope: Scope
    operation: EventOperation
    id: str
    memory_type: str
    coordinate: Coordinate
    payload: Mapping[str, Any]
    timestamp: float
    importance: float | None = None
    embedding: Sequence[float] | None = None
    model_revision: str = ""
    features: Mapping[str, float] = field(default_factory=dict)
    pinned: bool = False
    hold: bool = False
    expires_at: float | None = None
    collection: Collection = Collection.MEMORIES
    version: int = 0
    origin: str = ""
    at: float | None = None
    trace: str = ""
    epoch: int = 0
    forked: int = 0
    seq: int = 0


class Outcome(enum.StrEnum):
    """What became of an event that was not refused. LATE: a later version of its origin was there before."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    LATE = "late"


class _Ready(NamedTuple):
    at: int
    event: IncomingEvent
    checked: Checked


class Ingestor:
    """Applies events to a ledger. It needs no index: whoever follows the ledger sees what it commits."""

    def __init__(
        self, ledger: Ledger, provider: EmbeddingProvider, settings: SMFSettings, clock: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._settings = settings
        self._clock = clock
        self._revision_known = False
        self._types: dict[str, set[str]] = {}

    async def apply(self, events: Sequence[IncomingEvent]) -> list[Outcome | SomaError]:
        """Each event's fate, in order: an outcome once it is durable, or why it can never be applied as it is.

        Internal says that it failed by a defect, which may be of the moment.

        Raises Unavailable where ledger or model is away: some may be durable by then, and all of them may come again.
        """
        fates: list[Outcome | SomaError | None] = [None] * len(events)
        units: list[tuple[int, Unit]] = []
        ready: list[_Ready] = []
        for at, event in enumerate(events):
            if at % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            try:
                if event.operation is EventOperation.DELETED:
                    units.append((at, self._unit(event, _delete(event, self._clock()))))
                else:
                    ready.append(_Ready(at, event, self._check(event)))
            except Exception as error:
                fates[at] = _refusal(error)
        ready = await self._within_bound(ready, fates)
        vectors = await self._vectors(ready)
        for one, found in zip(ready, vectors, strict=True):
            try:
                if isinstance(found, SomaError):
                    fates[one.at] = found
                else:
                    units.append((one.at, self._unit(one.event, self._put(one, *found))))
            except Exception as error:
                fates[one.at] = _refusal(error)
        # the order of the events is the order of the changes
        units.sort(key=lambda pair: pair[0])
        committed = await self._commit([unit for _, unit in units]) if units else []
        for (at, _), result in zip(units, committed, strict=True):
            fates[at] = _fate(result)
        return [fate for fate in fates if fate is not None]

    async def _within_bound(self, ready: Sequence[_Ready], fates: list[Outcome | SomaError | None]) -> list[_Ready]:
        """The events whose memory types a tenant may have; the others are refused. A new type costs a look."""
        if all(one.event.memory_type in self._types.get(one.event.scope.tenant, ()) for one in ready):
            return list(ready)
        self._types = {tenant: set(types) for tenant, types in types_of(await self._ledger.counts()).items()}
        most = self._settings.max_memory_types
        kept = []
        for one in ready:
            types = self._types.setdefault(one.event.scope.tenant, set())
            if one.event.memory_type not in types and len(types) >= most:
                fates[one.at] = refuse(one.event.scope.tenant, most)
                continue
            types.add(one.event.memory_type)
            kept.append(one)
        return kept

    async def _commit(self, units: Sequence[Unit]) -> list[Committed | Exception]:
        """The fate of each unit. Where they fail together by a defect, halves are tried until the culprit is alone.

        What was committed and is tried again answers as a duplicate, by its key. Raises what passes by itself.
        """
        try:
            return list(await self._ledger.commit_many(units))
        except Exception as error:
            if passes(error):
                raise
            if len(units) == 1:
                return [error]
        middle = len(units) // 2
        return [*await self._commit(units[:middle]), *await self._commit(units[middle:])]

    def _unit(self, event: IncomingEvent, write: Put | Delete) -> Unit:
        guard = IdempotencyKey(event.scope, OPERATION, event.event_id, "", self._clock())
        # never empty: what came as an event is on the topic already, and must not be published again
        tells_of = None
        if event.origin and (event.version or event.epoch):
            line = (event.epoch, event.forked, event.seq)
            tells_of = OriginVersion(event.origin, write.id, event.version, *line)
        return Unit([write], guard, origin=event.origin or "unnamed", trace=event.trace, tells_of=tells_of)

    def _check(self, event: IncomingEvent) -> Checked:
        check_time(event.expires_at, "expires_at")
        item = StoreItem(
            coordinate=event.coordinate,
            payload=event.payload,
            memory_type=event.memory_type,
            timestamp=event.timestamp,
            importance=event.importance,
            vector=None if event.embedding is None else _wide(event.embedding),
            features=event.features,
            pinned=event.pinned,
            hold=event.hold,
        )
        return check_item(event.scope, item, self._settings)

    async def _vectors(self, ready: Sequence[_Ready]) -> list[tuple[Vector | None, str] | SomaError]:
        """The vector and its revision for each; texts of the whole batch are embedded in one call."""
        wanted = [one for one in ready if self._needs_embedding(one)]
        texts = [payload_text(one.event.payload) for one in wanted]
        if texts and not self._revision_known:
            revision = self._provider.revision
            await self._ledger.transact(lambda to: to.remember(Facts.EMBEDDING, revision, replace=False))
            self._revision_known = True
        try:
            embedded: list[Vector | SomaError] = list(await self._provider.embed(texts)) if texts else []
        except Exception as error:
            if passes(error):
                raise
            # one text of the batch cannot be embedded: which one, only asking for each can tell
            embedded = [await self._embed_alone(text) for text in texts]
        made = {one.at: vector for one, vector in zip(wanted, embedded, strict=True)}
        found: list[tuple[Vector | None, str] | SomaError] = []
        for one in ready:
            vector = made.get(one.at)
            if isinstance(vector, SomaError):
                found.append(vector)
            elif vector is not None:
                found.append((vector, self._provider.revision))
            else:
                found.append((one.checked.vector, one.event.model_revision or CLIENT_REVISION))
        return found

    def _needs_embedding(self, one: _Ready) -> bool:
        if one.event.collection is Collection.COORDINATES:
            return False
        if one.checked.vector is None:
            return True
        # a vector of another model is of another space; the text is at hand to make one of ours
        revision = one.event.model_revision
        foreign = revision not in {"", CLIENT_REVISION, self._provider.revision}
        return foreign and self._provider.name != "client"

    async def _embed_alone(self, text: str) -> Vector | SomaError:
        try:
            return (await self._provider.embed([text]))[0]  # type: ignore[no-any-return]
        except Exception as error:
            return _refusal(error)

    def _put(self, one: _Ready, vector: Vector | None, revision: str) -> Put:
        event, now = one.event, self._clock()
        memory = event.collection is Collection.MEMORIES
        return Put(
            id=one.checked.id if memory else _identity(event),
            scope=event.scope,
            memory_type=event.memory_type,
            coordinate=one.checked.coordinate,
            payload=one.checked.payload,
            search_text=payload_text(event.payload) if memory else "",
            event_time=event.timestamp,
            ingest_time=now,
            importance=event.importance,
            features=dict(event.features),
            vector=vector if memory else None,
            model_revision=revision if memory else "",
            pinned=event.pinned,
            hold=event.hold,
            expires_at=event.expires_at,
            collection=event.collection,
        )


def _identity(event: IncomingEvent) -> uuid.UUID:
    scope, text = event.scope, canonical_coordinate(event.coordinate)
    if event.collection is Collection.COORDINATES:
        return memory_id(scope.tenant, scope.namespace, event.memory_type, text, root=NAMESPACE_SOMA_COORDINATES)
    return memory_id(scope.tenant, scope.namespace, event.memory_type, text)


def _delete(event: IncomingEvent, now: float) -> Delete:
    check_name(event.memory_type, field="memory_type")
    return Delete(_identity(event), event.scope, event.memory_type, at=now, collection=event.collection)


def _fate(result: Committed | Exception) -> Outcome | SomaError:
    if isinstance(result, Committed):
        if result.late:
            return Outcome.LATE
        return Outcome.DUPLICATE if result.replayed else Outcome.APPLIED
    return _refusal(result)


def passes(error: BaseException) -> bool:
    """Whether the failure is of the moment, and of no single event: ledger or model is away, or too busy."""
    return isinstance(error, OSError | TimeoutError) or (isinstance(error, SomaError) and error.code in _AWAY)


def _refusal(error: Exception) -> SomaError:
    """Why one event cannot be applied. Raises what passes by itself."""
    if passes(error):
        raise error
    if isinstance(error, SomaError):
        return error
    # a defect of ours: said of the one event that shows it, so that it cannot hold up the others for good
    log.error("an event met a defect: %s", type(error).__name__, exc_info=error)
    return Internal(f"the event could not be applied: {type(error).__name__}", remedy="see the log, and report it")


def _wide(embedding: Sequence[float]) -> Vector:
    try:
        return np.asarray(embedding, dtype=np.float64)
    except (OverflowError, TypeError, ValueError):
        raise InvalidArgument(
            "embedding: not a list of finite numbers", field="embedding", remedy="send finite numbers"
        ) from None
