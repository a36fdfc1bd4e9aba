"""Brings a ledger file to the schema that this code knows: at every start, under the directory's lock, or as a job."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.settings import SettingsError
from memory_runtime.stores.compatibility import FACT, Found, stated

HEAD: Final = "0007"
KNOWN: Final = frozenset({"0001", "0002", "0003", "0004", "0005", "0006", "0007"})
"""Kept here so that a start with nothing to migrate need not load Alembic; a test compares both with the scripts."""


SCRIPTS: Final = Path(__file__).parent / "migrations"


def revision_of(path: Path) -> str | None:
    """The revision that the ledger file is at; None where there is no ledger yet."""
    return found_in(path).revision


def found_in(path: Path) -> Found:
    """The revision that the ledger file is at, and the oldest that may serve on it."""
    if not path.exists() or path.stat().st_size == 0:
        return Found(None)
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        try:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            _refuse_foreign_file(connection, path)
            return Found(None)
        if not found:
            return Found(None)
        try:
            oldest = connection.execute("SELECT value FROM facts WHERE key = ?", (FACT,)).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            oldest = None
        return Found(str(found[0]), oldest[0] if oldest else None)


def _refuse_foreign_file(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise SettingsError(
            f"data_dir: {path} is a database, but not a ledger of ours",
            setting="data_dir",
            remedy="choose another SOMA_DATA_DIR",
        )


def migrate(path: Path, target: str = "head") -> str | None:
    """Migrates the ledger file and returns the revision that it came from. What a later version has migrated, and this
    one may serve, is left as it is.

    The caller holds the directory's lock. Raises SettingsError for a ledger newer than this code, and Unavailable
    when the file cannot be read.
    """
    try:
        found = found_in(path)
    except sqlite3.Error as error:
        raise _unreadable(error, path) from error
    # how to go back is known to the version that went there alone
    refuse_newer(found if target == "head" else found._replace(serves_back_to=None), path)
    if target != "head" or not found.may_be_served(HEAD, KNOWN):
        _migrate(path, target)
    return found.revision


def _migrate(path: Path, target: str) -> None:
    from sqlalchemy.exc import DBAPIError

    try:
        _run_alembic(path, target, downgrade=target != "head")
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise _unreadable(error.orig, path) from error
        raise
    except sqlite3.Error as error:
        raise _unreadable(error, path) from error


def _unreadable(error: sqlite3.Error, path: Path) -> SomaError:
    """Only of a damaged file may somebody be told to put another in its place."""
    from memory_runtime.stores.sqlite.opening import in_words, is_damage

    if not is_damage(error):
        return in_words(error)
    return Unavailable(
        f"the ledger {path} cannot be read: {error}",
        remedy="restore it from a backup, or move the file away to start with an empty memory",
    )


def refuse_newer(found: Found, path: Path) -> None:
    """Raises SettingsError for a revision that this code does not know, and that does not let it serve."""
    if found.is_newer(KNOWN) and not found.may_be_served(HEAD, KNOWN):
        raise SettingsError(
            f"the ledger {path} was written by a newer version (schema {found.revision}, this version knows {HEAD})",
            setting="data_dir",
            remedy="run that version again, or restore a backup made before the upgrade",
        )


def _run_alembic(path: Path, target: str, *, downgrade: bool) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, event, pool

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    engine = create_engine(f"sqlite:///{path}", poolclass=pool.NullPool)

    @event.listens_for(engine, "connect")
    def _durable(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: object) -> None:
        # the driver's own handling would commit before each CREATE, and a crash would leave half a revision
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # type: ignore[attr-defined]

    with engine.begin() as connection:
        config.attributes["connection"] = connection
        if downgrade:
            _refuse_to_drop_memories(path)
            command.downgrade(config, target)
        else:
            command.upgrade(config, target)
        _remember_who_may_serve(connection)
    engine.dispose()


def _remember_who_may_serve(connection: Any) -> None:
    from sqlalchemy import text

    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision is not None and connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'facts'")).scalar():
        connection.execute(
            text("INSERT INTO facts VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value"),
            {"key": FACT, "value": stated(SCRIPTS, str(revision))},
        )


def _refuse_to_drop_memories(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        if connection.execute("SELECT EXISTS (SELECT 1 FROM memories)").fetchone()[0]:
            raise SettingsError(
                f"downgrading {path} would drop its memories", setting="data_dir", remedy="export them first"
            )
