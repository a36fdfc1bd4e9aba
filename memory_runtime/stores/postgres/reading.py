"""Queries on records: by id, coordinate, filter, range. Read-only, in any session."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate, coordinate_from_canonical
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores import rows
from memory_runtime.stores.contracts import Collection
from memory_runtime.stores.postgres.filters import in_scope
from memory_runtime.stores.postgres.session import Bound, Session
from memory_runtime.stores.rows import record

COLUMNS: Final = ", ".join(f"m.{name}" for name in rows.COLUMNS)


def as_uuids(ids: Iterable[bytes]) -> list[uuid.UUID]:
    """The ids as the driver wants them."""
    return [uuid.UUID(bytes=bytes(one)) for one in ids]


def get(session: Session, record_id: uuid.UUID) -> MemoryRecord | None:
    """The live record of this id, with its vector."""
    sql = (
        f"SELECT {COLUMNS}, v.vector FROM memories m LEFT JOIN vectors v USING (row)"  # noqa: S608
        " WHERE m.id = $1 AND NOT m.deleted"
    )
    found = session.row(sql, record_id)
    return record(found, found[-1]) if found else None


def with_vectors(session: Session, ids: Sequence[uuid.UUID]) -> dict[bytes, MemoryRecord]:
    """The live records among these ids, with their vectors."""
    sql = (
        f"SELECT {COLUMNS}, v.vector FROM memories m LEFT JOIN vectors v USING (row)"  # noqa: S608
        " WHERE m.id = ANY($1::uuid[]) AND NOT m.deleted"
    )
    return {found[0].bytes: record(found, found[-1]) for found in session.rows(sql, ids)}


def by_ids(session: Session, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
    """The live records among these ids, without vectors."""
    sql = f"SELECT {COLUMNS} FROM memories m WHERE m.id = ANY($1::uuid[]) AND NOT m.deleted"  # noqa: S608
    return {found[0].bytes: record(found) for found in session.rows(sql, as_uuids(ids))} if ids else {}


def by_characters(
    session: Session,
    scope: Scope,
    characters: str,
    *,
    case_sensitive: bool,
    limit: int,
    memory_type: str | None,
    filters: Mapping[str, Any] | None,
    now: float,
) -> list[MemoryRecord]:
    """The scope's live memories that hold these characters, by coordinate. Cost: the memories of the scope.

    No index helps: what is looked for here has no letter and no digit, and trigrams are made of nothing else.
    """
    bound = Bound()
    where = in_scope(bound, scope, memory_type, filters, now)
    sought = bound(characters.replace("\0", "\ufffd"))
    where.append(
        f"position(normalize({sought}::text) IN normalize(m.text)) > 0"
        if case_sensitive
        else f"position(lower(normalize({sought}::text)) IN lower(normalize(m.text))) > 0"
    )
    sql = (
        f"SELECT {COLUMNS} FROM memories m WHERE {' AND '.join(where)}"  # noqa: S608
        f" ORDER BY m.coordinate_first, m.id LIMIT {bound(limit)}"
    )
    return [record(found) for found in session.rows(sql, *bound.values)]


def holding(
    session: Session,
    scope: Scope,
    fragments: Sequence[str],
    *,
    memory_type: str | None,
    filters: Mapping[str, Any] | None,
    now: float,
    limit: int,
) -> list[MemoryRecord]:
    """See `RecordView.holding`."""
    bound = Bound()
    where = in_scope(bound, scope, memory_type, filters, now)
    if fragments:
        # by the letters of ASCII alone, whatever the locale
        held = 'lower(m.payload COLLATE "C")'
        where.append("(" + " OR ".join(f"position({bound(one)}::text IN {held}) > 0" for one in fragments) + ")")
    sql = (
        f"SELECT {COLUMNS} FROM memories m WHERE {' AND '.join(where)}"  # noqa: S608
        f" ORDER BY m.coordinate_first, m.id LIMIT {bound(limit)}"
    )
    return [record(found) for found in session.rows(sql, *bound.values)]


def at_coordinate(
    session: Session, scope: Scope, coordinate: Coordinate, memory_type: str | None, now: float
) -> list[MemoryRecord]:
    """The live memories at a coordinate, the last stored first."""
    bound = Bound()
    where = in_scope(bound, scope, memory_type, None, now)
    where.append(f"m.coordinate_first = {bound(coordinate[0])}")
    where.append(f"m.coordinate = {bound(canonical_coordinate(coordinate))}")
    sql = f"SELECT {COLUMNS} FROM memories m WHERE {' AND '.join(where)} ORDER BY m.seq DESC"  # noqa: S608
    return [record(found) for found in session.rows(sql, *bound.values)]


def types_at(session: Session, scope: Scope, coordinate: Coordinate, collection: Collection) -> list[str]:
    """The memory types that have a live row, expired or not, at the coordinate, in order."""
    found = session.rows(
        "SELECT memory_type FROM memories WHERE tenant = $1 AND namespace = $2 AND collection = $3"
        " AND coordinate_first = $4 AND coordinate = $5 AND NOT deleted ORDER BY memory_type",
        scope.tenant,
        scope.namespace,
        int(collection),
        coordinate[0],
        canonical_coordinate(coordinate),
    )
    return [one[0] for one in found]


def page(
    session: Session, scope: Scope, *, after: uuid.UUID | None, limit: int, memory_type: str | None, now: float
) -> list[MemoryRecord]:
    """Up to `limit` live memories of the scope with ids after `after`, in order of id, with their vectors."""
    bound = Bound()
    where = in_scope(bound, scope, memory_type, None, now)
    if after is not None:
        where.append(f"m.id > {bound(after)}")
    sql = (
        f"SELECT {COLUMNS}, v.vector FROM memories m LEFT JOIN vectors v USING (row)"  # noqa: S608
        f" WHERE {' AND '.join(where)} ORDER BY m.id LIMIT {bound(limit)}"
    )
    return [record(found, found[-1]) for found in session.rows(sql, *bound.values)]


def newest_importance(session: Session, limit: int) -> list[float]:
    """The normalised importance of the memories stored last, of all scopes."""
    sql = "SELECT importance_norm FROM memories WHERE NOT deleted ORDER BY row DESC LIMIT $1"
    return [found[0] for found in session.rows(sql, limit)]


def allowed_ids(
    session: Session, scope: Scope, filters: Mapping[str, Any], *, memory_type: str | None, now: float
) -> list[bytes]:
    """The ids of the scope's live memories that pass the filters: what recall may choose its top k from."""
    bound = Bound()
    where = in_scope(bound, scope, memory_type, filters, now)
    sql = f"SELECT uuid_send(m.id) FROM memories m WHERE {' AND '.join(where)}"  # noqa: S608
    return [found[0] for found in session.rows(sql, *bound.values)]


