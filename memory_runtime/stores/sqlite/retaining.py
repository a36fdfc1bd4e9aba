"""What retention reads and writes: slices of measured rows, whole records with their links, a purge that looks again.

Every call is short: the sweep in `engine.retention` decides how many to make.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Sequence
from typing import Any

from memory_runtime.model.coordinates import coordinate_from_canonical
from memory_runtime.model.errors import NotFound
from memory_runtime.model.records import Edge, MemoryRecord, Scope
from memory_runtime.stores.contracts import AuditEntry, Delete, Link, Put, Receipt, Unit
from memory_runtime.stores.sqlite import reading
from memory_runtime.stores.sqlite.writing import Transaction
from memory_runtime.stores.values import ROW_OVERHEAD, Kept, Measured, Restored, Slice


def measure(connection: sqlite3.Connection, after: int, limit: int, dim: int, scope: Scope | None = None) -> Slice:
    """The next `limit` live memories after row `after`, of one scope or of all."""
    where, values = "", []
    if scope is not None:
        # the pluses keep the scope's index out of the plan: it would sort the whole scope for every slice
        where, values = " AND +tenant = ? AND +namespace = ?", [scope.tenant, scope.namespace]
    found = connection.execute(
        "SELECT tenant, namespace, row, importance_norm, access_time, access_count,"  # noqa: S608 -- literals only
        " length(CAST(payload AS BLOB)) + length(CAST(text AS BLOB)) + coalesce(length(features), 0) + ?,"
        " ingest_time, pinned OR hold, expires_at IS NOT NULL"
        f" FROM memories WHERE row > ? AND deleted = 0 AND collection = 0{where} ORDER BY row LIMIT ?",
        (ROW_OVERHEAD + 4 * dim, after, *values, limit),
    ).fetchall()
    by_scope: dict[Scope, list[Measured]] = {}
    named: dict[tuple[str, str], Scope] = {}
    for tenant, namespace, *measured in found:
        one = named.get((tenant, namespace)) or named.setdefault((tenant, namespace), Scope(tenant, namespace))
        by_scope.setdefault(one, []).append(tuple(measured))
    return Slice(by_scope, found[-1][2] if len(found) == limit else None, len(found))


def kept(connection: sqlite3.Connection, rows: Sequence[int]) -> list[Kept]:
    """Those of the rows that are alive and may go, whole, in order of id."""
    marks = ",".join("?" * len(rows))
    sql = (
        f"SELECT id, row FROM memories WHERE row IN ({marks}) AND deleted = 0 AND pinned = 0 AND hold = 0"  # noqa: S608
        " ORDER BY id"
    )
    found = connection.execute(sql, list(rows)).fetchall()
    records = [(reading.get(connection, uuid.UUID(bytes=identity)), row) for identity, row in found]
    return [Kept(record, _links(connection, record), row) for record, row in records if record is not None]


def described(connection: sqlite3.Connection, rows: Sequence[int]) -> dict[int, MemoryRecord]:
    """The records of these rows, by row, without vectors."""
    marks = ",".join("?" * len(rows))
    ids = dict(connection.execute(f"SELECT id, row FROM memories WHERE row IN ({marks})", list(rows)))  # noqa: S608
    return {ids[one]: record for one, record in reading.by_ids(connection, list(ids)).items()}


def hold(
    transaction: Transaction, scope: Scope, coordinate: str, memory_type: str | None, held: bool, entry: AuditEntry
) -> int:
    """Sets or ends the legal hold of the live memories at a coordinate; returns how many there are."""
    where, values = "", []
    if memory_type is not None:
        where, values = " AND memory_type = ?", [memory_type]
    first = float(coordinate.partition(",")[0])
    changed = transaction.connection.execute(
        "UPDATE memories SET hold = ? WHERE tenant = ? AND namespace = ? AND collection = 0 AND coordinate_first = ?"  # noqa: S608
        f" AND coordinate = ? AND deleted = 0{where}",
        (int(held), scope.tenant, scope.namespace, first, coordinate, *values),
    ).rowcount
    if changed:
        transaction.run(Unit(audit=[entry]))
    return int(changed)


def ids_of(connection: sqlite3.Connection, rows: Sequence[int]) -> list[bytes]:
    """The ids of these rows."""
    found = (connection.execute("SELECT id FROM memories WHERE row = ?", (row,)).fetchone() for row in rows)
    return [one[0] for one in found if one is not None]


def _links(connection: sqlite3.Connection, record: MemoryRecord) -> list[Edge]:
    place = (record.tenant, record.namespace, record.coordinate_text)
    sql = (
        "SELECT source, target, link_type, weight, metadata FROM edges WHERE tenant = ? AND namespace = ?"
        " AND {end} = ? ORDER BY source, link_type, target"
    )
    found = [row for end in ("source", "target") for row in connection.execute(sql.format(end=end), place)]
    return [
        Edge(coordinate_from_canonical(source), coordinate_from_canonical(target), link_type, weight, json.loads(text))
        for source, target, link_type, weight, text in dict.fromkeys(found)
    ]


def purge(transaction: Transaction, records: Sequence[MemoryRecord], at: float, entry: AuditEntry) -> list[Receipt]:
    """Deletes those of the records that are still as they were archived: stored again, pinned or held means stay.

    The audit line is written in the same unit, with the number that really went.
    """
    writes = []
    for record in records:
        found = transaction.connection.execute(
            "SELECT 1 FROM memories WHERE id = ? AND version = ? AND deleted = 0 AND pinned = 0 AND hold = 0",
            (record.id.bytes, record.version),
        ).fetchone()
        if found is not None:
            writes.append(Delete(record.id, record.scope, record.memory_type, at=at))
    if not writes:
        return []
    line = AuditEntry(
        entry.tenant, entry.actor, entry.action, entry.subject, entry.at, {**entry.detail, "purged": len(writes)}
    )
    return [one for one in transaction.run(Unit(writes, audit=[line])).receipts if one.changed]


def restore(
    transaction: Transaction,
    memories: Sequence[tuple[Put, MemoryRecord, Sequence[Edge]]],
    at: float,
    entry: AuditEntry,
    *,
    over: bool = False,
) -> Restored:
    """Writes archived memories back with the i, times and accesses that they had; what lives is left, unless `over`."""
    restored, edges_of = 0, dict[tuple[object, ...], tuple[Scope, Edge]]()
    for put, record, edges in memories:
        found = transaction.connection.execute(
            "SELECT access_time, access_count, importance_norm, normaliser_version FROM memories"
            " WHERE id = ? AND deleted = 0",
            (put.id.bytes,),
        ).fetchone()
        if found is None:
            accessed = (record.access_time, record.access_count)
            transaction.put_back(put, record.importance_norm, record.normaliser_version, accessed)
            restored += 1
        elif over:
            accessed = (max(record.access_time, found[0]), max(record.access_count, found[1]))
            # the same i is still what that normaliser made
            made_by = found[3] if found[2] == record.importance_norm else record.normaliser_version
            transaction.put_back(put, record.importance_norm, made_by, accessed)
        if found is None or over:
            # a link between two memories of the archive stands with both
            edges_of |= {(put.scope, one.source, one.link_type, one.target): (put.scope, one) for one in edges}
    links = sum(_link_again(transaction, place, edge, at) for place, edge in edges_of.values())
    done = Restored(restored, len(memories) - restored, links)
    detail: dict[str, Any] = {**entry.detail, **done._asdict()}
    transaction.run(Unit(audit=[AuditEntry(entry.tenant, entry.actor, entry.action, entry.subject, entry.at, detail)]))
    return done


def _link_again(transaction: Transaction, scope: Scope, edge: Edge, at: float) -> bool:
    """False where the other end is not there (any more, or yet: it may be in another archive)."""
    try:
        transaction.run(Unit([Link(scope, edge, at, between_memories=True)]))
    except NotFound:
        return False
    return True
