"""What a write does to the rows of the ledger file, and what it leaves in the outbox, the graph and the audit chain."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import canonical_coordinate
from memory_runtime.model.errors import Conflict, NotFound
from memory_runtime.model.records import Scope
from memory_runtime.stores.audit import line_hash
from memory_runtime.stores.contracts import AuditEntry, Delete, Link, Operation, OriginVersion, Put, Receipt
from memory_runtime.stores.lineages import abandoned
from memory_runtime.stores.link_body import link_body
from memory_runtime.stores.sqlite import arriving, fts, history

_AT_ONCE: Final = 500


def there(connection: sqlite3.Connection, ids: Sequence[bytes]) -> set[bytes]:
    """Those of the ids that have a row, of a deleted memory too."""
    found: set[bytes] = set()
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        marks = ",".join("?" * len(part))
        sql = f"SELECT id FROM memories WHERE id IN ({marks})"  # noqa: S608 -- only marks
        found.update(one for (one,) in connection.execute(sql, part))
    return found


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A row of the outbox before it has its seq."""

    operation: Operation
    id: bytes
    collection: int
    scope: Scope
    memory_type: str
    version: int
    at: float
    previous_seq: int | None
    payload: str | None
    created: bool = False
    coordinate: str = ""
    event_time: float | None = None
    importance: float | None = None
    model_revision: str = ""


class Source(NamedTuple):
    """Whose change it is, and the token of the group that it is committed with."""

    origin: str
    trace: str
    history: bytes


def newest_of_origin(connection: sqlite3.Connection, told: OriginVersion) -> bool:
    """Whether no such version was told of before, nor is it of an abandoned future; from here on this one was."""
    if told.epoch or told.seq:
        known = connection.execute("SELECT epoch, forked FROM origin_lineages WHERE origin = ?", (told.origin,))
        if abandoned(known, told.epoch, told.seq):
            return False
    if told.epoch:
        connection.execute(
            "INSERT INTO origin_lineages (origin, epoch, forked) VALUES (?,?,?) ON CONFLICT DO NOTHING",
            (told.origin, told.epoch, told.forked),
        )
    moved = connection.execute(
        "INSERT INTO origin_versions (origin, id, version, epoch) VALUES (?,?,?,?) ON CONFLICT (origin, id)"
        " DO UPDATE SET version = excluded.version, epoch = excluded.epoch"
        " WHERE (excluded.epoch, excluded.version) > (origin_versions.epoch, origin_versions.version)",
        (told.origin, told.id.bytes, told.version, told.epoch),
    )
    return moved.rowcount == 1


def _outbox(connection: sqlite3.Connection, row: _Outgoing, source: Source, seq: int) -> None:
    connection.execute(
        "INSERT INTO outbox"
        " (seq, operation, id, collection, tenant, namespace, memory_type, version, at, previous_seq, payload, created,"
        " coordinate, event_time, importance, model_revision, origin, trace, history)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            seq,
            row.operation.value,
            row.id,
            row.collection,
            row.scope.tenant,
            row.scope.namespace,
            row.memory_type,
            row.version,
            row.at,
            row.previous_seq,
            row.payload,
            int(row.created),
            row.coordinate,
            row.event_time,
            row.importance,
            row.model_revision,
            source.origin,
            source.trace,
            source.history,
        ),
    )


FOUND: Final = "SELECT row, version, seq, deleted, text FROM memories WHERE id = ?"
_UPDATE = (
    "UPDATE memories SET importance_raw=?, importance_norm=?, normaliser_version=?, event_time=?, ingest_time=?,"
    " expires_at=?, pinned=?, hold=max(hold * (deleted = 0), ?), model_revision=?, features=?, payload=?, text=?,"
    " version=?, seq=?,"
    " access_time=max(access_time * (deleted = 0), ?), access_count=access_count * (deleted = 0), deleted=0 WHERE row=?"
)


class Content(NamedTuple):
    """What a put writes, but for its place in the order."""

    put: Put
    norm: float
    normaliser_version: int
    features: str | None
    source: Source
    text: str


