"""The one writer: a thread that drains a queue, runs all that waits in one transaction, and flushes once for it.

While a group is being flushed the next one gathers, so the number of flushes a second stays what the disk can do and
the number of writes a second does not. Nobody is told before the flush is done and the index has heard.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.failpoints import reach
from memory_runtime.model.threads import raisable, raising_only_errors
from memory_runtime.stores.contracts import NormaliserFactory, NormaliserState, Observer
from memory_runtime.stores.sqlite import arriving, lineage
from memory_runtime.stores.sqlite.opening import Failures, connect, in_words, is_damage, is_refusal
from memory_runtime.stores.sqlite.transacting import SQLiteTransaction

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_GROUP = 1024
MAX_WAITING = 20_000
CHECKPOINT_BYTES = 16 * 2**20
TRUNCATE_BYTES = 256 * 2**20
CHECKPOINT_REST_SECONDS = 0.25


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    run: Callable[[SQLiteTransaction], T]
    alone: bool = False
    future: Future[T] = field(default_factory=Future)

    def start(self) -> bool:
        """False when the caller went away before anything was written."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """Tells the caller."""
        self.future.set_exception(raisable(error))


def _for_writing(path: Path) -> sqlite3.Connection:
    connection = connect(path, writer=True)
    arriving.install(connection)
    return connection


class Writer:
    """Owns the writing connection. `submit` may be called from any thread."""

    def __init__(self, path: Path, factory: NormaliserFactory, observer: Observer) -> None:
        self._path = path
        self._factory = factory
        self._observer = observer
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._connection = _for_writing(path)
        self._normalisers: dict[str, NormaliserState] = {}
        self._closed = False
        self._door = threading.Lock()
        self._checkpoint_wanted = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._checkpointer = threading.Thread(target=self._checkpoint_loop, name="ledger-checkpoint", daemon=True)
        self.head_seq = self._read_head()
        self.commits = 0
        self.damaged = False
        self.lineage = self._lineage_if_possible()

    def _lineage_if_possible(self) -> str:
        """The line of history that is written from now on; empty where nothing can be written, as on a full volume.

        Reads are answered meanwhile, and the first write begins it.
        """
        try:
            return lineage.begin(self._connection)
        except Failures as error:
            if is_damage(error):
                raise
            log.warning("nothing can be written for now, what is stored is served: %s", error)
            self._undo(error)
            return ""

    def start(self) -> None:
        """Starts the threads."""
        self._thread.start()
        self._checkpointer.start()

    def submit(self, run: Callable[[SQLiteTransaction], T], *, alone: bool = False) -> Future[T]:
        """Queues work for the next group; `alone` makes it a group of its own, which sees what has been applied.

        Raises Unavailable when closed or when too much is waiting already."""
        if self._queue.qsize() >= MAX_WAITING:
            raise Unavailable("too many writes are waiting", remedy="send fewer at once, then retry", retry_after=1.0)
        job = _Job(run, alone)
        with self._door:
            # nothing may be queued behind the last item: nobody would ever answer it
            if self._closed:
                raise Unavailable("the ledger is closed", remedy="retry when the runtime is up again", retry_after=1.0)
            self._queue.put(job)
        return job.future

    def close(self) -> None:
        """Finishes what is queued, then folds the log into the database file."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._checkpoint_wanted.set()
        self._checkpointer.join()
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        except Failures as error:
            log.warning("the ledger closed without a checkpoint: %s", error)
        self._connection.close()

    def _read_head(self) -> int:
        row = self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
        return int(row[0]) if row else 0

    def _loop(self) -> None:
        ended = False
        while not ended:
            jobs: list[_Job[Any]] = []
            job = self._queue.get()
            while job is not None:
                if job.start():
                    jobs.append(job)
                if len(jobs) >= MAX_GROUP or self._queue.empty():
                    break
                job = self._queue.get()
            ended = job is None
            for part in _parts(jobs):
                try:
                    self._run_group(part)
                    self._keep_log_short()
                except Exception as error:
                    # this thread is the only one that answers: it must not end with its writers waiting
                    log.exception("the ledger's writer met a defect")
                    _answer(part, error)

    def _run_group(self, jobs: Sequence[_Job[Any]]) -> None:
        transaction = SQLiteTransaction(self._connection, self._factory, self._normalisers)
        results: list[tuple[_Job[Any], Any, BaseException | None]] = []
        try:
            self.lineage = self.lineage or lineage.begin(self._connection)
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                try:
                    results.append((job, raising_only_errors(job.run, transaction), None))
                    reach("mid-group")
                except SomaError as refusal:
                    results.append((job, None, refusal))
            transaction.seal()
            reach("pre-commit")
            self._connection.execute("COMMIT")
        except Exception as error:
            self._abandon(jobs, error)
            return
        self.commits += 1
        reach("post-commit")
        self._publish(transaction)
        reach("pre-ack")
        for job, result, failure in results:
            if failure is None:
                job.future.set_result(result)
            else:
                job.fail(failure)

    def _publish(self, transaction: SQLiteTransaction) -> None:
        if not transaction.applied:
            return
        try:
            self._observer(transaction.applied)
        except Exception:
            # durable already, so the writers must be told so; the observer knows that it is behind, and rebuilds
            log.exception("the index could not follow the ledger")
        self.head_seq = transaction.applied[-1].receipt.seq

    def _abandon(self, jobs: Sequence[_Job[Any]], error: Exception) -> None:
        """Nothing of the group is durable. Each is tried again alone: one unlucky unit must not fail the others."""
        self._undo(error)
        # they have seen importances that were never stored
        self._normalisers.clear()
        if isinstance(error, Failures):
            self.damaged = self.damaged or is_damage(error)
        if len(jobs) > 1:
            for job in jobs:
                self._run_group([job])
            return
        log.error("a commit failed: %s", error, exc_info=not isinstance(error, Failures))
        answer = in_words(error) if isinstance(error, Failures) else error
        answer.__cause__ = error if answer is not error else None
        jobs[0].fail(answer)

    def _undo(self, error: Exception) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, Failures) and not is_refusal(error):
                # after a failed write or flush, only a fresh connection knows what the file really holds
                fresh = _for_writing(self._path)
                self._connection.close()
                self._connection = fresh
        except Failures as second:
            log.warning("the ledger could not be reopened: %s", second)

    def _log_bytes(self) -> int:
        try:
            return self._path.with_name(self._path.name + "-wal").stat().st_size
        except OSError:
            return 0

    def _keep_log_short(self) -> None:
        size = self._log_bytes()
        if size > TRUNCATE_BYTES:
            self._checkpoint(self._connection, "TRUNCATE")
        elif size > CHECKPOINT_BYTES:
            self._checkpoint_wanted.set()

    def _checkpoint_loop(self) -> None:
        connection: sqlite3.Connection | None = None
        while not self._closed:
            self._checkpoint_wanted.wait()
            self._checkpoint_wanted.clear()
            if not self._closed:
                try:
                    connection = connection or connect(self._path, writer=True)
                    self._checkpoint(connection, "PASSIVE")
                except Failures as error:
                    log.warning("a checkpoint was put off: %s", error)
                # a reader may hold the log open: asking again at once would only burn the disk
                time.sleep(CHECKPOINT_REST_SECONDS)
        if connection is not None:
            connection.close()

    @staticmethod
    def _checkpoint(connection: sqlite3.Connection, kind: str) -> None:
        try:
            connection.execute(f"PRAGMA wal_checkpoint({kind})").close()
        except Failures as error:
            log.warning("a checkpoint was put off: %s", error)


def _answer(jobs: Sequence[_Job[Any]], error: Exception) -> None:
    for job in jobs:
        if not job.future.done():
            job.fail(error)


def _parts(jobs: Sequence[_Job[Any]]) -> Iterator[list[_Job[Any]]]:
    """The jobs in their order, cut where one must be alone."""
    part: list[_Job[Any]] = []
    for job in jobs:
        if job.alone and part:
            yield part
            part = []
        part.append(job)
        if job.alone:
            yield part
            part = []
    if part:
        yield part
