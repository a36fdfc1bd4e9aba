"""Reads the audit chain of the shared ledger, beside the replicas that write to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from memory_runtime.settings import SMFSettings
from memory_runtime.stores.audit import AuditLine
from memory_runtime.stores.postgres import connecting, errors
from memory_runtime.stores.postgres.session import Session, run_apart

BATCH: Final = 5000
_LINES: Final = (
    "SELECT number, at, tenant, actor, action, subject, detail, previous_hash, hash FROM audit"
    " WHERE number > $1 ORDER BY number LIMIT $2"
)


def some(session: Session, after: int, limit: int) -> list[AuditLine]:
    """At most `limit` lines with numbers above `after`, in order."""
    return list(map(AuditLine._make, session.rows(_LINES, after, limit)))


def head(session: Session) -> int:
    """The last line's number; 0 where there is none."""
    return int(session.value("SELECT coalesce(max(number), 0) FROM audit"))


def lines(settings: SMFSettings, after: int = 0) -> Iterator[AuditLine]:
    """The lines with numbers above `after`, in order. Blocking. Raises SettingsError or Unavailable."""
    where = run_apart(connecting.probe(connecting.target(settings), settings))
    try:
        with asyncio.Runner() as runner:
            connection = runner.run(where.connect())
            try:
                while found := runner.run(connection.fetch(_LINES, after, BATCH)):
                    yield from map(AuditLine._make, found)
                    after = found[-1][0]
            finally:
                runner.run(connection.close(timeout=1.0))
    except errors.Failures as error:
        raise errors.of_start(error) from error
