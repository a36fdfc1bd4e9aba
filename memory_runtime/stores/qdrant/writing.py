"""What is written: points and the tombstones of removed ones, each under the condition that nothing newer is there.

Every write carries its condition to the server, which tests and writes in one step. A batch shares one condition (older
than the whole batch); what that was too strict for is found by reading the sequences back, and written one by one under
its own. So a point is never left older than what was asked for, and never made older, whoever else writes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from qdrant_client import models

from memory_runtime.stores.interfaces import VectorPoint, VectorRemoval
from memory_runtime.stores.qdrant.layout import place, scaled
from memory_runtime.stores.qdrant.schema import (
    BAND,
    EVENT_TIME,
    EXPIRES_AT,
    GONE,
    LAYOUT,
    NAMESPACE,
    SEQ,
    TENANT,
    TYPE,
    WEIGHT,
)

STAMP: Final = [SEQ, LAYOUT, GONE]


class Stamp(NamedTuple):
    """What is known of a stored point: the change that wrote it, under which layout, and whether it is a tombstone."""

    seq: int
    layout: int
    gone: bool


class Write(NamedTuple):
    """A point, the change that it stands for, and the sequence that a stored one must be below to give way to it."""

    point: models.PointStruct
    seq: int
    below: int


def point_write(point: VectorPoint, width: float, layout: int) -> Write:
    """The write of a point."""
    band, scale = place(point.log2_weight, width)
    payload: dict[str, Any] = {
        TENANT: point.scope.tenant,
        NAMESPACE: point.scope.namespace,
        TYPE: point.memory_type,
        SEQ: point.seq,
        BAND: band,
        WEIGHT: point.log2_weight,
        EVENT_TIME: point.event_time,
        LAYOUT: layout,
        GONE: 0,
    }
    if point.expires_at is not None:
        payload[EXPIRES_AT] = point.expires_at
    return Write(
        models.PointStruct(id=str(point.id), vector=scaled(point.vector, scale), payload=payload), point.seq, point.seq
    )


def tombstone_write(removal: VectorRemoval, dim: int, layout: int) -> Write:
    """The write of a tombstone: in no scope, so no search sees it; its sequence keeps older writes out."""
    vector = [1.0] + [0.0] * (dim - 1)
    payload = {SEQ: removal.seq, LAYOUT: layout, GONE: 1}
    return Write(models.PointStruct(id=str(removal.id), vector=vector, payload=payload), removal.seq, removal.seq + 1)


def newest(writes: Iterable[Write]) -> list[Write]:
    """The newest write of each id."""
    found: dict[Any, Write] = {}
    for write in writes:
        known = found.get(write.point.id)
        if known is None or known.below < write.below:
            found[write.point.id] = write
    return list(found.values())


def replaceable(low: int, high: int, layout: int) -> models.Filter:
    """Which stored points a batch may replace: older than all of it, or of other rules and no newer than any of it."""
    other = models.Filter(
        must=[models.FieldCondition(key=SEQ, range=models.Range(lt=high))],
        must_not=[models.FieldCondition(key=LAYOUT, match=models.MatchValue(value=layout))],
    )
    return models.Filter(should=[models.FieldCondition(key=SEQ, range=models.Range(lt=low)), other])


def condition(batch: Sequence[Write], layout: int) -> models.Filter:
    """The condition that a batch shares."""
    return replaceable(min(one.below for one in batch), max(one.seq for one in batch) + 1, layout)


def behind(batch: Sequence[Write], stored: dict[uuid.UUID, Stamp], layout: int) -> list[Write]:
    """The writes that the shared condition was too strict for."""
    return [one for one in batch if not _holds(one, stored.get(uuid.UUID(str(one.point.id))), layout)]


def _holds(write: Write, stamp: Stamp | None, layout: int) -> bool:
    if stamp is None:
        return False
    return stamp.seq > write.seq or (stamp.seq == write.seq and stamp.layout == layout)


def alone(write: Write, layout: int) -> models.UpsertOperation:
    """One write under its own condition."""
    points = models.PointsList(points=[write.point], update_filter=condition([write], layout))
    return models.UpsertOperation(upsert=points)


def stamps(records: Iterable[models.Record]) -> dict[uuid.UUID, Stamp]:
    """What was read back, by id."""
    found = {}
    for record in records:
        payload = record.payload or {}
        seq, layout = int(payload.get(SEQ, -1)), int(payload.get(LAYOUT, 0))
        found[uuid.UUID(str(record.id))] = Stamp(seq, layout, bool(payload.get(GONE)))
    return found
