"""What a rebuild of importance reads and writes: raw values, every i of a tenant at once, the i that were before.

`importance_previous` holds the replaced i until the rebuild is confirmed or undone; it exists only then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from memory_runtime.stores.sqlite.writing import Transaction
from memory_runtime.stores.values import Facts

_MINE: Final = "tenant = ? AND collection = 0 AND deleted = 0 AND importance_raw IS NOT NULL"
_MAX_VARIABLES: Final = 500

Map = Callable[[float], float]


def raw_values(connection: sqlite3.Connection, tenant: str, most: int) -> tuple[list[float], int]:
    """At most about `most` raw importances of the tenant's live memories, evenly spread, and how many there are."""
    count = connection.execute(f"SELECT count(*) FROM memories WHERE {_MINE}", (tenant,)).fetchone()[0]  # noqa: S608
    stride = max(1, -(-count // most))
    sql = (
        "SELECT importance_raw FROM (SELECT importance_raw, row_number() OVER (ORDER BY row) AS number"  # noqa: S608
        f" FROM memories WHERE {_MINE}) WHERE number % ? = 0"
    )
    return [found[0] for found in connection.execute(sql, (tenant, stride))], int(count)


def raw_of(connection: sqlite3.Connection, tenant: str, ids: Sequence[bytes]) -> dict[bytes, float]:
    """The raw importances of those of the ids that are the tenant's and have one."""
    found: dict[bytes, float] = {}
    for start in range(0, len(ids), _MAX_VARIABLES):
        part = ids[start : start + _MAX_VARIABLES]
        sql = f"SELECT id, importance_raw FROM memories WHERE id IN ({','.join('?' * len(part))}) AND {_MINE}"  # noqa: S608
        found.update(connection.execute(sql, (*part, tenant)))
    return found


def normaliser_state(connection: sqlite3.Connection, tenant: str) -> str | None:
    """The tenant's normaliser as text."""
    row = connection.execute("SELECT state FROM normalisers WHERE tenant = ?", (tenant,)).fetchone()
    return str(row[0]) if row else None


def rebuild(transaction: Transaction, tenant: str, mapped: Map, version: int) -> int:
    """Gives every memory of the tenant the i of another map, and keeps the i that it had; returns how many."""
    connection = transaction.connection
    connection.execute(
        "CREATE TABLE IF NOT EXISTS importance_previous (row INTEGER PRIMARY KEY, tenant TEXT NOT NULL,"
        " importance_norm REAL NOT NULL, normaliser_version INTEGER NOT NULL, version INTEGER NOT NULL) STRICT"
    )
    connection.execute("DELETE FROM importance_previous WHERE tenant = ?", (tenant,))
    connection.execute(
        "INSERT INTO importance_previous SELECT row, tenant, importance_norm, normaliser_version, version"  # noqa: S608
        f" FROM memories WHERE {_MINE}",
        (tenant,),
    )
    _raise_generation(connection)
    return _map(connection, tenant, mapped, version, "1")


def undo(transaction: Transaction, tenant: str, mapped: Map, version: int, since: int) -> int:
    """Gives back the i that were before; what was stored since version `since` gets that of the former map."""
    connection = transaction.connection
    returned = connection.execute(
        "UPDATE memories SET importance_norm = p.importance_norm, normaliser_version = p.normaliser_version"
        " FROM importance_previous p WHERE p.row = memories.row AND p.tenant = ? AND p.version = memories.version"
        " AND memories.deleted = 0",
        (tenant,),
    ).rowcount
    _map(connection, tenant, mapped, version, f"normaliser_version >= {int(since)}")
    _raise_generation(connection)
    confirm(transaction, tenant)
    return int(returned)


def confirm(transaction: Transaction, tenant: str) -> None:
    """Forgets the i that were before."""
    connection = transaction.connection
    connection.execute("DELETE FROM importance_previous WHERE tenant = ?", (tenant,))
    if connection.execute("SELECT NOT EXISTS (SELECT 1 FROM importance_previous)").fetchone()[0]:
        connection.execute("DROP TABLE importance_previous")


def _map(connection: sqlite3.Connection, tenant: str, mapped: Map, version: int, which: str) -> int:
    connection.create_function("soma_importance", 1, mapped, deterministic=True)
    try:
        return connection.execute(
            "UPDATE memories SET importance_norm = soma_importance(importance_raw), normaliser_version = ?"  # noqa: S608
            f" WHERE {_MINE} AND {which}",
            (version, tenant),
        ).rowcount
    finally:
        connection.create_function("soma_importance", 1, None)


def _raise_generation(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO facts (key, value) VALUES (?, '1')"
        " ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
        (Facts.GENERATION,),
    )
