"""The async face of the embedded ledger: commits go to the writer's thread, queries to readers' threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Final, TypeVar

from memory_runtime.model.errors import DeadlineExceeded, SomaError, Unavailable
from memory_runtime.model.records import MemoryRecord
from memory_runtime.stores.contracts import Change, Committed, NormaliserFactory, Observer, Rows, Unit
from memory_runtime.stores.migrating import HEAD, KNOWN, found_in, migrate
from memory_runtime.stores.resilience.deadline import remaining
from memory_runtime.stores.resilience.readers import FairReaders
from memory_runtime.stores.sessions import LedgerTransaction, LedgerView, Loaded
from memory_runtime.stores.sqlite import opening
from memory_runtime.stores.sqlite.transacting import SQLiteTransaction
from memory_runtime.stores.sqlite.view import SQLiteView
from memory_runtime.stores.sqlite.writer import Writer
from memory_runtime.stores.values import CountKey, VectorTable

T = TypeVar("T")
log = logging.getLogger(__name__)

READERS: Final = 4
STEPS: Final = 50_000
"""Steps of SQLite's machine between two looks at the deadline: about a millisecond."""
QUICK_CHECK_BYTES: Final = 256 * 2**20


PART: Final = 128
"""Units of one job: other writers wait for no more than these."""


def _an_exception(one: BaseException) -> Exception:
    if not isinstance(one, Exception):
        raise one
    return one


