"""What a unit does inside the writer's transaction: all of it on the writer's thread, between BEGIN and COMMIT."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Sequence
from typing import Any

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import canonical_coordinate
from memory_runtime.model.errors import Conflict, NotFound
from memory_runtime.stores.contracts import (
    Applied,
    AuditEntry,
    Committed,
    Delete,
    IdempotencyKey,
    Link,
    NormaliserFactory,
    NormaliserState,
    Operation,
    Put,
    Receipt,
    Unit,
)
from memory_runtime.stores.sqlite import fts

NEUTRAL_IMPORTANCE = 1.0
"""The i of a memory stored without importance: nothing is taken from its score."""


class Transaction:
    """The open transaction of a group: its connection, what it changed, and the normalisers it moved."""

    def __init__(
        self, connection: sqlite3.Connection, factory: NormaliserFactory, normalisers: dict[str, NormaliserState]
    ) -> None:
        """`normalisers` is the writer's cache, which it must empty when a group is not committed."""
        self.connection = connection
        self.applied: list[Applied] = []
        self._factory = factory
        self._normalisers = normalisers
        self._moved: set[str] = set()

    def run(self, unit: Unit) -> Committed:
        """Runs a unit whole or not at all: a refusal undoes only this unit, and the group goes on."""
        mark = len(self.applied)
        self.connection.execute("SAVEPOINT unit")
        try:
            committed = self._run(unit)
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO unit")
                self.connection.execute("RELEASE unit")
            del self.applied[mark:]
            raise
        self.connection.execute("RELEASE unit")
        return committed

    def _run(self, unit: Unit) -> Committed:
        if unit.idempotency is not None:
            reply = find_reply(self.connection, unit.idempotency)
            if reply is not None:
                return Committed(reply, replayed=True)
        receipts = tuple(self._write(write) for write in unit.writes)
        if unit.idempotency is not None:
            _keep_reply(self.connection, unit.idempotency, receipts)
        append_audit(self.connection, unit.audit)
        return Committed(receipts)

    def _write(self, write: Put | Delete | Link) -> Receipt:
        norm = NEUTRAL_IMPORTANCE
        if isinstance(write, Put):
            norm, version = self._normalise(write.scope.tenant, write.importance)
            receipt = _put(self.connection, write, norm, version)
        elif isinstance(write, Delete):
            receipt = _delete(self.connection, write)
        else:
            receipt = _link(self.connection, write)
        if receipt.changed:
            self.applied.append(Applied(write, receipt, norm))
        return receipt

    def restore(self, put: Put, norm: float, normaliser_version: int, accessed: tuple[float, int]) -> Receipt:
        """Writes an archived memory as it was: i and accesses (last time, count) are given, no normaliser is asked."""
        receipt = _put(self.connection, put, norm, normaliser_version)
        self.connection.execute(
            "UPDATE memories SET access_time=?, access_count=? WHERE id=?", (*accessed, put.id.bytes)
        )
        self.applied.append(Applied(put, receipt, norm))
        return receipt

    def _normalise(self, tenant: str, raw: float | None) -> tuple[float, int]:
        if raw is None:
            return NEUTRAL_IMPORTANCE, 0
        self._moved.add(tenant)
        return self.normaliser(tenant).observe(raw)

    def normaliser(self, tenant: str) -> NormaliserState:
        """The tenant's normaliser, as of everything before in this group."""
        state = self._normalisers.get(tenant)
        if state is None:
            row = self.connection.execute("SELECT state FROM normalisers WHERE tenant = ?", (tenant,)).fetchone()
            state = self._normalisers[tenant] = self._factory(row[0] if row else None)
        return state

    def replace_normaliser(self, tenant: str, state: str) -> None:
        """Puts another normaliser (dumped) in its place: what is stored from here on gets its i from that one."""
        self._normalisers[tenant] = self._factory(state)
        self._moved.add(tenant)

    def seal(self) -> None:
        """Writes the normalisers that moved; called once a group, before its COMMIT."""
        for tenant in sorted(self._moved):
            state = self._normalisers[tenant]
            self.connection.execute(
                "INSERT OR REPLACE INTO normalisers (tenant, version, state) VALUES (?, ?, ?)",
                (tenant, state.version, state.dumps()),
            )


def find_reply(connection: sqlite3.Connection, key: IdempotencyKey) -> tuple[Receipt, ...] | None:
    """The reply that this key was given before. Raises Conflict when it stood for another body."""
    row = connection.execute(
        "SELECT body_hash, reply FROM idempotency WHERE tenant = ? AND namespace = ? AND operation = ? AND key = ?",
        (key.scope.tenant, key.scope.namespace, key.operation, key.key),
    ).fetchone()
    if row is None:
        return None
    if row[0] != key.body_hash:
        raise Conflict(
            "the idempotency key was used before with another body",
            field="idempotency_key",
            remedy="send the first body again, or a new key",
        )
    return tuple(
        Receipt(uuid.UUID(hex=found[0]), found[1], found[2], created=found[3], changed=found[4])
        for found in json.loads(row[1])
    )


def _keep_reply(connection: sqlite3.Connection, key: IdempotencyKey, receipts: Sequence[Receipt]) -> None:
    reply = json.dumps([[r.id.hex, r.version, r.seq, r.created, r.changed] for r in receipts], separators=(",", ":"))
    connection.execute(
        "INSERT INTO idempotency (tenant, namespace, operation, key, body_hash, reply, at) VALUES (?,?,?,?,?,?,?)",
        (key.scope.tenant, key.scope.namespace, key.operation, key.key, key.body_hash, reply, key.at),
    )


