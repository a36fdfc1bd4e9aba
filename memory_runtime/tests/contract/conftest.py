"""A place for a ledger of each kind; PostgreSQL is one real server a session, and one fresh database a test."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, start_postgres
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.postgres import PostgresLedger, migrating
from memory_runtime.stores.sqlite import SQLiteLedger
from memory_runtime.tests.ledgers import DIM, Place, normaliser

TEMPLATE = "soma_template"


def ask(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    """Runs one statement on a connection of its own."""

    async def once() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(dsn)
        try:
            return [tuple(one) for one in await connection.fetch(sql)]
        finally:
            await connection.close()

    return asyncio.run(once())


def named(dsn: str, database: str) -> str:
    """The DSN of another database of the same server."""
    return f"{dsn.rpartition('/')[0]}/{database}"


def settings_for(dsn: str, **rest: Any) -> SMFSettings:
    values = {"mode": "distributed", "postgres_url": dsn, "vector_dim": DIM, "postgres_pool_size": 6} | rest
    return SMFSettings(**values)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Service]:
    """A PostgreSQL server with a migrated database to copy."""
    with open_directory() as directory:
        try:
            service = start_postgres(directory, settings={"max_connections": "200", "shared_buffers": "64MB"})
        except ClusterError as error:
            unavailable(str(error))
        try:
            ask(service.url, f"CREATE DATABASE {TEMPLATE}")
            migrating.migrate(settings_for(named(service.url, TEMPLATE)))
            yield service
        finally:
            service.stop()


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that PostgreSQL's own account reaches: each start of pytest closes its own root to others again."""
    with tempfile.TemporaryDirectory(prefix="soma-postgres-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture
def database(postgres: Service) -> Iterator[str]:
    """The DSN of a fresh database at the newest schema."""
    name = f"soma_{uuid.uuid4().hex[:12]}"
    ask(postgres.url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield named(postgres.url, name)
    ask(postgres.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def postgres_place(dsn: str, **settings: Any) -> Place:
    made = settings_for(dsn, **settings)
    return Place(
        "postgres",
        lambda observer: PostgresLedger(made, normalisers=normaliser, observer=observer),
        lambda sql: ask(dsn, sql),
    )


def sqlite_place(directory: Path) -> Place:
    def asked(sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(directory / "ledger.sqlite3")
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    return Place("sqlite", lambda observer: SQLiteLedger(directory, normalisers=normaliser, observer=observer), asked)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place of either kind, empty."""
    if request.param == "sqlite":
        made = sqlite_place(tmp_path / "data")
    else:
        made = postgres_place(request.getfixturevalue("database"))
    yield made
    close(made)


@pytest.fixture
def shared(database: str) -> Iterator[Place]:
    """A database that several replicas may open at once."""
    made = postgres_place(database)
    yield made
    close(made)


def close(place: Place) -> None:
    for ledger in place.opened:
        ledger.close()


@pytest.fixture
def open_at() -> Iterator[Callable[..., Place]]:
    """Makes places on a DSN with further settings, closed when the test ends."""
    made: list[Place] = []

    def at(dsn: str, **settings: Any) -> Place:
        made.append(postgres_place(dsn, **settings))
        return made[-1]

    yield at
    for one in made:
        close(one)