def _written(content: Content) -> tuple[Any, ...]:
    """The columns that a new row and the next version of an old one have alike, in the order of their statements."""
    put = content.put
    return (
        put.importance,
        content.norm,
        content.normaliser_version,
        put.event_time,
        put.ingest_time,
        put.expires_at,
        int(put.pinned),
        int(put.hold),
        put.model_revision,
        content.features,
        put.payload,
        content.text,
    )


def arrive(connection: sqlite3.Connection, content: Content, seq: int, row: int) -> Receipt:
    """Writes a memory that was never there before."""
    put, source = content.put, content.source
    connection.execute(
        arriving.INSERT,
        (
            seq,
            put.id.bytes,
            int(put.collection),
            put.scope.tenant,
            put.scope.namespace,
            put.memory_type,
            put.coordinate,
            float(put.coordinate.partition(",")[0]),
            *_written(content),
            source.origin,
            source.trace,
            source.history,
            row,
            None if put.vector is None else put.vector.tobytes(),
        ),
    )
    fts.learn(connection, row, content.text)
    return Receipt(put.id, 1, seq, created=True, changed=True)


def content_of(put: Put, norm: float, normaliser_version: int, source: Source) -> Content:
    features = canonical_json(dict(put.features), field="features") if put.features else None
    return Content(put, norm, normaliser_version, features, source, fts.stored(put.search_text))


def put_over(connection: sqlite3.Connection, content: Content, seq: int, found: tuple[Any, ...]) -> Receipt:
    """Writes the next version of a memory that is there, or was: `found` is its row as `FOUND` reads it."""
    put, source = content.put, content.source
    row, version, previous, deleted, text = found
    version += 1
    outgoing = _Outgoing(
        Operation.PUT,
        put.id.bytes,
        int(put.collection),
        put.scope,
        put.memory_type,
        version,
        put.ingest_time,
        previous,
        put.payload,
        bool(deleted),
        put.coordinate,
        put.event_time,
        put.importance,
        put.model_revision,
    )
    _outbox(connection, outgoing, source, seq)
    values = (
        *_written(content),
        version,
        seq,
        put.ingest_time,
    )
    fts.forget(connection, row, text)
    if not deleted:
        history.keep(connection, row, put.ingest_time)
    connection.execute(_UPDATE, (*values, row))
    if put.vector is not None:
        connection.execute("INSERT OR REPLACE INTO vectors (row, vector) VALUES (?, ?)", (row, put.vector.tobytes()))
    fts.learn(connection, row, content.text)
    return Receipt(put.id, version, seq, created=bool(deleted), changed=True)


def delete(connection: sqlite3.Connection, delete: Delete, source: Source, next_seq: Callable[[], int]) -> Receipt:
    identity = delete.id.bytes
    found = connection.execute(
        "SELECT row, version, seq, deleted, text, hold, collection, tenant, namespace, memory_type, coordinate,"
        " pinned, expires_at FROM memories WHERE id = ?",
        (identity,),
    ).fetchone()
    if found is None or found[3]:
        return Receipt(delete.id, found[1] if found else 0, found[2] if found else 0, created=False, changed=False)
    row, version, previous, _, text, hold, collection, tenant, namespace, memory_type, coordinate, pinned, expiry = (
        found
    )
    if delete.expired_before is not None and (hold or pinned or expiry is None or expiry > delete.expired_before):
        return Receipt(delete.id, version, previous, created=False, changed=False)
    if hold:
        raise Conflict(
            "the memory is under a legal hold", field="hold", remedy="end the hold first: soma retention hold --end"
        )
    outgoing = _Outgoing(
        Operation.DELETE,
        identity,
        collection,
        Scope(tenant, namespace),
        memory_type,
        version + 1,
        delete.at,
        previous,
        None,
        coordinate=coordinate,
    )
    seq = next_seq()
    _outbox(connection, outgoing, source, seq)
    fts.forget(connection, row, text)
    connection.execute("DELETE FROM vectors WHERE row = ?", (row,))
    history.erase(connection, identity)
    connection.execute(
        "UPDATE memories SET deleted=1, payload='null', text='', features=NULL, version=?, seq=? WHERE row=?",
        (version + 1, seq, row),
    )
    _erase_from_outbox(connection, previous)
    _drop_edges(connection, tenant, namespace, coordinate)
    return Receipt(delete.id, version + 1, seq, created=False, changed=True)


