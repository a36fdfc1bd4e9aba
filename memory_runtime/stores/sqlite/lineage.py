"""The lines of this ledger's history: one for each time that the file is opened to be written to.

A file that was restored, or copied, is opened anew, so what is written to it from then on is of a line that no other
copy has. A line in which nothing was written makes way for the next one.
"""

from __future__ import annotations

import sqlite3
import time
import uuid

from memory_runtime.stores.contracts import Lineage
from memory_runtime.stores.lineages import next_epoch
from memory_runtime.stores.values import Facts


def begin(connection: sqlite3.Connection, *, least: int = 0, clone: bool = False) -> str:
    """Begins a line after the newest change, and returns its id.

    `least` is an epoch that this one's must be above; `clone` draws another identity for the ledger too.
    """
    now, mine = time.time(), uuid.uuid4().bytes
    connection.execute("BEGIN IMMEDIATE").close()
    try:
        found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
        seq = int(found[0]) if found else 0
        kept = connection.execute("SELECT value FROM facts WHERE key = ?", (Facts.GENERATION,)).fetchone()
        newest = connection.execute(
            "SELECT lineage, epoch, forked, parent FROM lineages ORDER BY epoch DESC"
        ).fetchone()
        parent, epoch = (newest[0], newest[1]) if newest else (None, 0)
        if newest and newest[2] == seq:
            parent = newest[3]
            connection.execute("DELETE FROM lineages WHERE lineage = ?", (newest[0],)).close()
        connection.execute(
            "INSERT INTO lineages (lineage, parent, epoch, forked, generation, at) VALUES (?, ?, ?, ?, ?, ?)",
            (mine, parent, next_epoch(epoch, now, least), seq, int(kept[0]) if kept else 0, now),
        ).close()
        # drawn with the first line: an identity that a lost future has drawn would be another one after a restore
        where_known = "DO UPDATE SET value = excluded.value" if clone else "DO NOTHING"
        connection.execute(
            f"INSERT INTO facts (key, value) VALUES (?, ?) ON CONFLICT (key) {where_known}",  # noqa: S608 -- literals
            (Facts.IDENTITY, str(uuid.uuid4())),
        ).close()
        connection.execute("COMMIT").close()
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK").close()
        raise
    return mine.hex()


def chain(connection: sqlite3.Connection) -> list[Lineage]:
    """All lines of the ledger, oldest first."""
    found = connection.execute("SELECT lineage, epoch, forked, generation, parent FROM lineages ORDER BY epoch")
    return [Lineage(one[0].hex(), one[1], one[2], one[3], one[4].hex() if one[4] else "") for one in found]
