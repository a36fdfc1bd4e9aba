"""What the ledger itself holds, read beside the server: every coordinate's content, halves, and doubles of any kind."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg

from hack.torture_harness.blame import Verdict
from memory_runtime.stores.postgres import following as postgres
from memory_runtime.stores.postgres.session import Session
from memory_runtime.stores.sqlite import following as sqlite


@dataclass(slots=True)
class Testimony:
    """`rows` are (coordinate, text) of live memories; `halves` counts what a crash must never leave, by its name;
    `repeated` are (text, times) of changes that were applied more than once."""

    rows: list[tuple[str, str]]
    halves: dict[str, int]
    repeated: list[tuple[str, int]]


class Witness(Protocol):
    """Reads the ledger without the server."""

    def look(self) -> Testimony:
        """What is there now."""

    def judge_whole(self, verdict: Verdict) -> None:
        """The database's own check of itself."""


class FileWitness:
    """The file of an embedded ledger."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger

    def ready(self) -> bool:
        """Whether there is a ledger already."""
        if not self._ledger.exists():
            return False
        with closing(sqlite3.connect(self._ledger)) as connection:
            return bool(connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'outbox'").fetchone()[0])

    def look(self) -> Testimony:
        """As of `Witness`."""
        with closing(sqlite3.connect(self._ledger)) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("BEGIN")
            halves = sqlite.half_visible(connection)
            rows = connection.execute("SELECT coordinate, payload ->> '$.text' FROM memories WHERE deleted = 0")
            texts = rows.fetchall()
            repeated = connection.execute(
                "SELECT payload ->> '$.text', count(*) FROM outbox WHERE operation = 'put' AND payload IS NOT NULL"
                " GROUP BY 1 HAVING count(*) > 1"
            ).fetchall()
        return Testimony(texts, halves, repeated)

    def judge_whole(self, verdict: Verdict) -> None:
        """As of `Witness`."""
        with closing(sqlite3.connect(self._ledger)) as connection:
            damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if damage != "ok":
            verdict.lose(f"the file is damaged: {damage}")


class PostgresWitness:
    """The database of a fleet."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def look(self) -> Testimony:
        """As of `Witness`."""
        loop = asyncio.new_event_loop()
        try:
            connection = loop.run_until_complete(asyncpg.connect(self._dsn))
            loop.run_until_complete(connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            halves = postgres.half_visible(Session(connection, loop.run_until_complete))
            texts = loop.run_until_complete(
                connection.fetch("SELECT coordinate, payload::json ->> 'text' FROM memories WHERE NOT deleted")
            )
            repeated = loop.run_until_complete(
                connection.fetch(
                    "SELECT payload::json ->> 'text', count(*) FROM outbox WHERE operation = 'put'"
                    " AND payload IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
                )
            )
            loop.run_until_complete(connection.close())
        finally:
            loop.close()
        return Testimony([tuple(one) for one in texts], halves, [tuple(one) for one in repeated])

    def judge_whole(self, verdict: Verdict) -> None:
        """PostgreSQL checks pages as it reads them; `look` has read them all."""
