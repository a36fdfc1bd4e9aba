"""Queries on records: by id, keyword, filter, range. Read-only, on any connection."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate, coordinate_from_canonical
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores.contracts import Collection
from memory_runtime.stores.rows import COLUMNS, record
from memory_runtime.stores.sqlite import fts
from memory_runtime.stores.sqlite.filters import conditions

_COLUMNS = ", ".join(COLUMNS)
_MAX_VARIABLES = 500


def get(connection: sqlite3.Connection, record_id: uuid.UUID) -> MemoryRecord | None:
    """The live record of this id, with its vector."""
    sql = f"SELECT {_COLUMNS}, vector FROM memories LEFT JOIN vectors USING (row) WHERE id = ? AND deleted = 0"  # noqa: S608
    found = connection.execute(sql, (record_id.bytes,)).fetchone()
    return record(found, found[-1]) if found else None


def by_ids(connection: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
    """The live records among these ids, without vectors."""
    records: dict[bytes, MemoryRecord] = {}
    for start in range(0, len(ids), _MAX_VARIABLES):
        part = ids[start : start + _MAX_VARIABLES]
        marks = ",".join("?" * len(part))
        sql = f"SELECT {_COLUMNS} FROM memories WHERE id IN ({marks}) AND deleted = 0"  # noqa: S608 -- only marks
        records.update((found[0], record(found)) for found in connection.execute(sql, part))
    return records


def in_scope(
    connection: sqlite3.Connection,
    scope: Scope,
    *,
    memory_type: str | None = None,
    filters: Mapping[str, Any] | None = None,
    contains: tuple[str, bool] | None = None,
    limit: int = -1,
    now: float,
) -> list[MemoryRecord]:
    """The scope's live memories that pass the filters, by coordinate.

    `contains` is a text and whether its case counts. Cost: the number of memories in the scope.
    """
    where, values = _scope_conditions(scope, memory_type, filters, now)
    if contains is not None:
        text, case_sensitive = contains
        held = "composed(raw_text(text, payload))"
        where.append(f"instr({held}, ?) > 0" if case_sensitive else f"instr(lower({held}), lower(?)) > 0")
        values.append(fts.composed(text))
    sql = f"SELECT {_COLUMNS} FROM memories WHERE {' AND '.join(where)} ORDER BY coordinate_first, id LIMIT ?"  # noqa: S608
    return [record(found) for found in connection.execute(sql, (*values, limit))]


def holding(
    connection: sqlite3.Connection,
    scope: Scope,
    fragments: Sequence[str],
    *,
    memory_type: str | None,
    filters: Mapping[str, Any] | None,
    now: float,
    limit: int,
) -> list[MemoryRecord]:
    """See `RecordView.holding`."""
    where, values = _scope_conditions(scope, memory_type, filters, now)
    if fragments:
        where.append("(" + " OR ".join(["instr(lower(payload), ?) > 0"] * len(fragments)) + ")")
        values.extend(fragments)
    sql = f"SELECT {_COLUMNS} FROM memories WHERE {' AND '.join(where)} ORDER BY coordinate_first, id LIMIT ?"  # noqa: S608
    return [record(found) for found in connection.execute(sql, (*values, limit))]


def at_coordinate(
    connection: sqlite3.Connection, scope: Scope, coordinate: Coordinate, memory_type: str | None, now: float
) -> list[MemoryRecord]:
    """The live memories at a coordinate, the last stored first."""
    where, values = _scope_conditions(scope, memory_type, None, now)
    where.append("coordinate_first = ? AND coordinate = ?")
    sql = f"SELECT {_COLUMNS} FROM memories WHERE {' AND '.join(where)} ORDER BY seq DESC"  # noqa: S608
    return [
        record(found) for found in connection.execute(sql, (*values, coordinate[0], canonical_coordinate(coordinate)))
    ]


def types_at(connection: sqlite3.Connection, scope: Scope, coordinate: Coordinate, collection: Collection) -> list[str]:
    """The memory types that have a live row, expired or not, at the coordinate."""
    rows = connection.execute(
        "SELECT memory_type FROM memories WHERE tenant = ? AND namespace = ? AND collection = ?"
        " AND coordinate_first = ? AND coordinate = ? AND deleted = 0 ORDER BY memory_type",
        (scope.tenant, scope.namespace, int(collection), coordinate[0], canonical_coordinate(coordinate)),
    )
    return [found[0] for found in rows]


def by_words(
    connection: sqlite3.Connection,
    scope: Scope,
    term: str,
    match: str | None,
    *,
    contains: str | None,
    exactly: str | None,
    limit: int,
    memory_type: str | None,
    filters: Mapping[str, Any] | None,
    now: float,
) -> list[MemoryRecord]:
    """The records of `fts.search_text`, best first; a term without a word (`!?`) is looked for as characters."""
    if match is None:
        sought = (term, contains is not None)
        return in_scope(
            connection, scope, memory_type=memory_type, filters=filters, contains=sought, limit=limit, now=now
        )
    hits = fts.search_text(
        connection,
        scope,
        match,
        limit=limit,
        now=now,
        memory_type=memory_type,
        contains=contains,
        exactly=exactly,
        filters=filters,
    )
    records = by_ids(connection, [hit.id for hit in hits])
    return [records[hit.id] for hit in hits if hit.id in records]


def page(
    connection: sqlite3.Connection,
    scope: Scope,
    *,
    after: uuid.UUID | None,
    limit: int,
    memory_type: str | None,
    now: float,
) -> list[MemoryRecord]:
    """Up to `limit` live memories of the scope with ids after `after`, in order of id, with their vectors."""
    where, values = _scope_conditions(scope, memory_type, None, now)
    # the plus keeps the scope's index out of the plan: it would sort the whole scope for every page
    where[0] = "+tenant = ?"
    where.append("id > ?")
    values.append(b"" if after is None else after.bytes)
    sql = (
        f"SELECT {_COLUMNS}, vector FROM memories LEFT JOIN vectors USING (row)"  # noqa: S608 -- literals only
        f" WHERE {' AND '.join(where)} ORDER BY id LIMIT ?"
    )
    return [record(found, found[-1]) for found in connection.execute(sql, (*values, limit))]


def newest_importance(connection: sqlite3.Connection, limit: int = 2000) -> list[float]:
    """The normalised importance of the memories stored last, of all scopes."""
    sql = "SELECT importance_norm FROM memories WHERE deleted = 0 ORDER BY row DESC LIMIT ?"
    return [found[0] for found in connection.execute(sql, (limit,))]


def expired(connection: sqlite3.Connection, now: float, limit: int) -> list[tuple[uuid.UUID, Scope, str]]:
    """Id, scope and type of memories that had expired by `now`, neither pinned nor held."""
    found = connection.execute(
        "SELECT id, tenant, namespace, memory_type FROM memories WHERE deleted = 0 AND expires_at IS NOT NULL"
        " AND expires_at <= ? AND pinned = 0 AND hold = 0 LIMIT ?",
        (now, limit),
    )
    return [(uuid.UUID(bytes=one[0]), Scope(one[1], one[2]), one[3]) for one in found]


def held_beyond(connection: sqlite3.Connection, since: float, until: float) -> list[bytes]:
    """The ids of memories under a legal hold whose ttl ends within these moments."""
    sql = (
        "SELECT id FROM memories WHERE deleted = 0 AND expires_at IS NOT NULL AND expires_at BETWEEN ? AND ?"
        " AND hold = 1"
    )
    return [found[0] for found in connection.execute(sql, (since, until))]


def allowed_ids(
    connection: sqlite3.Connection, scope: Scope, filters: Mapping[str, Any], *, memory_type: str | None, now: float
) -> list[bytes]:
    """The ids of the scope's live memories that pass the filters: what recall may choose its top k from."""
    where, values = _scope_conditions(scope, memory_type, filters, now)
    sql = f"SELECT id FROM memories WHERE {' AND '.join(where)}"  # noqa: S608 -- conditions are literals
    return [found[0] for found in connection.execute(sql, values)]


