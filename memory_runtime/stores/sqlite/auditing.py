"""Reads the audit chain of a ledger file, also while a server has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from memory_runtime.model.errors import NotFound
from memory_runtime.stores.audit import AuditLine
from memory_runtime.stores.sqlite import opening

BATCH: Final = 5000
_COLUMNS: Final = "number, at, tenant, actor, action, subject, detail, previous_hash, hash"


def some(connection: sqlite3.Connection, after: int, limit: int) -> list[AuditLine]:
    """At most `limit` lines with numbers above `after`, in order; a negative limit is none."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM audit WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608 -- a constant
        (after, limit),
    )
    return list(map(AuditLine._make, found))


def head(connection: sqlite3.Connection) -> int:
    """The last line's number; 0 where there is none."""
    return int(connection.execute("SELECT coalesce(max(number), 0) FROM audit").fetchone()[0])


def lines(path: Path, after: int = 0) -> Iterator[AuditLine]:
    """The lines with numbers above `after`, in order. Raises NotFound where there is no ledger, Unavailable where it
    cannot be read.
    """
    if not path.exists():
        raise NotFound(f"there is no ledger at {path}", field="data_dir", remedy="name the server's data directory")
    try:
        with closing(opening.connect(path, writer=False)) as connection:
            while found := some(connection, after, BATCH):
                yield from found
                after = found[-1].number
    except opening.Failures as error:
        raise opening.in_words(error) from error
