"""The async face of the embedded ledger: commits go to the writer's thread, queries to readers' threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, TypeVar

from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.records import MemoryRecord
from memory_runtime.stores.contracts import Change, Committed, NormaliserFactory, Observer, Rows, Unit
from memory_runtime.stores.migrating import migrate
from memory_runtime.stores.sqlite import following, opening, reading
from memory_runtime.stores.sqlite.writer import Writer
from memory_runtime.stores.sqlite.writing import Transaction

T = TypeVar("T")
log = logging.getLogger(__name__)

READERS: Final = 4
QUICK_CHECK_BYTES: Final = 256 * 2**20


class SQLiteLedger:
    """One ledger file in one directory, for one process at a time.

    `observer` hears every durable change in order of seq on the writer's thread, before the writer of it is told.
    """

    def __init__(self, data_dir: Path, *, normalisers: NormaliserFactory, observer: Observer) -> None:
        self.data_dir = data_dir
        self.path = data_dir / opening.FILE_NAME
        self._normalisers = normalisers
        self._observer = observer
        self._writer: Writer | None = None
        self._lock: IO[str] | None = None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ledger-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._damaged = False

    def open(self) -> None:
        """Locks the directory, migrates, checks and starts the writer. Blocking: call it from a thread.

        Raises SettingsError (directory, foreign or newer file) or Unavailable (damaged file).
        """
        opening.prepare_directory(self.data_dir)
        self._lock = opening.lock_directory(self.data_dir)
        try:
            migrate(self.path)
            self.path.chmod(0o600)
            self._check()
            self._writer = Writer(self.path, self._normalisers, self._observer)
            self._writer.start()
            opening.sync_directory(self.data_dir)
        except BaseException as error:
            self._release()
            if isinstance(error, sqlite3.Error):
                raise opening.in_words(error) from error
            raise

    def _check(self) -> None:
        """A quick check where it is quick; a larger file is checked by what reading it says."""
        if self.path.stat().st_size > QUICK_CHECK_BYTES:
            return
        with contextlib.closing(opening.connect(self.path, writer=False)) as connection:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        if verdict != "ok":
            raise Unavailable(
                f"the ledger {self.path} is damaged: {verdict}", remedy="restore it from a backup before starting"
            )

    def close(self) -> None:
        """Finishes queued commits, folds the log, gives the directory back. Blocking."""
        if self._writer is not None:
            self._writer.close()
        self._readers.shutdown(wait=True)
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def head_seq(self) -> int:
        """The sequence of the newest durable change."""
        return self._writer.head_seq if self._writer else 0

    @property
    def commits(self) -> int:
        """How many groups were flushed: fewer than writes, where writers were concurrent."""
        return self._writer.commits if self._writer else 0

    @property
    def healthy(self) -> bool:
        """Open, and not seen to be damaged."""
        return self._writer is not None and not self._writer.damaged and not self._damaged

    async def commit(self, unit: Unit) -> Committed:
        """Makes the unit durable. Cancelled before its group began, it has no effect."""
        return await self.transact(lambda transaction: transaction.run(unit))

    async def transact(self, run: Callable[[Transaction], T]) -> T:
        """Runs `run` on the writer's thread inside the next group's transaction, and returns once that is durable."""
        if self._writer is None:
            raise Unavailable("the ledger is not open", remedy="retry when the runtime is ready", retry_after=1.0)
        return await asyncio.wrap_future(self._writer.submit(run))

    def write_now(self, run: Callable[[Transaction], T]) -> T:
        """`transact`, blocking, for a thread that is not the event loop's."""
        if self._writer is None:
            raise Unavailable("the ledger is not open", remedy="retry when the runtime is ready", retry_after=1.0)
        return self._writer.submit(run).result()

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Runs a query on a reader's thread with its own connection; it sees everything committed before."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, query)
        except RuntimeError as error:
            if "shutdown" not in str(error):
                raise
            raise Unavailable("the ledger is closed", remedy="retry when the runtime is up again") from None

    def read_now(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """`read`, blocking, on the calling thread."""
        try:
            return query(self._connection())
        except sqlite3.Error as error:
            self._damaged = self._damaged or opening.is_damage(error)
            answer = opening.in_words(error)
            log.warning("a query failed: %s", error)
            raise answer from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = opening.connect(self.path, writer=False)
            self._connections.append(connection)
        return connection

    def scan(self, dim: int, batch: int = 20_000, table: following.VectorTable = "vectors") -> Iterator[Rows]:
        """All live memories, in batches, for building an index; blocking. Raises Unavailable for a damaged file."""
        connection = opening.connect(self.path, writer=False)
        try:
            yield from following.scan(connection, dim, batch, table)
        except sqlite3.Error as error:
            self._damaged = True
            answer: SomaError = opening.in_words(error)
            if not isinstance(answer, Unavailable):
                answer = Unavailable(f"the ledger is damaged: {error}", remedy="restore it from a backup")
            raise answer from error
        finally:
            connection.close()

    async def get(self, record_id: uuid.UUID) -> MemoryRecord | None:
        """The live memory of this id, with its vector."""
        return await self.read(lambda connection: reading.get(connection, record_id))

    async def tail(self, seq: int, limit: int = 1000) -> list[Change]:
        """The changes after `seq`, in order. Raises TailTrimmed."""
        return await self.read(lambda connection: following.tail(connection, seq, limit))

    async def counts(self) -> dict[tuple[str, str, str, int], int]:
        """Live memories by tenant, namespace, memory type and collection."""
        return await self.read(following.counts)
