"""Connections to the ledger file, the lock that keeps a second process out, and errors put into words."""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from pathlib import Path
from typing import IO, Final

from memory_runtime.model.errors import Internal, SomaError, Unavailable
from memory_runtime.settings import SettingsError
from memory_runtime.stores.sqlite import filters, fts

FILE_NAME: Final = "ledger.sqlite3"
LOCK_NAME: Final = "ledger.lock"
_COMMON = ("PRAGMA busy_timeout=10000", "PRAGMA temp_store=MEMORY")
_WRITER = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    # checkpoints run beside the writer, in their own thread: inside a commit they would be its worst latency
    "PRAGMA wal_autocheckpoint=0",
    # the log is cut back when it starts over, so that its size says how much is waiting for a checkpoint
    "PRAGMA journal_size_limit=4194304",
    "PRAGMA cache_size=-65536",
    "PRAGMA secure_delete=FAST",
)
_READER = ("PRAGMA query_only=ON", "PRAGMA cache_size=-32768")


def connect(path: Path, *, writer: bool) -> sqlite3.Connection:
    """A connection in autocommit mode, durable (WAL, synchronous=FULL) where it writes."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    fts.install(connection)
    filters.install(connection)
    for pragma in _COMMON + (_WRITER if writer else _READER):
        connection.execute(pragma).close()
    return connection


def prepare_directory(data_dir: Path) -> None:
    """Makes the data directory and proves that it can be written to. Raises SettingsError naming it."""
    probe = data_dir / ".writable"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"data_dir: cannot write to {data_dir}: {error.strerror}",
            setting="data_dir",
            remedy="mount a writable volume with free space there, or set SOMA_DATA_DIR",
        ) from None


def lock_directory(data_dir: Path) -> IO[str]:
    """Holds the data directory for this process until the returned file is closed, also by kill -9.

    Raises SettingsError when another process has it: two writers would each believe in their own index.
    """
    handle = (data_dir / LOCK_NAME).open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise SettingsError(
            f"data_dir: {data_dir} is in use by another process (pid {holder})",
            setting="data_dir",
            remedy="stop that process, or set another SOMA_DATA_DIR",
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def sync_directory(directory: Path) -> None:
    """Makes the directory's entries durable: a new file whose name is lost in a crash is a lost file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Damaged(sqlite3.DatabaseError):
    """What is in the file contradicts itself, though SQLite could read it."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    sqlite_errorname = "SQLITE_CORRUPT"


Failures: Final = (sqlite3.Error, MemoryError)
"""What a statement raises; SQLITE_NOMEM comes as MemoryError."""


def code_of(error: BaseException) -> int:
    """SQLite's extended result code; 0 where it is not known."""
    return sqlite3.SQLITE_NOMEM if isinstance(error, MemoryError) else int(getattr(error, "sqlite_errorcode", 0))


def in_words(error: BaseException) -> SomaError:
    """The error that a caller may read; what the database said goes to the log, through `__cause__`."""
    code = code_of(error)
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        # the file beside the log could not grow
        code = sqlite3.SQLITE_FULL
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            message, remedy = "the volume is full: nothing was stored", "free space or enlarge the volume, then retry"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            message, remedy = "the volume is read-only: nothing was stored", "remount it writable, then retry"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            message, remedy = "the ledger is damaged", "stop the runtime and restore the ledger from a backup"
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN:
            message, remedy = "the ledger's volume reports errors", "check the volume, then retry"
        case sqlite3.SQLITE_NOMEM:
            message, remedy = "there is not enough memory", "give the runtime more memory, or send less at once"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            message, remedy = "the ledger is busy", "retry"
        case sqlite3.SQLITE_TOOBIG:
            message, remedy = "a value is larger than the ledger holds", "store a smaller payload"
        case _:
            return Internal("the ledger failed; the cause is in the log")
    return Unavailable(message, remedy=remedy, retry_after=1.0)


def is_damage(error: BaseException) -> bool:
    """Whether the error says that the file itself is damaged: a full, busy, lost or read-only volume is none."""
    return code_of(error) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def unread_page(verdict: str) -> int:
    """The result code of a page that a check could not read; 0 where its verdict is of what it has read."""
    found = re.search(r"error code=(\d+)", verdict)
    code = int(found[1]) if found else 0
    return 0 if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} else code


def is_refusal(error: BaseException) -> bool:
    """Whether the database refused cleanly (a constraint, a full volume, a busy file) and its state is not in doubt."""
    clean = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_TOOBIG}
    return code_of(error) & 0xFF in clean
