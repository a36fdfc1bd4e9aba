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
    EPOCH,
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

STAMP: Final = [SEQ, LAYOUT, GONE, EPOCH]


class Stamp(NamedTuple):
    """What is known of a stored point: the change that wrote it, under which layout, and whether it is a tombstone.

    `epoch` is that of the line of history that the change is of.
    """

    seq: int
    layout: int
    gone: bool
    epoch: int = 0


class Write(NamedTuple):
    """A point, the change that it stands for, and the sequence that a stored one must be below to give way to it.

    A stored one of an earlier line of history gives way whatever its sequence.
    """

    point: models.PointStruct
    seq: int
    below: int
    epoch: int = 0


def point_write(point: VectorPoint, width: float, layout: int) -> Write:
    """The write of a point."""
    band, scale = place(point.log2_weight, width)
    payload: dict[str, Any] = {
        TENANT: point.scope.tenant,
        NAMESPACE: point.scope.namespace,
        TYPE: point.memory_type,
        SEQ: point.seq,
        EPOCH: point.epoch,
        BAND: band,
        WEIGHT: point.log2_weight,
        EVENT_TIME: point.event_time,
        LAYOUT: layout,
        GONE: 0,
    }
    if point.expires_at is not None:
        payload[EXPIRES_AT] = point.expires_at
    made = models.PointStruct(id=str(point.id), vector=scaled(point.vector, scale), payload=payload)
    return Write(made, point.seq, point.seq, point.epoch)


def tombstone_write(removal: VectorRemoval, dim: int, layout: int) -> Write:
    """The write of a tombstone: in no scope, so no search sees it; its sequence keeps older writes out."""
    vector = [1.0] + [0.0] * (dim - 1)
    payload = {SEQ: removal.seq, EPOCH: removal.epoch, LAYOUT: layout, GONE: 1}
    made = models.PointStruct(id=str(removal.id), vector=vector, payload=payload)
    return Write(made, removal.seq, removal.seq + 1, removal.epoch)


def newest(writes: Iterable[Write]) -> list[Write]:
    """The newest write of each id."""
    found: dict[Any, Write] = {}
    for write in writes:
        known = found.get(write.point.id)
        if known is None or (known.epoch, known.below) < (write.epoch, write.below):
            found[write.point.id] = write
    return list(found.values())


def replaceable(low: int, high: int, layout: int, epoch: int = 0) -> models.Filter:
    """Which stored points a batch of one line of history may replace.

    Older than all of it, or of other rules and no newer than any of it, or of an earlier line.
    """
    other = models.Filter(
        must=[models.FieldCondition(key=SEQ, range=models.Range(lt=high))],
        must_not=[models.FieldCondition(key=LAYOUT, match=models.MatchValue(value=layout))],
    )
    older = models.Filter(should=[models.FieldCondition(key=SEQ, range=models.Range(lt=low)), other])
    # points from before there were lines do not say one
    unsaid = models.IsEmptyCondition(is_empty=models.PayloadField(key=EPOCH))
    line = models.FieldCondition(key=EPOCH, match=models.MatchValue(value=epoch))
    if not epoch:
        return models.Filter(must=[models.Filter(should=[line, unsaid]), older])
    earlier = models.FieldCondition(key=EPOCH, range=models.Range(lt=epoch))
    return models.Filter(should=[earlier, unsaid, models.Filter(must=[line, older])])


def condition(batch: Sequence[Write], layout: int) -> models.Filter:
    """The condition that a batch of one line of history shares."""
    return replaceable(min(one.below for one in batch), max(one.seq for one in batch) + 1, layout, batch[0].epoch)


def behind(batch: Sequence[Write], stored: dict[uuid.UUID, Stamp], layout: int) -> list[Write]:
    """The writes that the shared condition was too strict for."""
    return [one for one in batch if not _holds(one, stored.get(uuid.UUID(str(one.point.id))), layout)]


def _holds(write: Write, stamp: Stamp | None, layout: int) -> bool:
    if stamp is None:
        return False
    held, mine = (stamp.epoch, stamp.seq), (write.epoch, write.seq)
    return held > mine or (held == mine and stamp.layout == layout)


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
        epoch = int(payload.get(EPOCH, 0))
        found[uuid.UUID(str(record.id))] = Stamp(seq, layout, bool(payload.get(GONE)), epoch)
    return found