def _is_late() -> bool:
    """Asked by SQLite within a statement: true ends it."""
    left = remaining()
    return left is not None and left <= 0


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
        self._readers = FairReaders(READERS, "ledger-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._damaged = False
        self._note = ""
        self.on_generation: Callable[[int], None] | None = None
        self.on_lineage: Callable[[bool], None] | None = None

    def open(self) -> None:
        """Locks the directory, migrates, checks and starts the writer. Blocking: call it from a thread.

        Raises SettingsError (directory, foreign or newer file) or Unavailable (damaged file).
        """
        opening.prepare_directory(self.data_dir)
        self._lock = opening.lock_directory(self.data_dir)
        try:
            migrate(self.path)
            self._note = found_in(self.path).note(HEAD, KNOWN)
            self.path.chmod(0o600)
            self._check()
            self._writer = Writer(self.path, self._normalisers, self._observer)
            self._writer.start()
            opening.sync_directory(self.data_dir)
        except BaseException as error:
            self._release()
            if isinstance(error, opening.Failures):
                raise opening.in_words(error) from error
            raise

    def _check(self) -> None:
        """A quick check where it is quick; a larger file is checked by what reading it says."""
        if self.path.stat().st_size > QUICK_CHECK_BYTES:
            return
        with contextlib.closing(opening.connect(self.path, writer=False)) as connection:
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
        if unread := opening.unread_page(verdict):
            failed = sqlite3.OperationalError(verdict)
            failed.sqlite_errorcode = unread
            raise failed
        if verdict != "ok":
            raise Unavailable(
                f"the ledger {self.path} is damaged: {verdict}", remedy="restore it from a backup before starting"
            )

    def close(self) -> None:
        """Finishes queued commits, folds the log, gives the directory back. Blocking."""
        if self._writer is not None:
            self._writer.close()
        self._readers.shutdown()
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
    def lineage(self) -> str:
        """The line of history that changes are of: one for each opening."""
        return self._writer.lineage if self._writer else ""

    @property
    def fresh(self) -> bool:
        """Always: no other process writes here."""
        return True

    @property
    def commits(self) -> int:
        """How many groups were flushed: fewer than writes, where writers were concurrent."""
        return self._writer.commits if self._writer else 0

    @property
    def healthy(self) -> bool:
        """Open, and not seen to be damaged."""
        return self._writer is not None and not self._writer.damaged and not self._damaged

    @property
    def ailment(self) -> str:
        """Why it is not healthy."""
        return "" if self.healthy else "the ledger is damaged: restore it from a backup"

    @property
    def note(self) -> str:
        """What the user should hear about and that is no ailment."""
        return self._note

    async def commit(self, unit: Unit) -> Committed:
        """Makes the unit durable. Cancelled before its group began, it has no effect."""
        return await self.transact(lambda transaction: transaction.run(unit))

    async def commit_many(self, units: Sequence[Unit]) -> list[Committed | Exception]:
        """Each unit's fate, in order; a job runs many of them: a job for each would take a third of the time."""
        parts = [units[start : start + PART] for start in range(0, len(units), PART)]
        found = await asyncio.gather(*map(self._commit_part, parts), return_exceptions=True)
        fates: list[Committed | Exception] = []
        for part, result in zip(parts, found, strict=True):
            if isinstance(result, BaseException):
                if not isinstance(result, Exception):
                    raise result
                fates += [result] * len(part)
            else:
                fates += result
        return fates

    async def _commit_part(self, units: Sequence[Unit]) -> list[Committed | Exception]:
        try:
            return await asyncio.wrap_future(self._submit(lambda transaction: list(transaction.run_many(units))))
        except Unavailable:
            raise
        except Exception:
            if len(units) == 1:
                raise
        # one of them cannot be written: alone, each has its own fate
        waiting = [self._submit(lambda transaction, unit=unit: transaction.run(unit)) for unit in units]  # type: ignore[misc]
        found = await asyncio.gather(*map(asyncio.wrap_future, waiting), return_exceptions=True)
        return [one if isinstance(one, Committed) else _an_exception(one) for one in found]

    async def transact(self, run: Callable[[LedgerTransaction], T]) -> T:
        """Runs `run` on the writer's thread inside the next group's transaction, and returns once that is durable."""
        return await asyncio.wrap_future(self._submit(run))

    def write_now(self, run: Callable[[LedgerTransaction], T]) -> T:
        """`transact`, blocking, for a thread that is not the event loop's."""
        return self._submit(run).result()

    def _submit(self, run: Callable[[SQLiteTransaction], T], *, alone: bool = False) -> Future[T]:
        if self._writer is None:
            raise Unavailable("the ledger is not open", remedy="retry when the runtime is ready", retry_after=1.0)
        return self._writer.submit(run, alone=alone)

    async def exclusively(self, run: Callable[[LedgerView], T]) -> T:
        """Runs `run` on the writer's thread, where alone changes are applied; it must write nothing."""
        return await asyncio.wrap_future(self._submit(lambda transaction: run(transaction.view), alone=True))

    async def read(self, query: Callable[[LedgerView], T]) -> T:
        """Runs a query on a reader's thread with its own connection; it sees everything committed before.

        It ends at the caller's deadline, within a statement too.
        """
        return await asyncio.wrap_future(self._readers.submit(self.read_now, query))

    def read_now(self, query: Callable[[LedgerView], T]) -> T:
        """`read`, blocking, on the calling thread."""
        try:
            return query(self._view())
        except opening.Failures as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> SomaError:
        if opening.code_of(error) & 0xFF == sqlite3.SQLITE_INTERRUPT:
            return DeadlineExceeded(
                "the query took too long", field="deadline", remedy="allow more time, or ask for less"
            )
        self._damaged = self._damaged or opening.is_damage(error)
        log.warning("a query failed: %s", error)
        return opening.in_words(error)

    def _view(self) -> SQLiteView:
        view: SQLiteView | None = getattr(self._local, "view", None)
        if view is None:
            view = self._local.view = SQLiteView(opening.connect(self.path, writer=False))
            view.connection.set_progress_handler(_is_late, STEPS)
            self._connections.append(view.connection)
        return view

    @contextlib.contextmanager
    def _moment(self) -> Iterator[SQLiteView]:
        """A view of one moment on a connection of its own."""
        try:
            with contextlib.closing(opening.connect(self.path, writer=False)) as connection:
                connection.execute("BEGIN")
                yield SQLiteView(connection)
        except opening.Failures as error:
            raise self._failed(error) from error

    @contextlib.contextmanager
    def load(self, dim: int) -> Iterator[Loaded]:
        """All that an index is built from, at one moment; blocking."""
        with self._moment() as view:
            yield Loaded(view.scan(dim), view.coordinate_rows(), view.counts(), view.head())

    def scan(self, dim: int, batch: int = 20_000, table: VectorTable = "vectors") -> Iterator[Rows]:
        """All live memories, in batches, at one moment; blocking. Raises Unavailable for a damaged file."""
        with self._moment() as view:
            yield from view.scan(dim, batch, table)

    def catch_up(self) -> None:
        """Nothing to do: no other process writes here."""

    async def get(self, record_id: uuid.UUID) -> MemoryRecord | None:
        """The live memory of this id, with its vector."""
        return await self.read(lambda view: view.get(record_id))

    async def tail(self, seq: int, limit: int = 1000, token: str = "") -> list[Change]:
        """The changes after `seq`, in order. Raises TailTrimmed, and HistoryLost as `FollowView.tail` does."""
        return await self.read(lambda view: view.tail(seq, limit, token))

    async def counts(self) -> dict[CountKey, int]:
        """Live memories by tenant, namespace, memory type and collection."""
        return await self.read(lambda view: view.counts())
