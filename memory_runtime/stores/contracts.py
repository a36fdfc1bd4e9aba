"""What a ledger promises, whatever it is kept in: the words of a commit, of its receipt and of its change stream.

A `Unit` is all or nothing. Units committed together share one flush to disk but not their fate. Every change of a
memory or an edge has one row in the outbox, whose number is the `seq` of the change: rising, never reused.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.records import Edge, Scope, Vector


class Collection(enum.IntEnum):
    """Memories are recalled by vector; coordinates are the old gRPC service's own collections: they are the vector."""

    MEMORIES = 0
    COORDINATES = 1


class Operation(enum.StrEnum):
    """What a change did."""

    PUT = "put"
    DELETE = "delete"
    LINK = "link"


@dataclass(frozen=True, slots=True, eq=False)
class Put:
    """Writes one memory: a new version where its id exists. `vector` is unit float32; `search_text` feeds keywords."""

    id: uuid.UUID
    scope: Scope
    memory_type: str
    coordinate: str
    payload: str
    search_text: str
    event_time: float
    ingest_time: float
    importance: float | None = None
    features: Mapping[str, float] = field(default_factory=dict)
    vector: Vector | None = None
    model_revision: str = ""
    pinned: bool = False
    hold: bool = False
    expires_at: float | None = None
    collection: Collection = Collection.MEMORIES

    @property
    def ends_at(self) -> float | None:
        """When it is no longer found: its expiry, which what is pinned or held outlives."""
        return None if self.pinned or self.hold else self.expires_at


@dataclass(frozen=True, slots=True)
class Delete:
    """Leaves a tombstone where the memory is; `expired_before` spares what had not expired by then."""

    id: uuid.UUID
    scope: Scope
    memory_type: str
    at: float
    expired_before: float | None = None
    collection: Collection = Collection.MEMORIES


@dataclass(frozen=True, slots=True)
class Link:
    """Writes one edge between two coordinates of the scope, whether or not they hold a memory; again, it is an update.

    `between_memories` raises NotFound where one of them holds none. `removed` takes the edge away instead; only its
    ends and its type count then, and taking away what is not there does nothing.
    """

    scope: Scope
    edge: Edge
    at: float
    between_memories: bool = False
    removed: bool = False


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the audit chain: who did what to which subject."""

    tenant: str
    actor: str
    action: str
    subject: str
    at: float
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The caller's key within its scope and operation, and the hash of the body that it stands for.

    An `implicit` key was not meant as one (a request id): its reply is given again only while every memory is as that
    reply left it, and the write is done anew otherwise. `at` is the moment of the call.
    """

    scope: Scope
    operation: str
    key: str
    body_hash: str
    at: float
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class OriginVersion:
    """Which version of a memory an event tells of: that of the ledger it comes from (`origin`).

    `epoch` and `forked` are those of the line of history that the version is of, `seq` its change there; 0 where not
    said. Of two versions the one of the higher epoch is the later, then the one of the higher number.
    """

    origin: str
    id: uuid.UUID
    version: int
    epoch: int = 0
    forked: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Unit:
    """What must be committed whole: writes in order, the idempotency row that guards them, and audit lines.

    `origin` names whose change it was, where it came as an event (empty: ours); `trace` is the caller's traceparent.
    `tells_of` makes the unit do nothing where this or a later version from there was committed before: what comes
    late must not undo what came after it, and above all not a delete.
    """

    writes: Sequence[Put | Delete | Link] = ()
    idempotency: IdempotencyKey | None = None
    audit: Sequence[AuditEntry] = ()
    origin: str = ""
    trace: str = ""
    tells_of: OriginVersion | None = None


class Receipt(NamedTuple):
    """What one write did. `changed` is False for a delete of nothing; `created` for a put that made the memory."""

    id: uuid.UUID
    version: int
    seq: int
    created: bool
    changed: bool


def left_versions(receipts: Sequence[Receipt]) -> dict[uuid.UUID, int]:
    """The version that a reply left each of its memories at: the last one, where a unit wrote one of them twice."""
    return {one.id: one.version for one in receipts}


