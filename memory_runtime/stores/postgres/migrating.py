"""Brings a database to the schema that this code knows: as a job (`soma migrate`), or at a start that may."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.compatibility import FACT, Found, stated
from memory_runtime.stores.postgres import connecting, errors
from memory_runtime.stores.postgres.schema import HEAD, KNOWN, VERSION_TABLE
from memory_runtime.stores.postgres.session import run_apart

LOCK: Final = 0x50_4D_41_4D
"""The advisory lock that one migration at a time holds, for its one transaction."""
SCRIPTS: Final = Path(__file__).parent / "migrations"


class Migrated(NamedTuple):
    """The revisions before and after; `before` is None for a database without our tables."""

    before: str | None
    after: str


async def revision_of(connection: asyncpg.Connection[asyncpg.Record]) -> Found:
    """The revision that the database is at, and the oldest that may serve on it. Raises SettingsError."""
    async with connection.transaction(readonly=True):
        if await connection.fetchval("SELECT to_regclass($1)::text", VERSION_TABLE) is not None:
            found = await connection.fetchval(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 -- a constant
            oldest = None
            if await connection.fetchval("SELECT to_regclass('facts')::text") is not None:
                oldest = await connection.fetchval("SELECT value FROM facts WHERE key = $1", FACT)
            return Found(found, oldest)
        if await connection.fetchval("SELECT to_regclass('memories')::text") is not None:
            raise SettingsError(
                "postgres_url: the database has a table `memories` that is not ours",
                setting="postgres_url",
                remedy="name a database of its own, or a schema: ?options=-csearch_path%3Dsoma",
            )
    return Found(None)


def check(found: Found) -> None:
    """Raises SettingsError unless this code may serve on that schema."""
    refuse_newer(found)
    if found.may_be_served(HEAD, KNOWN):
        return
    raise SettingsError(
        f"postgres_url: the database is at schema {found.revision or 'none'}, this version needs {HEAD}",
        setting="postgres_url",
        remedy="run `soma migrate` once, before replicas of this version start",
    )


def refuse_newer(found: Found) -> None:
    """Raises SettingsError for a revision that this code does not know, and that does not let it serve."""
    if found.is_newer(KNOWN) and not found.may_be_served(HEAD, KNOWN):
        raise SettingsError(
            f"postgres_url: the database was written by a newer version (schema {found.revision}, this version knows"
            f" {HEAD})",
            setting="postgres_url",
            remedy="run that version again, or restore a backup made before the upgrade",
        )


def current(settings: SMFSettings) -> Found:
    """The schema of the settings' database. Blocking. Raises SettingsError or Unavailable."""
    return run_apart(_current(settings))


async def _current(settings: SMFSettings) -> Found:
    where = await connecting.probe(connecting.target(settings), settings)
    try:
        connection = await where.connect()
    except errors.Failures as error:
        raise errors.of_start(error) from error
    try:
        return await revision_of(connection)
    finally:
        await connection.close(timeout=1.0)


def migrate(settings: SMFSettings, target: str = "head") -> Migrated:
    """Migrates the settings' database, all revisions in one transaction; waits for another migration that is running.

    A schema of a later version that this one may serve is left as it is. Blocking. Raises SettingsError for a database
    newer than that, and for a downgrade that would drop memories.
    """
    return run_apart(_migrate(settings, target))


async def _migrate(settings: SMFSettings, target: str) -> Migrated:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    where = await connecting.probe(connecting.target(settings), settings)

    async def connect() -> Any:
        return await where.connect(cached=False)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=connect, poolclass=NullPool, connect_args={"statement_cache_size": 0}
    )
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_run_alembic, target)
    except errors.Failures as error:
        raise errors.of_start(error) from error
    finally:
        await engine.dispose()


def _run_alembic(connection: Any, target: str) -> Migrated:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        with connection.begin():
            # time-outs are for requests; a migration waits for readers, and another migration for this one
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            found = _found(connection)
            if target == "head":
                refuse_newer(found)
                if found.is_newer(KNOWN):
                    return Migrated(found.revision, str(found.revision))
                command.upgrade(config, target)
            else:
                refuse_newer(found._replace(serves_back_to=None))  # how to go back is known to that version alone
                _refuse_to_drop_memories(connection)
                command.downgrade(config, target)
            after = _found(connection).revision
            _remember_who_may_serve(connection, after)
            return Migrated(found.revision, after or "none")
    except DBAPIError as error:
        cause = getattr(error.orig, "__cause__", None) or error.orig or error
        raise errors.of_start(cause) from error


def _found(connection: Any) -> Found:
    from sqlalchemy import text

    if connection.execute(text(f"SELECT to_regclass('{VERSION_TABLE}')::text")).scalar() is None:
        if connection.execute(text("SELECT to_regclass('memories')::text")).scalar() is not None:
            raise SettingsError(
                "postgres_url: the database has a table `memories` that is not ours",
                setting="postgres_url",
                remedy="name a database of its own",
            )
        return Found(None)
    revision = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    if not _has_facts(connection):
        return Found(revision)
    return Found(revision, connection.execute(text("SELECT value FROM facts WHERE key = :key"), {"key": FACT}).scalar())


def _has_facts(connection: Any) -> bool:
    from sqlalchemy import text

    return connection.execute(text("SELECT to_regclass('facts')::text")).scalar() is not None


def _remember_who_may_serve(connection: Any, revision: str | None) -> None:
    from sqlalchemy import text

    if revision is not None and _has_facts(connection):
        connection.execute(
            text("INSERT INTO facts VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value"),
            {"key": FACT, "value": stated(SCRIPTS, revision)},
        )


def _refuse_to_drop_memories(connection: Any) -> None:
    from sqlalchemy import text

    there = connection.execute(text("SELECT to_regclass('memories')::text")).scalar() is not None
    if there and connection.execute(text("SELECT EXISTS (SELECT 1 FROM memories)")).scalar():
        raise SettingsError(
            "postgres_url: downgrading would drop the memories", setting="postgres_url", remedy="export them first"
        )
