"""What followers of the ledger read: the change stream, a scan for an index, counts, and the proof of wholeness."""

from __future__ import annotations

import math
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import Change, Collection, Operation, Rows, TailTrimmed

VectorTable = Literal["vectors", "vectors_next"]


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


_MEMORY = "row, id, tenant, namespace, memory_type, importance_norm, event_time, expires_at, features"
_IDS_AT_ONCE = 500


def scan(connection: sqlite3.Connection, dim: int, batch: int, table: VectorTable = "vectors") -> Iterator[Rows]:
    """All live memories with a vector, in batches of at most `batch`, inside one view of the database.

    Raises sqlite3.DatabaseError when a vector has another dimension or is missing: then the file is damaged. In
    `vectors_next` (see `reembedding`) vectors may be missing: those memories are left out.
    """
    connection.execute("BEGIN")
    try:
        yield from batches(connection, dim, batch, table)
    finally:
        connection.execute("COMMIT")


def batches(connection: sqlite3.Connection, dim: int, batch: int, table: VectorTable = "vectors") -> Iterator[Rows]:
    """`scan`, inside whatever view the connection has."""
    last = 0
    made = "" if table == "vectors" else f" AND EXISTS (SELECT 1 FROM {table} v WHERE v.row = memories.row)"  # noqa: S608
    sql = f"SELECT {_MEMORY} FROM memories WHERE row > ? AND deleted = 0 AND collection = 0{made} ORDER BY row LIMIT ?"  # noqa: S608
    while found := connection.execute(sql, (last, batch)).fetchall():
        yield _rows(connection, found, dim, table)
        last = found[-1][0]


def some(connection: sqlite3.Connection, ids: Sequence[bytes], dim: int) -> Iterator[Rows]:
    """The live memories among these ids, as `scan` gives them."""
    for start in range(0, len(ids), _IDS_AT_ONCE):
        part = ids[start : start + _IDS_AT_ONCE]
        marks = ",".join("?" * len(part))
        sql = f"SELECT {_MEMORY} FROM memories WHERE id IN ({marks}) AND deleted = 0 AND collection = 0 ORDER BY row"  # noqa: S608
        found = connection.execute(sql, part).fetchall()
        if found:
            yield _rows(connection, found, dim, "vectors")


def _rows(connection: sqlite3.Connection, found: Sequence[Any], dim: int, table: VectorTable) -> Rows:
    numbers, ids, tenants, namespaces, types, norms, times, expiries, features = zip(*found, strict=True)
    return Rows(
        numbers[-1],
        list(ids),
        list(tenants),
        list(namespaces),
        list(types),
        list(norms),
        list(times),
        [math.inf if expiry is None else expiry for expiry in expiries],
        list(features),
        _vectors(connection, numbers, dim, table),
    )


def _vectors(
    connection: sqlite3.Connection, rows: Sequence[int], dim: int, table: VectorTable
) -> np.ndarray[Any, np.dtype[np.float32]]:
    if rows[-1] - rows[0] < 4 * len(rows):
        sql = f"SELECT row, vector FROM {table} WHERE row BETWEEN ? AND ? ORDER BY row"  # noqa: S608
        found = connection.execute(sql, (rows[0], rows[-1])).fetchall()
    else:
        sql = f"SELECT row, vector FROM {table} WHERE row IN ({','.join('?' * len(rows))}) ORDER BY row"  # noqa: S608
        found = connection.execute(sql, rows).fetchall()
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
