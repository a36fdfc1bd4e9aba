"""Rows of `memories` as both ledgers read them: the columns, and the record that a row is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from memory_runtime.model.coordinates import coordinate_from_canonical
from memory_runtime.model.records import MemoryRecord

COLUMNS: Final = (
    "id", "tenant", "namespace", "memory_type", "coordinate", "payload", "importance_raw", "importance_norm",
    "normaliser_version", "event_time", "ingest_time", "access_time", "access_count", "features", "model_revision",
    "pinned", "hold", "expires_at", "version", "seq",
)  # fmt: skip


def record(found: Sequence[Any], vector: bytes | None = None) -> MemoryRecord:
    """The record of a row that begins with COLUMNS, its id as 16 bytes or a UUID; `vector` is float32 in bytes."""
    identity = found[0]
    return MemoryRecord(
        id=uuid.UUID(bytes=identity if isinstance(identity, bytes) else identity.bytes),
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
