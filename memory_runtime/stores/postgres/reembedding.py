"""Vectors of the next embedding, made beside those in use and put in their place in one commit.

`vectors_next` holds them while they are made. The group that gives a memory another vector, or deletes it, takes its
row out (`ledger_head.reembedding` says that it must), so what is in it is never stale, and what is missing in it is
what is left to do: that makes the work resumable after any crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from memory_runtime.stores.postgres.session import Session
from memory_runtime.stores.values import Facts, Pending

_MISSING: Final = (
    "memories m JOIN vectors v USING (row) WHERE NOT m.deleted AND m.collection = 0"
    " AND NOT EXISTS (SELECT 1 FROM vectors_next n WHERE n.row = m.row)"
)


def begin(session: Session, target: str) -> None:
    """Opens the work for a target revision, or goes on with it; what was made for another target is thrown away."""
    if fact(session, Facts.REEMBEDDING_TO) == target:
        return
    discard(session)
    session.do("UPDATE ledger_head SET reembedding = TRUE")
    remember(session, Facts.REEMBEDDING_TO, target)


def discard(session: Session) -> None:
    """Throws away what was made, if anything was."""
    session.do("UPDATE ledger_head SET reembedding = FALSE")
    session.do("DELETE FROM vectors_next")
    forget(session, Facts.REEMBEDDING_TO)


def pending(session: Session, after: int, limit: int) -> list[Pending]:
    """The next memories without a next vector, in order of row."""
    columns = "m.row, uuid_send(m.id), m.version, m.model_revision, m.payload, v.vector"
    sql = f"SELECT {columns} FROM {_MISSING} AND m.row > $1 ORDER BY m.row LIMIT $2"  # noqa: S608
    return [Pending(*found) for found in session.rows(sql, after, limit)]


def progress(session: Session) -> tuple[int, int]:
    """(made, of how many). Cost: one pass over both tables' keys."""
    found = session.row("SELECT (SELECT count(*) FROM vectors_next), (SELECT count(*) FROM vectors)")
    return int(found[0]), int(found[1])


def keep(session: Session, made: Sequence[tuple[Pending, bytes]]) -> int:
    """Keeps next vectors of memories that have not changed since they were read; returns how many were kept."""
    return session.do(
        "INSERT INTO vectors_next (row, vector) SELECT m.row, x.vector FROM memories m"
        " JOIN unnest($1::bigint[], $2::bigint[], $3::bytea[]) x(row, version, vector)"
        " ON x.row = m.row AND x.version = m.version WHERE NOT m.deleted"
        " ON CONFLICT (row) DO UPDATE SET vector = excluded.vector",
        [one.row for one, _ in made],
        [one.version for one, _ in made],
        [vector for _, vector in made],
    )


def swap(session: Session) -> bool:
    """Puts the next vectors in the place of the old ones; False, and nothing done, while any is missing.

    Renames tables, so it costs the same for any number of memories; `finish` clears up afterwards.
    """
    target, replaced = fact(session, Facts.REEMBEDDING_TO), fact(session, Facts.EMBEDDING)
    if target is None or session.value(f"SELECT EXISTS (SELECT 1 FROM {_MISSING})"):  # noqa: S608
        return False
    session.do("TRUNCATE vectors_old")
    session.do("ALTER TABLE vectors_old RENAME TO vectors_swapped")
    session.do("ALTER TABLE vectors RENAME TO vectors_old")
    session.do("ALTER TABLE vectors_next RENAME TO vectors")
    session.do("ALTER TABLE vectors_swapped RENAME TO vectors_next")
    session.do("UPDATE ledger_head SET reembedding = FALSE, generation = generation + 1")
    remember(session, Facts.EMBEDDING, target)
    remember(session, Facts.REEMBEDDED_FROM, replaced or "")
    forget(session, Facts.REEMBEDDING_TO)
    return True


def finish(session: Session, rows: int) -> bool:
    """Clears up at most `rows` memories after a swap (their revision, the old vector); True once nothing is left."""
    current, replaced = fact(session, Facts.EMBEDDING), fact(session, Facts.REEMBEDDED_FROM)
    if replaced is None:
        return True
    old = [found[0] for found in session.rows("SELECT row FROM vectors_old ORDER BY row LIMIT $1", rows)]
    session.do(
        "UPDATE memories SET model_revision = $1 WHERE row = ANY($2::bigint[]) AND model_revision = $3",
        current or "",
        old,
        replaced,
    )
    session.do("DELETE FROM vectors_old WHERE row = ANY($1::bigint[])", old)
    if len(old) < rows:
        forget(session, Facts.REEMBEDDED_FROM)
        return True
    return False


def fact(session: Session, key: str) -> str | None:
    """One fact."""
    found = session.value("SELECT value FROM facts WHERE key = $1", key)
    return None if found is None else str(found)


def remember(session: Session, key: str, value: str, *, replace: bool = True) -> None:
    """Sets a fact; with `replace` False only where there is none."""
    then = "UPDATE SET value = excluded.value" if replace else "NOTHING"
    session.do(f"INSERT INTO facts (key, value) VALUES ($1, $2) ON CONFLICT (key) DO {then}", key, value)  # noqa: S608


def forget(session: Session, key: str) -> None:
    """Removes a fact."""
    session.do("DELETE FROM facts WHERE key = $1", key)