@dataclass(frozen=True, slots=True)
class Committed:
    """A unit's receipts in the order of its writes; `replayed` where the idempotency row answered.

    `late`, with no receipts, where a later version than the unit tells of was there before.
    """

    receipts: tuple[Receipt, ...]
    replayed: bool = False
    late: bool = False


class Applied(NamedTuple):
    """One durable change as the index needs it, in the order of `receipt.seq`."""

    write: Put | Delete | Link
    receipt: Receipt
    importance_norm: float


@dataclass(frozen=True, slots=True)
class Change:
    """One row of the outbox: what was done, as it was done. `payload` is gone (None) once the memory was deleted.

    `created` is False for a put over a live memory; `importance` is the raw r; `event_time`, `importance`,
    `coordinate` and `model_revision` are empty for links, and for what was written before migration 0002.
    """

    seq: int
    operation: Operation
    id: uuid.UUID
    scope: Scope
    memory_type: str
    version: int
    at: float
    payload: str | None
    collection: Collection = Collection.MEMORIES
    created: bool = False
    coordinate: str = ""
    event_time: float | None = None
    importance: float | None = None
    model_revision: str = ""
    origin: str = ""
    trace: str = ""
    history: str = ""
    """The token of the group that made it, in hex: no other history has it. Empty before migration to tokens."""


def deleted_change(columns: Sequence[Any], identity: uuid.UUID) -> Change:
    """The change of a tombstone: its seq, id, tenant, namespace, type, version, time and coordinate."""
    seq, _, tenant, namespace, memory_type, version, at, coordinate = columns
    scope = Scope(tenant, namespace)
    return Change(seq, Operation.DELETE, identity, scope, memory_type, version, at, None, coordinate=coordinate)


class TailTrimmed(Exception):  # noqa: N818 -- a condition for the follower, who answers it with a fresh scan
    """The outbox no longer reaches back to the sequence asked for."""


class HistoryLost(TailTrimmed):
    """The ledger does not hold the change that the asker builds on: it was restored, or failed over with a loss."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """One line of a ledger's history, from the change after `forked` on.

    A ledger begins another one whenever it may have lost its newest changes: after a restart of the database on other
    hardware, a restore, a fail-over, a copy. `epoch` (microseconds of its beginning, rising) orders them: of two
    changes that contradict each other, the one of the higher epoch stands.
    """

    id: str
    epoch: int
    forked: int
    generation: int = 0
    parent: str = ""


class Rows(NamedTuple):
    """A run of live memories, column by column, for building an index.

    `last` is the position to continue from; `vectors` is float32 [n, dim], unit rows; `expires_at` holds +inf for
    rows that stay; `features` are JSON texts, or None where there are none; `pinned` is empty where no row is.
    """

    last: int
    ids: list[bytes]
    tenants: list[str]
    namespaces: list[str]
    memory_types: list[str]
    importance: list[float]
    event_time: list[float]
    expires_at: list[float]
    features: list[str | None]
    vectors: Vector
    pinned: Sequence[bool] = ()


class NormaliserState(Protocol):
    """One tenant's importance normaliser: turns raw importance into i in [0, 1], and remembers what it saw."""

    @property
    def version(self) -> int:
        """Rises when the normaliser's parameters change; stored beside every i that it made."""

    def observe(self, raw: float) -> tuple[float, int]:
        """The i of this raw importance, fixed for good at its commit, and the version that made it."""

    def dumps(self) -> str:
        """The state as text, from which `NormaliserFactory` makes the same normaliser again."""


NormaliserFactory = Callable[[str | None], NormaliserState]
"""Makes a tenant's normaliser from its dumped state, or a fresh one from None."""

Observer = Callable[[Sequence[Applied]], None]
"""Hears every durable change, in order of seq, before its writer is told: so a reader after it sees it."""


class KeywordHit(NamedTuple):
    """A memory found by its words; `rank` is BM25's, lower is better."""

    id: bytes
    rank: float


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A coordinate reached from another, how many hops away, and the edge that led there."""

    coordinate: Coordinate
    hops: int
    edge: Edge


EdgeKey = tuple[Coordinate, str, Coordinate]
"""What tells one edge of a scope from another: source, link type, target."""
