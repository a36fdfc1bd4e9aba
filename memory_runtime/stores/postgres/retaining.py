"""What retention reads: slices of measured rows, whole records with their links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memory_runtime.model.records import Edge, MemoryRecord, Scope
from memory_runtime.stores.postgres.graph import step
from memory_runtime.stores.postgres.reading import COLUMNS, with_vectors
from memory_runtime.stores.postgres.session import Bound, Session
from memory_runtime.stores.rows import record
from memory_runtime.stores.values import ROW_OVERHEAD, Kept, Measured, Slice


def measure(session: Session, after: int, limit: int, dim: int, scope: Scope | None = None) -> Slice:
    """The next `limit` live memories after row `after`, of one scope or of all."""
    bound = Bound(ROW_OVERHEAD + 4 * dim, after, limit)
    where = ""
    if scope is not None:
        where = f" AND tenant = {bound(scope.tenant)} AND namespace = {bound(scope.namespace)}"
    found = session.rows(
        "SELECT tenant, namespace, row, importance_norm, access_time, access_count,"  # noqa: S608 -- placeholders only
        " octet_length(payload)::bigint + octet_length(text) + coalesce(length(features), 0) + $1,"
        " ingest_time, (pinned OR hold)::int, (expires_at IS NOT NULL)::int"
        f" FROM memories WHERE row > $2 AND NOT deleted AND collection = 0{where} ORDER BY row LIMIT $3",
        *bound.values,
    )
    by_scope: dict[Scope, list[Measured]] = {}
    named: dict[tuple[str, str], Scope] = {}
    for tenant, namespace, *measured in found:
        one = named.get((tenant, namespace)) or named.setdefault((tenant, namespace), Scope(tenant, namespace))
        by_scope.setdefault(one, []).append(tuple(measured))
    return Slice(by_scope, found[-1][2] if found and len(found) == limit else None, len(found))


def kept(session: Session, rows: Sequence[int]) -> list[Kept]:
    """Those of the rows that are alive and may go, whole, in order of id."""
    sql = (
        "SELECT id, row FROM memories WHERE row = ANY($1::bigint[]) AND NOT deleted AND NOT pinned AND NOT hold"
        " ORDER BY id"
    )
    found = session.rows(sql, list(rows))
    records = with_vectors(session, [one[0] for one in found])
    whole = [(records[one[0].bytes], one[1]) for one in found if one[0].bytes in records]
    edges = _edges(session, [one for one, _ in whole])
    return [Kept(one, _links(edges, one), row) for one, row in whole]


def described(session: Session, rows: Sequence[int]) -> dict[int, MemoryRecord]:
    """The records of these rows, by row, without vectors."""
    sql = f"SELECT {COLUMNS}, m.row FROM memories m WHERE m.row = ANY($1::bigint[]) AND NOT m.deleted"  # noqa: S608
    return {found[-1]: record(found) for found in session.rows(sql, list(rows))}


def ids_of(session: Session, rows: Sequence[int]) -> list[bytes]:
    """The ids of these rows, in their order."""
    found = {
        one[0]: one[1]
        for one in session.rows("SELECT row, uuid_send(id) FROM memories WHERE row = ANY($1::bigint[])", list(rows))
    }
    return [found[row] for row in rows if row in found]


_Edges = dict[tuple[str, str, str, str], list[Any]]


def _edges(session: Session, records: Sequence[MemoryRecord]) -> _Edges:
    """The edges from and to the records' coordinates: by tenant, namespace, end and coordinate."""
    places = sorted({one.coordinate_text for one in records})
    found: _Edges = {}
    for end in ("source", "target") if places else ():
        sql = (
            "SELECT tenant, namespace, source, target, link_type, weight, metadata FROM edges"  # noqa: S608
            f" WHERE {end} = ANY($1::text[]) ORDER BY source, link_type, target"
        )
        for one in session.rows(sql, places):
            found.setdefault((one[0], one[1], end, one[end]), []).append(tuple(one[2:]))
    return found


def _links(edges: _Edges, one: MemoryRecord) -> list[Edge]:
    place = one.coordinate_text
    both = [row for end in ("source", "target") for row in edges.get((one.tenant, one.namespace, end, place), ())]
    return [step(row).edge() for row in dict.fromkeys(both)]
