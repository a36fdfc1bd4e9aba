"""Rows of `memories` as both ledgers read them: the columns, and what is made of a row. Neither has a list of its own.

A column that one ledger reads and the other forgets is data that is lost in one mode only, and nobody sees it at once.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from memory_runtime.model.coordinates import coordinate_from_canonical
from memory_runtime.model.records import MemoryRecord, Scope, Vector
from memory_runtime.stores.answer_size import spend
from memory_runtime.stores.contracts import Collection, Put, Rows
from memory_runtime.stores.values import Row

COLUMNS: Final = (
    "id", "tenant", "namespace", "memory_type", "coordinate", "payload", "importance_raw", "importance_norm",
    "normaliser_version", "event_time", "ingest_time", "access_time", "access_count", "features", "model_revision",
    "pinned", "hold", "expires_at", "version", "seq",
)  # fmt: skip
AS_IT_IS: Final = (
    "id", "tenant", "namespace", "memory_type", "coordinate", "event_time", "ingest_time", "importance_raw", "features",
    "model_revision", "pinned", "hold", "expires_at", "collection", "importance_norm",
)  # fmt: skip
"""What the change feed tells of a memory as it is now; the vector follows."""
SCANNED: Final = (
    "row", "id", "tenant", "namespace", "memory_type", "importance_norm", "event_time", "expires_at", "features",
    "pinned", "hold",
)  # fmt: skip
"""What an index is built from, beside the vectors."""
FUSED: Final = (
    "row", "id", "event_time", "memory_type", "coordinate", "importance_norm", "features", "pinned",
)  # fmt: skip
"""What hybrid recall reads of a memory."""


def record(found: Sequence[Any], vector: bytes | None = None) -> MemoryRecord:
    """The record of a row that begins with COLUMNS, its id as 16 bytes or a UUID; `vector` is float32 in bytes.

    Raises PayloadTooLarge where more is read for one answer than it may hold.
    """
    spend(len(found[5]))
    return MemoryRecord(
        id=_identity(found[0]),
        tenant=found[1],
        namespace=found[2],
        memory_type=found[3],
        coordinate=coordinate_from_canonical(found[4]),
        payload=json.loads(found[5]),
        importance=found[6],
        importance_norm=found[7],
        normaliser_version=found[8],
        event_time=found[9],
        ingest_time=found[10],
        access_time=found[11],
        access_count=found[12],
        features=json.loads(found[13]) if found[13] else {},
        vector=np.frombuffer(vector, np.float32) if vector else None,
        model_revision=found[14],
        pinned=bool(found[15]),
        hold=bool(found[16]),
        expires_at=found[17],
        version=found[18],
        seq=found[19],
    )


def _identity(found: bytes | uuid.UUID) -> uuid.UUID:
    # the driver's UUID is a class of its own, and slower to compare
    return uuid.UUID(bytes=found if isinstance(found, bytes) else found.bytes)


def as_it_is(found: Sequence[Any], vector: bytes | None) -> tuple[Put, float]:
    """The put that would make the memory of a row of AS_IT_IS, without payload and words, and its i."""
    put = Put(
        id=_identity(found[0]),
        scope=Scope(found[1], found[2]),
        memory_type=found[3],
        coordinate=found[4],
        payload="",
        search_text="",
        event_time=found[5],
        ingest_time=found[6],
        importance=found[7],
        features=json.loads(found[8]) if found[8] else {},
        vector=None if vector is None else np.frombuffer(vector, np.float32),
        model_revision=found[9],
        pinned=bool(found[10]),
        hold=bool(found[11]),
        expires_at=found[12],
        collection=Collection(found[13]),
    )
    return put, found[14]


def scanned(found: Sequence[Sequence[Any]], vectors: Vector) -> Rows:
    """A run for an index, of rows of SCANNED (ids of 16 bytes), and their vectors, float32 [n, dim]."""
    numbers, ids, tenants, namespaces, types, norms, times, expiries, features, pinned, held = zip(*found, strict=True)
    return Rows(
        numbers[-1],
        list(ids),
        list(tenants),
        list(namespaces),
        list(types),
        list(norms),
        list(times),
        [
            math.inf if expiry is None or pin or hold else expiry
            for expiry, pin, hold in zip(expiries, pinned, held, strict=True)
        ],
        list(features),
        vectors,
        pinned if any(pinned) else (),
    )


def fused(found: Sequence[Any]) -> Row:
    """A row of FUSED as fusion needs it; its id is of 16 bytes."""
    row, identity, event_time, memory_type, coordinate, importance, features, pinned = found
    channels = json.loads(features) if features else {}
    return Row(row, identity, event_time, memory_type, coordinate, importance, channels, bool(pinned))
