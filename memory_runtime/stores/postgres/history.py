"""Superseded versions in PostgreSQL: kept by the statement that writes the next one, read for a past moment, swept."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores.history import COPIED, Past, past_of, selected, superseded
from memory_runtime.stores.postgres.filters import conditions, storable
from memory_runtime.stores.postgres.following import named
from memory_runtime.stores.postgres.session import Bound, Session
from memory_runtime.stores.postgres.states import Erased, Replaced, Work
from memory_runtime.stores.rows import COLUMNS, record

if TYPE_CHECKING:
    from memory_runtime.stores.postgres.flushing import Batch

_NAMES: Final = ", ".join((*COPIED, "fields"))
_TYPES: Final = {
    "id": "uuid",
    "version": "bigint",
    "collection": "smallint",
    "tenant": "text",
    "namespace": "text",
    "memory_type": "text",
    "coordinate": "text",
    "coordinate_first": "float8",
    "importance_raw": "float8",
    "importance_norm": "float8",
    "normaliser_version": "bigint",
    "event_time": "float8",
    "ingest_time": "float8",
    "access_time": "float8",
    "access_count": "bigint",
    "features": "text",
    "model_revision": "text",
    "pinned": "boolean",
    "hold": "boolean",
    "expires_at": "float8",
    "seq": "bigint",
    "payload": "text",
    "fields": "jsonb",
    "vector": "bytea",
    "superseded_at": "float8",
}


def flush(batch: Batch, work: Work) -> None:
    """Keeps what the group has superseded and erases what it has deleted.

    The parts of a statement see one moment: the rows as they were before the part that writes over them.
    """
    rows: dict[uuid.UUID, float] = {}
    states: list[Replaced] = []
    erased: dict[uuid.UUID, None] = {}
    for one in work.past:
        if isinstance(one, Erased):
            rows.pop(one.id, None)
            states = [kept for kept in states if kept.id != one.id]
            erased[one.id] = None
        elif one.state is None:
            rows[one.id] = one.at
        else:
            states.append(one)
    if rows:
        ids, times = batch.bound(list(rows)), batch.bound(list(rows.values()))
        names = ", ".join(f"m.{name}" for name in (*COPIED, "fields"))
        batch.add(
            f"INSERT INTO memory_versions ({_NAMES}, vector, superseded_at) SELECT {names}, v.vector, x.at"  # noqa: S608
            f" FROM unnest({ids}::uuid[], {times}::float8[]) x(id, at) JOIN memories m ON m.id = x.id"
            " LEFT JOIN vectors v USING (row) WHERE NOT m.deleted AND m.collection = 0"
        )
    batch.insert("memory_versions", _TYPES, [_values(one) for one in states])
    if erased:
        batch.add(f"DELETE FROM memory_versions WHERE id = ANY({batch.bound(list(erased))}::uuid[])")  # noqa: S608


def _values(one: Replaced) -> tuple[Any, ...]:
    state = one.state
    assert state is not None  # noqa: S101
    told = {
        "coordinate_first": float(state.coordinate.partition(",")[0]),
        "fields": storable(state.payload),
        "superseded_at": one.at,
    }
    return tuple(told[name] if name in told else getattr(state, name) for name in _TYPES)


def past(
    session: Session,
    scope: Scope,
    at: float,
    *,
    memory_type: str | None = None,
    filters: Mapping[str, Any] | None = None,
    coordinate: Coordinate | None = None,
    payloads: bool = True,
) -> Past:
    """What counted at `at` in the scope, where that is not what counts now."""
    bound = Bound()
    tests = conditions(bound, filters or {})
    where = [
        f"m.tenant = {bound(scope.tenant)}",
        f"m.namespace = {bound(scope.namespace)}",
        f"m.superseded_at > {bound(at)}",
    ]
    if memory_type is not None:
        where.append(f"m.memory_type = {bound(memory_type)}")
    if coordinate is not None:
        where.append(f"m.coordinate = {bound(canonical_coordinate(coordinate))}")
    sql = (
        f"SELECT {selected(named, payloads=payloads)}, m.vector, {' AND '.join(tests) or 'TRUE'}, c.event_time"  # noqa: S608
        f" FROM memory_versions m JOIN memories c ON c.id = m.id AND NOT c.deleted WHERE {' AND '.join(where)}"
    )
    return past_of(superseded(session.rows(sql, *bound.values)), at)


def superseded_since(session: Session, scope: Scope, at: float) -> int:
    """How many versions of the scope were superseded after `at`."""
    sql = "SELECT count(*) FROM memory_versions WHERE tenant = $1 AND namespace = $2 AND superseded_at > $3"
    return int(session.value(sql, scope.tenant, scope.namespace, at))


def versions(session: Session, wanted: Sequence[tuple[bytes, int]]) -> dict[bytes, MemoryRecord]:
    """Superseded versions by id and number."""
    found = session.rows(
        f"SELECT {named(COLUMNS)} FROM memory_versions m"  # noqa: S608
        " JOIN unnest($1::uuid[], $2::bigint[]) x(id, version) ON m.id = x.id AND m.version = x.version",
        [uuid.UUID(bytes=identity) for identity, _ in wanted],
        [version for _, version in wanted],
    )
    return {one[0]: record(one) for one in found}


def sweep(session: Session, before: float, most: int) -> int:
    """Forgets versions superseded before that moment, all but the last `most` of each memory; returns how many."""
    return session.do(
        "DELETE FROM memory_versions v WHERE v.superseded_at < $1 OR (v.id, v.version) IN (SELECT id, version FROM"
        " (SELECT id, version, row_number() OVER (PARTITION BY id ORDER BY version DESC) AS age FROM memory_versions) a"
        " WHERE a.age > $2) OR NOT EXISTS (SELECT 1 FROM memories m WHERE m.id = v.id AND NOT m.deleted)",
        before,
        most,
    )
