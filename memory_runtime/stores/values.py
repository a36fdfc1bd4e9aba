"""What passes between a ledger and the engine beside records and commits: rows, slices, pending work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from memory_runtime.model.records import Edge, MemoryRecord, Scope

VectorTable = Literal["vectors", "vectors_next"]
CountKey = tuple[str, str, str, int]
"""Tenant, namespace, memory type, collection."""

CoordinateRow = tuple[bytes, str, str, str, str]
"""Id, tenant, namespace, collection's name, canonical coordinate."""

Measured = tuple[int, float, float, int, int, float, int, int]
"""Row, i, access time, access count, bytes, ingest time, kept (pinned or held), has an expiry of its own."""

ROW_OVERHEAD = 256
"""Bytes a memory costs beside payload, words and vector: its columns and its place in the indexes, about."""

CLIENT_REVISION = "client"
"""The model revision of vectors that callers bring."""


@dataclass(frozen=True, slots=True)
class Visible:
    """Which memories a question may see: the same that the index shows it.

    `at` is the moment of the question; `hide_later` leaves out what happened after it (`as_of`).
    """

    scope: Scope
    at: float
    hide_later: bool = False
    memory_type: str | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)


class Row(NamedTuple):
    """A memory as fusion needs it."""

    row: int
    id: bytes
    event_time: float
    memory_type: str
    coordinate: str
    importance: float
    features: dict[str, float]
    pinned: bool = False


class Slice(NamedTuple):
    """A run of live memories in order of row: per scope, what `retention.rows_of` takes; `last` is None at the end."""

    by_scope: dict[Scope, list[Measured]]
    last: int | None
    rows: int


class Kept(NamedTuple):
    """A memory as an archive keeps it: the record with its vector, its links both ways, and its row in the ledger."""

    record: MemoryRecord
    links: list[Edge]
    row: int = 0


class Restored(NamedTuple):
    """What a restore did: memories written, memories that were there already, links written again."""

    restored: int
    present: int
    links: int


class Pending(NamedTuple):
    """A memory whose next vector is to be made; `vector` is the one in use, as bytes."""

    row: int
    id: bytes
    version: int
    revision: str
    payload: str
    vector: bytes


class Facts:
    """Keys of what a ledger remembers about itself."""

    IDENTITY = "ledger_identity"
    """Drawn once: the origin of its events, and whose positions its mirrors hold."""
    DIMENSION = "vector_dim"
    EMBEDDING = "embedding_revision"
    REEMBEDDING_TO = "reembedding_to"
    REEMBEDDED_FROM = "reembedded_from"
    GENERATION = "index_generation"
    """Rises whenever rows change without a new seq: a snapshot of the index from before is of no use."""
    OF_ROWS = (DIMENSION, EMBEDDING, GENERATION)
    """What an index's rows depend on beside the changes."""