def _outbox(connection: sqlite3.Connection, operation: Operation, values: tuple[Any, ...]) -> int:
    cursor = connection.execute(
        "INSERT INTO outbox"
        " (operation, id, collection, tenant, namespace, memory_type, version, at, previous_seq, payload)"
        " VALUES (?,?,?,?,?,?,?,?,?,?)",
        (operation.value, *values),
    )
    return int(cursor.lastrowid or 0)


_INSERT = (
    "INSERT INTO memories (id, collection, tenant, namespace, memory_type, coordinate, coordinate_first,"
    " importance_raw, importance_norm, normaliser_version, event_time, ingest_time, expires_at, pinned, hold,"
    " model_revision, features, payload, text, version, seq, access_time, access_count, deleted)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,0,0)"
)
_UPDATE = (
    "UPDATE memories SET importance_raw=?, importance_norm=?, normaliser_version=?, event_time=?, ingest_time=?,"
    " expires_at=?, pinned=?, hold=max(hold * (deleted = 0), ?), model_revision=?, features=?, payload=?, text=?,"
    " version=?, seq=?,"
    " access_time=max(access_time * (deleted = 0), ?), access_count=access_count * (deleted = 0), deleted=0 WHERE row=?"
)


def _put(connection: sqlite3.Connection, put: Put, norm: float, normaliser_version: int) -> Receipt:
    identity = put.id.bytes
    scope = (int(put.collection), put.scope.tenant, put.scope.namespace, put.memory_type)
    found = connection.execute(
        "SELECT row, version, seq, deleted, text FROM memories WHERE id = ?", (identity,)
    ).fetchone()
    version = found[1] + 1 if found else 1
    previous = found[2] if found else None
    seq = _outbox(connection, Operation.PUT, (identity, *scope, version, put.ingest_time, previous, put.payload))
    content = (
        put.importance,
        norm,
        normaliser_version,
        put.event_time,
        put.ingest_time,
        put.expires_at,
        int(put.pinned),
        int(put.hold),
        put.model_revision,
        canonical_json(dict(put.features), field="features") if put.features else None,
        put.payload,
        put.search_text,
        version,
        seq,
        put.ingest_time,
    )
    if found is None:
        first = float(put.coordinate.partition(",")[0])
        cursor = connection.execute(_INSERT, (identity, *scope, put.coordinate, first, *content))
        row = int(cursor.lastrowid or 0)
    else:
        row = found[0]
        fts.forget(connection, row, found[4])
        connection.execute(_UPDATE, (*content, row))
    if put.vector is not None:
        connection.execute("INSERT OR REPLACE INTO vectors (row, vector) VALUES (?, ?)", (row, put.vector.tobytes()))
    fts.learn(connection, row, put.search_text)
    return Receipt(put.id, version, seq, created=found is None or bool(found[3]), changed=True)


def _delete(connection: sqlite3.Connection, delete: Delete) -> Receipt:
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
    scope = (collection, tenant, namespace, memory_type)
    seq = _outbox(connection, Operation.DELETE, (identity, *scope, version + 1, delete.at, previous, None))
    fts.forget(connection, row, text)
    connection.execute("DELETE FROM vectors WHERE row = ?", (row,))
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


def _link(connection: sqlite3.Connection, link: Link) -> Receipt:
    tenant, namespace = link.scope.tenant, link.scope.namespace
    source, target = canonical_coordinate(link.edge.source), canonical_coordinate(link.edge.target)
    for field, coordinate in (("from_coord", source), ("to_coord", target)):
        if not _lives(connection, tenant, namespace, coordinate):
            raise NotFound(f"{field}: no memory at {coordinate}", field=field, remedy="store the memory, then link it")
    body = {
        "from": source,
        "to": target,
        "link_type": link.edge.link_type,
        "weight": link.edge.weight,
        "metadata": link.edge.metadata,
    }
    identity = uuid.uuid5(uuid.NAMESPACE_OID, "\x1f".join((tenant, namespace, source, link.edge.link_type, target)))
    values = (identity.bytes, 0, tenant, namespace, link.edge.link_type, 1, link.at, None, canonical_json(body))
    seq = _outbox(connection, Operation.LINK, values)
    connection.execute(
        "INSERT OR REPLACE INTO edges (tenant, namespace, source, link_type, target, weight, metadata, at, seq)"
        " VALUES (?,?,?,?,?,?,?,?,?)",
        (
            tenant,
            namespace,
            source,
            link.edge.link_type,
            target,
            link.edge.weight,
            canonical_json(link.edge.metadata),
            link.at,
            seq,
        ),
    )
    return Receipt(identity, 1, seq, created=True, changed=True)


def append_audit(connection: sqlite3.Connection, entries: Sequence[AuditEntry]) -> None:
    """Appends to the audit chain: each line's hash covers the line before, so that none can be taken out unseen."""
    if not entries:
        return
    last = connection.execute("SELECT hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    previous = last[0] if last else ""
    for entry in entries:
        detail = canonical_json(dict(entry.detail), field="audit")
        line = "\x1f".join((previous, repr(entry.at), entry.tenant, entry.actor, entry.action, entry.subject, detail))
        digest = hashlib.sha256(line.encode()).hexdigest()
        connection.execute(
            "INSERT INTO audit (at, tenant, actor, action, subject, detail, previous_hash, hash)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (entry.at, entry.tenant, entry.actor, entry.action, entry.subject, detail, previous, digest),
        )
        previous = digest
