"""Vectors of the next embedding, made beside those in use and put in their place in one commit.

`vectors_next` holds them while they are made; it exists only then. Triggers take a row out of it whenever its memory
gets another vector or is deleted, so what is in it is never stale, and what is missing in it is what is left to do:
that makes the work resumable after any crash.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from memory_runtime.stores.sqlite import arriving
from memory_runtime.stores.sqlite.writing import Transaction
from memory_runtime.stores.values import Facts, Pending

CURRENT: Final = Facts.EMBEDDING
TARGET: Final = Facts.REEMBEDDING_TO
REPLACED: Final = Facts.REEMBEDDED_FROM

_TRIGGERS: Final = {
    "vectors_replaced": (
        "CREATE TRIGGER vectors_replaced AFTER INSERT ON vectors"
        " BEGIN DELETE FROM vectors_next WHERE row = NEW.row; END"
    ),
    "vectors_deleted": (
        "CREATE TRIGGER vectors_deleted AFTER DELETE ON vectors BEGIN DELETE FROM vectors_next WHERE row = OLD.row; END"
    ),
}


def begin(transaction: Transaction, target: str) -> None:
    """Opens the work for a target revision, or goes on with it; what was made for another target is thrown away."""
    connection = transaction.connection
    if _fact(connection, TARGET) == target:
        return
    discard(transaction)
    connection.execute("CREATE TABLE vectors_next (row INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT")
    for trigger in _TRIGGERS.values():
        connection.execute(trigger)
    _remember(connection, TARGET, target)


def discard(transaction: Transaction) -> None:
    """Throws away what was made, if anything was."""
    connection = transaction.connection
    _drop_triggers(connection)
    connection.execute("DROP TABLE IF EXISTS vectors_next")
    connection.execute("DELETE FROM facts WHERE key = ?", (TARGET,))


_MISSING = (
    "memories m JOIN vectors v USING (row) WHERE m.deleted = 0 AND m.collection = 0"
    " AND NOT EXISTS (SELECT 1 FROM vectors_next n WHERE n.row = m.row)"
)


def pending(connection: sqlite3.Connection, after: int, limit: int) -> list[Pending]:
    """The next memories without a next vector, in order of row."""
    columns = "m.row, m.id, m.version, m.model_revision, m.payload, v.vector"
    sql = f"SELECT {columns} FROM {_MISSING} AND m.row > ? ORDER BY m.row LIMIT ?"  # noqa: S608
    return [Pending(*found) for found in connection.execute(sql, (after, limit))]


def progress(connection: sqlite3.Connection) -> tuple[int, int]:
    """(made, of how many). Cost: one pass over both tables' keys."""
    made = connection.execute("SELECT count(*) FROM vectors_next").fetchone()[0]
    return int(made), int(connection.execute("SELECT count(*) FROM vectors").fetchone()[0])


def keep(transaction: Transaction, made: Sequence[tuple[Pending, bytes]]) -> int:
    """Keeps next vectors of memories that have not changed since they were read; returns how many were kept."""
    kept = 0
    for item, vector in made:
        kept += transaction.connection.execute(
            "INSERT OR REPLACE INTO vectors_next (row, vector)"
            " SELECT row, ? FROM memories WHERE row = ? AND version = ? AND deleted = 0",
            (vector, item.row, item.version),
        ).rowcount
    return kept


def swap(transaction: Transaction) -> bool:
    """Puts the next vectors in the place of the old ones; False, and nothing done, while any is missing.

    Renames tables, so it costs the same for any number of memories; `finish` clears up afterwards.
    """
    connection = transaction.connection
    target, replaced = _fact(connection, TARGET), _fact(connection, CURRENT)
    if target is None or connection.execute(f"SELECT EXISTS (SELECT 1 FROM {_MISSING})").fetchone()[0]:  # noqa: S608
        return False
    _drop_triggers(connection)
    arriving.remove(connection)
    connection.execute("DROP TABLE IF EXISTS vectors_old")
    connection.execute("ALTER TABLE vectors RENAME TO vectors_old")
    connection.execute("ALTER TABLE vectors_next RENAME TO vectors")
    arriving.install(connection)
    _remember(connection, CURRENT, target)
    _remember(connection, REPLACED, replaced or "")
    connection.execute("DELETE FROM facts WHERE key = ?", (TARGET,))
    return True


def finish(transaction: Transaction, rows: int) -> bool:
    """Clears up at most `rows` memories after a swap (their revision, the old vector); True once nothing is left."""
    connection = transaction.connection
    current, replaced = _fact(connection, CURRENT), _fact(connection, REPLACED)
    if replaced is None:
        return True
    connection.execute("CREATE TABLE IF NOT EXISTS vectors_old (row INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT")
    old = [found[0] for found in connection.execute("SELECT row FROM vectors_old ORDER BY row LIMIT ?", (rows,))]
    connection.executemany(
        "UPDATE memories SET model_revision = ? WHERE row = ? AND model_revision = ?",
        [(current, row, replaced) for row in old],
    )
    connection.executemany("DELETE FROM vectors_old WHERE row = ?", [(row,) for row in old])
    if len(old) < rows:
        connection.execute("DROP TABLE vectors_old")
        connection.execute("DELETE FROM facts WHERE key = ?", (REPLACED,))
        return True
    return False


def _drop_triggers(connection: sqlite3.Connection) -> None:
    for name in _TRIGGERS:
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")


def _fact(connection: sqlite3.Connection, key: str) -> str | None:
    found = connection.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
    return str(found[0]) if found else None


def _remember(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", (key, value))
