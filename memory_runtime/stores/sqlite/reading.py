"""Queries on records: by id, keyword, filter, range, and in bulk for an index. Read-only, on any connection."""

from __future__ import annotations

import json
import math
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate, coordinate_from_canonical
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores.contracts import Change, Collection, Operation, Rows, TailTrimmed
from memory_runtime.stores.sqlite import fts
from memory_runtime.stores.sqlite.filters import conditions

_COLUMNS = (
    "id, tenant, namespace, memory_type, coordinate, payload, importance_raw, importance_norm, normaliser_version,"
    " event_time, ingest_time, access_time, access_count, features, model_revision, pinned, hold, expires_at,"
    " version, seq"
)
_MAX_VARIABLES = 500


def _record(found: Sequence[Any], vector: bytes | None = None) -> MemoryRecord:
    return MemoryRecord(
        id=uuid.UUID(bytes=found[0]),
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


def get(connection: sqlite3.Connection, record_id: uuid.UUID) -> MemoryRecord | None:
    """The live record of this id, with its vector."""
    sql = f"SELECT {_COLUMNS}, vector FROM memories LEFT JOIN vectors USING (row) WHERE id = ? AND deleted = 0"  # noqa: S608
    found = connection.execute(sql, (record_id.bytes,)).fetchone()
    return _record(found, found[-1]) if found else None


def by_ids(connection: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
    """The live records among these ids, without vectors."""
    records: dict[bytes, MemoryRecord] = {}
    for start in range(0, len(ids), _MAX_VARIABLES):
        part = ids[start : start + _MAX_VARIABLES]
        marks = ",".join("?" * len(part))
        sql = f"SELECT {_COLUMNS} FROM memories WHERE id IN ({marks}) AND deleted = 0"  # noqa: S608 -- only marks
        records.update((found[0], _record(found)) for found in connection.execute(sql, part))
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
        where.append("instr(text, ?) > 0" if case_sensitive else "instr(lower(text), lower(?)) > 0")
        values.append(text)
    sql = f"SELECT {_COLUMNS} FROM memories WHERE {' AND '.join(where)} ORDER BY coordinate_first, id LIMIT ?"  # noqa: S608
    return [_record(found) for found in connection.execute(sql, (*values, limit))]


def at_coordinate(
    connection: sqlite3.Connection, scope: Scope, coordinate: Coordinate, memory_type: str | None, now: float
) -> list[MemoryRecord]:
    """The live memories at a coordinate, the last stored first."""
    where, values = _scope_conditions(scope, memory_type, None, now)
    where.append("coordinate_first = ? AND coordinate = ?")
    sql = f"SELECT {_COLUMNS} FROM memories WHERE {' AND '.join(where)} ORDER BY seq DESC"  # noqa: S608
    return [
        _record(found) for found in connection.execute(sql, (*values, coordinate[0], canonical_coordinate(coordinate)))
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
        filters=filters,
    )
    records = by_ids(connection, [hit.id for hit in hits])
    return [records[hit.id] for hit in hits if hit.id in records]


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
    where = ["tenant = ?", "namespace = ?", "collection = 0", "deleted = 0", "(expires_at IS NULL OR expires_at > ?)"]
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


def tail(connection: sqlite3.Connection, seq: int, limit: int) -> list[Change]:
    """The changes after `seq`. Raises TailTrimmed where some of them are gone."""
    first = connection.execute("SELECT min(seq) FROM outbox").fetchone()[0]
    head = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    if head is not None and seq < head[0] and (first is None or seq < first - 1):
        raise TailTrimmed
    rows = connection.execute(
        "SELECT seq, operation, id, tenant, namespace, memory_type, version, at, payload FROM outbox WHERE seq > ?"
        " ORDER BY seq LIMIT ?",
        (seq, limit),
    )
    return [
        Change(
            seq=found[0],
            operation=Operation(found[1]),
            id=uuid.UUID(bytes=found[2]),
            scope=Scope(found[3], found[4]),
            memory_type=found[5],
            version=found[6],
            at=found[7],
            payload=found[8],
        )
        for found in rows
    ]


def counts(connection: sqlite3.Connection) -> dict[tuple[str, str, str, int], int]:
    """Live memories by tenant, namespace, memory type and collection; one pass, done once at the start."""
    sql = (
        "SELECT tenant, namespace, memory_type, collection, count(*) FROM memories WHERE deleted = 0"
        " GROUP BY tenant, namespace, memory_type, collection"
    )
    return {(found[0], found[1], found[2], found[3]): found[4] for found in connection.execute(sql)}


def scan(connection: sqlite3.Connection, dim: int, batch: int) -> Iterator[Rows]:
    """All live memories with a vector, in batches of at most `batch`, inside one view of the database.

    Raises sqlite3.DatabaseError when a vector has another dimension or is missing: then the file is damaged.
    """
    last = 0
    connection.execute("BEGIN")
    try:
        while True:
            found = connection.execute(
                "SELECT row, id, tenant, namespace, memory_type, importance_norm, event_time, expires_at, features"
                " FROM memories WHERE row > ? AND deleted = 0 AND collection = 0 ORDER BY row LIMIT ?",
                (last, batch),
            ).fetchall()
            if not found:
                return
            numbers, ids, tenants, namespaces, types, norms, times, expiries, features = zip(*found, strict=True)
            vectors = _vectors(connection, numbers, dim)
            last = numbers[-1]
            yield Rows(
                last,
                list(ids),
                list(tenants),
                list(namespaces),
                list(types),
                list(norms),
                list(times),
                [math.inf if expiry is None else expiry for expiry in expiries],
                list(features),
                vectors,
            )
    finally:
        connection.execute("COMMIT")


def _vectors(connection: sqlite3.Connection, rows: Sequence[int], dim: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = connection.execute(
        "SELECT row, vector FROM vectors WHERE row BETWEEN ? AND ? ORDER BY row", (rows[0], rows[-1])
    ).fetchall()
    if len(found) != len(rows):
        wanted = set(rows)
        found = [pair for pair in found if pair[0] in wanted]
    joined = b"".join([pair[1] for pair in found])
    if len(joined) != len(rows) * dim * 4:
        raise sqlite3.DatabaseError(f"{len(rows)} memories have {len(joined)} bytes of vectors of dimension {dim}")
    return np.frombuffer(joined, np.float32).reshape(len(rows), dim)


def coordinate_rows(connection: sqlite3.Connection) -> list[tuple[bytes, str, str, str, str]]:
    """Id, tenant, namespace, type and coordinate of every live row of the old service's coordinate collections."""
    return connection.execute(
        "SELECT id, tenant, namespace, memory_type, coordinate FROM memories WHERE deleted = 0 AND collection = ?",
        (int(Collection.COORDINATES),),
    ).fetchall()


def facts(connection: sqlite3.Connection) -> dict[str, str]:
    """What the ledger remembers about itself: vector dimension, embedding revision."""
    return dict(connection.execute("SELECT key, value FROM facts").fetchall())


def half_visible(connection: sqlite3.Connection) -> dict[str, int]:
    """What a crash must never leave: counts of records without vector, words or outbox row, and of orphans of each."""
    queries = {
        "record_without_vector": (
            "SELECT count(*) FROM memories m LEFT JOIN vectors v USING (row)"
            " WHERE m.deleted = 0 AND m.collection = 0 AND v.row IS NULL"
        ),
        "vector_without_record": (
            "SELECT count(*) FROM vectors v LEFT JOIN memories m USING (row) WHERE m.row IS NULL OR m.deleted = 1"
        ),
        "record_without_outbox": (
            "SELECT count(*) FROM memories m LEFT JOIN outbox o ON o.seq = m.seq AND o.id = m.id WHERE o.seq IS NULL"
            " AND m.seq >= (SELECT coalesce(min(seq), 0) FROM outbox)"
        ),
        "outbox_without_record": (
            "SELECT count(*) FROM outbox o LEFT JOIN memories m ON m.id = o.id"
            " WHERE o.operation != 'link' AND (m.row IS NULL OR m.version < o.version)"
        ),
        "words_without_record": (
            "SELECT count(*) FROM memories_text_docsize d LEFT JOIN memories m ON m.row = d.id"
            " WHERE m.row IS NULL OR m.text = ''"
        ),
        "record_without_words": (
            "SELECT count(*) FROM memories m LEFT JOIN memories_text_docsize d ON d.id = m.row"
            " WHERE m.deleted = 0 AND m.text != '' AND d.id IS NULL"
        ),
    }
    return {name: int(connection.execute(sql).fetchone()[0]) for name, sql in queries.items()}