def _scope_conditions(
    scope: Scope, memory_type: str | None, filters: Mapping[str, Any] | None, now: float
) -> tuple[list[str], list[Any]]:
    where = ["tenant = ?", "namespace = ?", "collection = 0", "deleted = 0"]
    # what is pinned or held is kept beyond its ttl, and found as long as it is kept
    where.append("(expires_at IS NULL OR expires_at > ? OR pinned OR hold)")
    values: list[Any] = [scope.tenant, scope.namespace, now]
    if memory_type is not None:
        where.append("memory_type = ?")
        values.append(memory_type)
    if filters:
        tests, bound = conditions(filters)
        where.extend(tests)
        values.extend(bound)
    return where, values


def coordinates_between(
    connection: sqlite3.Connection,
    scope: Scope,
    low: Coordinate,
    high: Coordinate,
    *,
    memory_type: str | None,
    limit: int,
    now: float,
) -> list[Coordinate]:
    """The coordinates between low and high in every dimension, of the same length, in order."""
    where, values = _scope_conditions(scope, memory_type, None, now)
    where.append("coordinate_first BETWEEN ? AND ?")
    sql = f"SELECT DISTINCT coordinate FROM memories WHERE {' AND '.join(where)}"  # noqa: S608 -- conditions are literals
    found: list[Coordinate] = []
    for (text,) in connection.execute(sql, (*values, low[0], high[0])):
        coordinate = coordinate_from_canonical(text)
        if len(coordinate) == len(low) and all(a <= c <= b for a, c, b in zip(low, coordinate, high, strict=True)):
            found.append(coordinate)
    return sorted(found)[:limit]