def _erase_from_outbox(connection: sqlite3.Connection, seq: int | None) -> None:
    """Follows the memory's earlier changes: what was deleted must not be readable from the stream either."""
    while seq is not None:
        found = connection.execute(
            "UPDATE outbox SET payload = NULL WHERE seq = ? RETURNING previous_seq, operation", (seq,)
        ).fetchone()
        seq = found[0] if found and found[1] != Operation.DELETE else None


def _drop_edges(connection: sqlite3.Connection, tenant: str, namespace: str, coordinate: str) -> None:
    if not _lives(connection, tenant, namespace, coordinate):
        where = (tenant, namespace, coordinate)
        connection.execute("DELETE FROM edges WHERE tenant=? AND namespace=? AND source=?", where)
        connection.execute("DELETE FROM edges WHERE tenant=? AND namespace=? AND target=?", where)


def _lives(connection: sqlite3.Connection, tenant: str, namespace: str, coordinate: str) -> bool:
    first = float(coordinate.partition(",")[0])
    found = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM memories WHERE tenant=? AND namespace=? AND collection=0 AND coordinate_first=?"
        " AND coordinate=? AND deleted=0)",
        (tenant, namespace, first, coordinate),
    ).fetchone()
    return bool(found[0])


def link(connection: sqlite3.Connection, link: Link, source_of: Source, next_seq: Callable[[], int]) -> Receipt:
    tenant, namespace = link.scope.tenant, link.scope.namespace
    source, target = canonical_coordinate(link.edge.source), canonical_coordinate(link.edge.target)
    for field, coordinate in (("from_coord", source), ("to_coord", target)):
        if link.between_memories and not _lives(connection, tenant, namespace, coordinate):
            raise NotFound(f"{field}: no memory at {coordinate}", field=field, remedy="store the memory, then link it")
    kind = link.edge.link_type
    identity = uuid.uuid5(uuid.NAMESPACE_OID, "\x1f".join((tenant, namespace, source, kind, target)))
    outgoing = _Outgoing(Operation.LINK, identity.bytes, 0, link.scope, kind, 1, link.at, None, link_body(link))
    seq = next_seq()
    _outbox(connection, outgoing, source_of, seq)
    key = (tenant, namespace, source, kind, target)
    if link.removed:
        connection.execute(
            "DELETE FROM edges WHERE tenant=? AND namespace=? AND source=? AND link_type=? AND target=?", key
        )
    else:
        connection.execute(
            "INSERT OR REPLACE INTO edges (tenant, namespace, source, link_type, target, weight, metadata, at, seq)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (*key, link.edge.weight, canonical_json(link.edge.metadata), link.at, seq),
        )
    return Receipt(identity, 1, seq, created=not link.removed, changed=True)


def append_audit(connection: sqlite3.Connection, entries: Sequence[AuditEntry]) -> None:
    """Appends to the audit chain: each line's hash covers the line before, so that none can be taken out unseen."""
    if not entries:
        return
    last = connection.execute("SELECT hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    previous = last[0] if last else ""
    for entry in entries:
        detail = canonical_json(dict(entry.detail), field="audit")
        digest = line_hash(previous, entry.at, entry.tenant, entry.actor, entry.action, entry.subject, detail)
        connection.execute(
            "INSERT INTO audit (at, tenant, actor, action, subject, detail, previous_hash, hash)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (entry.at, entry.tenant, entry.actor, entry.action, entry.subject, detail, previous, digest),
        )
        previous = digest
