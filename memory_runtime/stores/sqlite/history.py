"""Superseded versions in the ledger file: kept where a memory is stored again, read for a past moment, swept."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores.history import COPIED, Past, past_of, selected, superseded
from memory_runtime.stores.rows import COLUMNS, record
from memory_runtime.stores.sqlite.filters import conditions

_NAMES: Final = ", ".join(COPIED)
_KEEP: Final = (
    f"INSERT INTO memory_versions ({_NAMES}, vector, superseded_at)"  # noqa: S608
    f" SELECT {_NAMES}, vector, ? FROM memories LEFT JOIN vectors USING (row) WHERE row = ? AND collection = 0"
)


def keep(connection: sqlite3.Connection, row: int, at: float) -> None:
    """Keeps the version that the row holds, before the next one is written over it."""
    connection.execute(_KEEP, (at, row))


def erase(connection: sqlite3.Connection, identity: bytes) -> None:
    """Leaves nothing of what the memory was."""
    connection.execute("DELETE FROM memory_versions WHERE id = ?", (identity,))


def past(
    connection: sqlite3.Connection,
    scope: Scope,
    at: float,
    *,
    memory_type: str | None = None,
    filters: Mapping[str, Any] | None = None,
    coordinate: Coordinate | None = None,
    payloads: bool = True,
) -> Past:
    """What counted at `at` in the scope, where that is not what counts now."""
    tests, bound = conditions(filters or {})
    where, values = ["m.tenant = ?", "m.namespace = ?", "m.superseded_at > ?"], [scope.tenant, scope.namespace, at]
    if memory_type is not None:
        where.append("m.memory_type = ?")
        values.append(memory_type)
    if coordinate is not None:
        where.append("m.coordinate = ?")
        values.append(canonical_coordinate(coordinate))
    # the filters' conditions name columns without a table: there must be only one to mean
    current = "(SELECT c.event_time FROM memories c WHERE c.id = m.id AND c.deleted = 0)"
    sql = (
        f"SELECT {selected(_named, payloads=payloads)}, m.vector, {' AND '.join(tests) or '1'}, {current}"  # noqa: S608
        f" FROM memory_versions m WHERE {' AND '.join(where)}"
    )
    return past_of(superseded(connection.execute(sql, (*bound, *values))), at)


def superseded_since(connection: sqlite3.Connection, scope: Scope, at: float) -> int:
    """How many versions of the scope were superseded after `at`."""
    sql = "SELECT count(*) FROM memory_versions WHERE tenant = ? AND namespace = ? AND superseded_at > ?"
    return int(connection.execute(sql, (scope.tenant, scope.namespace, at)).fetchone()[0])


def versions(connection: sqlite3.Connection, wanted: Sequence[tuple[bytes, int]]) -> dict[bytes, MemoryRecord]:
    """Superseded versions by id and number."""
    sql = f"SELECT {_named(COLUMNS)} FROM memory_versions m WHERE id = ? AND version = ?"  # noqa: S608
    found = (connection.execute(sql, one).fetchone() for one in wanted)
    return {one[0]: record(one) for one in found if one is not None}


def _named(columns: Sequence[str]) -> str:
    return ", ".join(f"m.{name}" for name in columns)


def sweep(connection: sqlite3.Connection, before: float, most: int) -> int:
    """Forgets versions superseded before that moment, all but the last `most` of each memory; returns how many."""
    return connection.execute(
        "DELETE FROM memory_versions WHERE superseded_at < ? OR (id, version) IN (SELECT id, version FROM (SELECT"
        " id, version, row_number() OVER (PARTITION BY id ORDER BY version DESC) AS age FROM memory_versions)"
        " WHERE age > ?)"
        " OR NOT EXISTS (SELECT 1 FROM memories m WHERE m.id = memory_versions.id AND m.deleted = 0)",
        (before, most),
    ).rowcount
