"""The lines of this ledger's history: begun by the first writer that meets another server, or the loss of changes.

A writer compares the server that it has connected to with the one that the newest line was begun on, before it writes
anything. A restored volume, a clone and a promoted standby all come with another start of the server, a restored dump
with another database or table. So no two histories share a line, whatever sequence they have come to.
"""

from __future__ import annotations

import logging
import time
import uuid
from typing import Final

from memory_runtime.stores.contracts import Lineage
from memory_runtime.stores.lineages import next_epoch
from memory_runtime.stores.postgres.session import Session
from memory_runtime.stores.values import Facts

log = logging.getLogger(__name__)

SERVER: Final = (
    "concat_ws('.', extract(epoch FROM pg_postmaster_start_time()),"
    " (SELECT oid FROM pg_database WHERE datname = current_database()), pg_relation_filenode('ledger_head'))"
)
"""Another value for every start of a server, every database, and every time that the ledger's table was made."""

_KNOWN: Final = f"SELECT lineage, server IS NOT DISTINCT FROM {SERVER}, pg_is_in_recovery() FROM ledger_head"  # noqa: S608


def ensure(session: Session) -> None:
    """Begins a line where this server is not the one that the newest line was begun on. One query where it is.

    Must be called on a new connection, before it writes. Raises what the driver raises.
    """
    lineage, same, in_recovery = session.row(_KNOWN)
    if not same and not in_recovery:
        begin(session, lineage)


def is_same(session: Session) -> bool:
    """Whether this server is the one that the newest line was begun on."""
    return bool(session.row(_KNOWN)[1])


def begin(session: Session, expected: uuid.UUID | None, *, least: int = 0, clone: bool = False) -> bool:
    """Begins a line after `expected`; False, and nothing done, where another one has been begun since.

    `least` is an epoch that this one's must be above; `clone` draws another identity for the ledger too.
    """
    session.do("BEGIN")
    try:
        found = session.row("SELECT seq, generation, lineage FROM ledger_head FOR UPDATE")
        if found[2] != expected:
            session.do("ROLLBACK")
            return False
        now, mine = time.time(), uuid.uuid4()
        newest = session.value("SELECT coalesce(max(epoch), 0) FROM lineages")
        session.do(
            "INSERT INTO lineages (lineage, parent, epoch, forked, generation, at) VALUES ($1, $2, $3, $4, $5, $6)",
            mine,
            expected,
            next_epoch(newest, now, least),
            found[0],
            found[1],
            now,
        )
        session.do(f"UPDATE ledger_head SET lineage = $1, server = {SERVER}", mine)  # noqa: S608
        # drawn with the first line: an identity that a lost future has drawn would be another one after a restore
        where_known = "DO UPDATE SET value = excluded.value" if clone else "DO NOTHING"
        session.do(
            f"INSERT INTO facts (key, value) VALUES ($1, $2) ON CONFLICT (key) {where_known}",  # noqa: S608 -- literals
            Facts.IDENTITY,
            str(uuid.uuid4()),
        )
        session.do("COMMIT")
    except BaseException:
        if session.connection.is_in_transaction():
            session.do("ROLLBACK")
        raise
    if expected is not None:
        log.info("the ledger goes on as another lineage, %s, after seq %d", mine, found[0])
    return True


def chain(session: Session) -> list[Lineage]:
    """All lines of the ledger, oldest first."""
    found = session.rows("SELECT lineage, epoch, forked, generation, parent FROM lineages ORDER BY epoch")
    return [Lineage(one[0].hex, one[1], one[2], one[3], one[4].hex if one[4] else "") for one in found]


def newest(session: Session) -> str:
    """The line that the next change will be of; empty before the first writer."""
    found = session.value("SELECT lineage FROM ledger_head")
    return found.hex if found else ""
