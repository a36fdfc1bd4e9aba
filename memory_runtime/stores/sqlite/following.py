"""What followers of the ledger read: the change stream, a scan for an index, counts, and the proof of wholeness."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import (
    Applied,
    Change,
    Collection,
    Delete,
    HistoryLost,
    Link,
    Operation,
    Put,
    Receipt,
    Rows,
    TailTrimmed,
    deleted_change,
)
from memory_runtime.stores.link_body import link_of
from memory_runtime.stores.rows import AS_IT_IS, SCANNED, as_it_is, scanned
from memory_runtime.stores.sqlite.opening import Damaged
from memory_runtime.stores.values import CoordinateRow, CountKey, VectorTable

_CHANGE = (
    "seq, operation, id, tenant, namespace, memory_type, version, at, payload, collection, created, coordinate,"
    " event_time, importance, model_revision, origin, trace, history"
)


def tail(connection: sqlite3.Connection, seq: int, limit: int, token: str = "") -> list[Change]:
    """The changes after `seq`. Raises TailTrimmed where some of them are gone.

    Raises HistoryLost for a `seq` that is not there, or is of another group than that of the `token`, if one is given.
    """
    _refuse_trimmed(connection, seq)
    if token:
        known = connection.execute("SELECT history FROM outbox WHERE seq = ?", (seq,)).fetchone()
        if known and known[0] is not None and known[0].hex() != token:
            raise HistoryLost
    sql = f"SELECT {_CHANGE} FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
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
            collection=Collection(found[9]),
            created=bool(found[10]),
            coordinate=found[11],
            event_time=found[12],
            importance=found[13],
            model_revision=found[14],
            origin=found[15],
            trace=found[16],
            history=found[17].hex() if found[17] else "",
        )
        for found in connection.execute(sql, (seq, limit))
    ]


def _refuse_trimmed(connection: sqlite3.Connection, seq: int) -> None:
    first = connection.execute("SELECT min(seq) FROM outbox").fetchone()[0]
    newest = head(connection)
    if seq < newest and (first is None or seq < first - 1):
        raise TailTrimmed
    if seq > newest:
        # the asker followed another ledger, or this one before it was restored
        raise HistoryLost


def head(connection: sqlite3.Connection) -> int:
    """The sequence of the newest change."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    return int(found[0]) if found else 0


def changes(connection: sqlite3.Connection, seq: int, limit: int, dim: int, token: str = "") -> list[Applied]:
    """The changes after `seq` as the index needs them. Raises TailTrimmed, and HistoryLost as `tail` does."""
    found = tail(connection, seq, limit, token)
    puts = [one.id.bytes for one in found if one.operation is Operation.PUT]
    now = _as_they_are(connection, list(dict.fromkeys(puts)), dim)
    return [_applied(one, now.get(one.id.bytes)) for one in found]


def _applied(change: Change, now: tuple[Put, float] | None) -> Applied:
    write: Put | Delete | Link
    norm = 1.0
    if change.operation is Operation.DELETE:
        write = Delete(change.id, change.scope, change.memory_type, change.at, collection=change.collection)
    elif change.operation is Operation.LINK:
        write = link_of(change)
    elif now is not None:
        write, norm = now
    else:
        write = Put(
            id=change.id,
            scope=change.scope,
            memory_type=change.memory_type,
            coordinate=change.coordinate,
            payload="",
            search_text="",
            event_time=change.event_time or 0.0,
            ingest_time=change.at,
            collection=change.collection,
        )
    receipt = Receipt(change.id, change.version, change.seq, created=change.created, changed=True)
    return Applied(write, receipt, norm)


def _as_they_are(connection: sqlite3.Connection, ids: Sequence[bytes], dim: int) -> dict[bytes, tuple[Put, float]]:
    found: dict[bytes, tuple[Put, float]] = {}
    for start in range(0, len(ids), _IDS_AT_ONCE):
        part = ids[start : start + _IDS_AT_ONCE]
        sql = (
            f"SELECT {', '.join(AS_IT_IS)}, vector FROM memories LEFT JOIN vectors USING (row)"  # noqa: S608
            f" WHERE id IN ({','.join('?' * len(part))}) AND deleted = 0"
        )
        for one in connection.execute(sql, part):
            vector = one[-1]
            if vector is not None and len(vector) != 4 * dim:
                raise Damaged(f"a vector has {len(vector)} bytes, not the {4 * dim} of dimension {dim}")
            found[one[0]] = as_it_is(one, vector)
    return found


def sinks(connection: sqlite3.Connection) -> dict[str, int]:
    """How far each sink has come."""
    return dict(connection.execute("SELECT name, seq FROM sinks").fetchall())


def counts(connection: sqlite3.Connection) -> dict[CountKey, int]:
    """Live memories by tenant, namespace, memory type and collection; one pass, done once at the start."""
    sql = (
        "SELECT tenant, namespace, memory_type, collection, count(*) FROM memories WHERE deleted = 0"
        " GROUP BY tenant, namespace, memory_type, collection"
    )
    return {(found[0], found[1], found[2], found[3]): found[4] for found in connection.execute(sql)}


_MEMORY = ", ".join(SCANNED)
_IDS_AT_ONCE = 500


def batches(connection: sqlite3.Connection, dim: int, batch: int, table: VectorTable = "vectors") -> Iterator[Rows]:
    """All live memories with a vector, in batches of at most `batch`, in whatever view the connection has.

    Raises Damaged when a vector has another dimension or is missing: then the file is damaged. In
    `vectors_next` (see `reembedding`) vectors may be missing: those memories are left out.
    """
    last = 0
    made = "" if table == "vectors" else f" AND EXISTS (SELECT 1 FROM {table} v WHERE v.row = memories.row)"  # noqa: S608
    sql = f"SELECT {_MEMORY} FROM memories WHERE row > ? AND deleted = 0 AND collection = 0{made} ORDER BY row LIMIT ?"  # noqa: S608
    while found := connection.execute(sql, (last, batch)).fetchall():
        yield _rows(connection, found, dim, table)
        last = found[-1][0]


def stamps(connection: sqlite3.Connection, after: bytes, limit: int) -> list[tuple[bytes, int]]:
    """(id, seq of the change that wrote it) of the live memories with ids after `after`, in order of id."""
    sql = "SELECT id, seq FROM memories WHERE id > ? AND deleted = 0 AND collection = 0 ORDER BY id LIMIT ?"
    return connection.execute(sql, (after, limit)).fetchall()


def tombstones(connection: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, Change]]:
    """(row, the change that deleted it) of deleted memories with rows after `after`; when it was is not kept."""
    sql = (
        "SELECT row, seq, id, tenant, namespace, memory_type, version, ingest_time, coordinate FROM memories"
        " WHERE row > ? AND deleted = 1 AND collection = 0 ORDER BY row LIMIT ?"
    )
    return [
        (one[0], deleted_change(one[1:], uuid.UUID(bytes=one[2]))) for one in connection.execute(sql, (after, limit))
    ]


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
    return scanned(found, _vectors(connection, [one[0] for one in found], dim, table))


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
        raise Damaged(f"{len(rows)} memories have {len(joined)} bytes of vectors of dimension {dim}")
    return np.frombuffer(joined, np.float32).reshape(len(rows), dim)


def coordinate_rows(connection: sqlite3.Connection) -> list[CoordinateRow]:
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
        "versions_without_record": (
            "SELECT count(*) FROM memory_versions v LEFT JOIN memories m ON m.id = v.id"
            " WHERE m.row IS NULL OR m.deleted = 1"
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