def coordinates_between(
    session: Session,
    scope: Scope,
    low: Coordinate,
    high: Coordinate,
    *,
    memory_type: str | None,
    limit: int,
    now: float,
) -> list[Coordinate]:
    """The coordinates between low and high in every dimension, of the same length, in order."""
    bound = Bound()
    where = in_scope(bound, scope, memory_type, None, now)
    where.append(f"m.coordinate_first BETWEEN {bound(low[0])} AND {bound(high[0])}")
    sql = f"SELECT DISTINCT m.coordinate FROM memories m WHERE {' AND '.join(where)}"  # noqa: S608
    found: list[Coordinate] = []
    for (text,) in session.rows(sql, *bound.values):
        coordinate = coordinate_from_canonical(text)
        if len(coordinate) == len(low) and all(a <= c <= b for a, c, b in zip(low, coordinate, high, strict=True)):
            found.append(coordinate)
    return sorted(found)[:limit]


def held_beyond(session: Session, since: float, until: float) -> list[bytes]:
    """The ids of memories under a legal hold whose ttl ends within these moments."""
    sql = (
        "SELECT id FROM memories WHERE expires_at IS NOT NULL AND expires_at BETWEEN $1 AND $2 AND NOT deleted AND hold"
    )
    return [found[0].bytes for found in session.rows(sql, since, until)]


def expired(session: Session, now: float, limit: int) -> list[tuple[uuid.UUID, Scope, str]]:
    """Id, scope and type of memories that had expired by `now`, neither pinned nor held."""
    found = session.rows(
        "SELECT id, tenant, namespace, memory_type FROM memories WHERE expires_at IS NOT NULL AND expires_at <= $1"
        " AND NOT deleted AND NOT pinned AND NOT hold ORDER BY expires_at LIMIT $2",
        now,
        limit,
    )
    return [(uuid.UUID(bytes=one[0].bytes), Scope(one[1], one[2]), one[3]) for one in found]
