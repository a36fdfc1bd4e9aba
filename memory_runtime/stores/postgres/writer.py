"""The writer of one replica: a thread that commits in groups when it has the turn, and follows what others commit.

All replicas write in turn: a group takes the lock of the ledger's one row first, so sequences rise in the order of
commits, without gaps, and whoever has applied up to `n` has seen everything up to `n`. The same thread hands changes
to the index, its own and those of others, in that one order.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.failpoints import reach
from memory_runtime.model.threads import raisable, raising_only_errors
from memory_runtime.stores.contracts import Committed, NormaliserFactory, Observer, Unit
from memory_runtime.stores.postgres import errors
from memory_runtime.stores.postgres.committing import Committer
from memory_runtime.stores.postgres.connecting import Target
from memory_runtime.stores.postgres.link import WriterLink
from memory_runtime.stores.postgres.tracking import Tracker
from memory_runtime.stores.postgres.transacting import PostgresTransaction
from memory_runtime.stores.postgres.view import PostgresView
from memory_runtime.telemetry.backends import BackendMetrics

T = TypeVar("T")
log = logging.getLogger(__name__)

ADAPTER: Final = "postgres-ledger"
"""As the reads of the ledger are called in `soma_backend_*`."""
MAX_GROUP: Final = 1024
MAX_GROUP_WRITES: Final = 4096
"""Writes of one group, about: others wait for the turn while they are written."""
MAX_WAITING: Final = 20_000
LOOK_SECONDS: Final = 0.1
"""How often a replica looks for what others have committed, where no notice reaches it."""


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """What is to be done: a unit, many units (answered by the list of their fates), a function of the group's
    transaction, or one of a view while nothing is applied.
    """

    unit: Unit | None = None
    many: Sequence[Unit] = ()
    run: Callable[[PostgresTransaction], T] | None = None
    alone: Callable[[PostgresView], T] | None = None
    future: Future[T] = field(default_factory=Future)

    def start(self) -> bool:
        """False when the caller went away before anything was written."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def fail(self, error: BaseException) -> None:
        """Tells the caller."""
        self.future.set_exception(raisable(error))

    @property
    def weight(self) -> int:
        """About how many rows it writes."""
        return sum(len(unit.writes) for unit in self.units) or 1

    @property
    def units(self) -> Sequence[Unit]:
        """Its units."""
        return (self.unit,) if self.unit is not None else self.many


Outcome = tuple[Job[Any], Any, BaseException | None]


class Writer:
    """`submit` and `nudge` may be called from any thread."""

    def __init__(
        self,
        target: Target,
        factory: NormaliserFactory,
        observer: Observer | None,
        dim: int,
        metrics: BackendMetrics | None = None,
    ) -> None:
        self._link = WriterLink(target)
        self._committer = Committer(self._link, factory)
        self.tracker = Tracker(observer, dim)
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="ledger-writer", daemon=True)
        self._door = threading.Lock()
        self._closed = False
        self._nudged = threading.Event()
        self._metrics = metrics
        self._committing = False
        if metrics is not None:
            metrics.watch(ADAPTER, self._state)
        self.on_look: Callable[[], None] = lambda: None
        """Called on the writer's thread when it has seen the ledger; it must return at once."""
        self.commits = 0
        self.ailment = ""

    @property
    def name(self) -> str:
        """What this writer's notices carry."""
        return str(self._committer.memory.writer)

    def _state(self) -> tuple[int, int, int]:
        """As a guard tells it: the circuit (2: a group is tried only once), commits under way, jobs that wait."""
        return 2 * self._committer.rests, int(self._committing), self._queue.qsize()

    def connect(self) -> None:
        """Connects before the thread is started, so that the line of history is known. Raises Unavailable."""
        try:
            with ThreadPoolExecutor(1) as apart:  # the caller's thread may run a loop
                apart.submit(self._link.session).result()
        except errors.Failures as error:
            raise errors.in_words(error) from error

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def submit(self, job: Job[T]) -> Future[T]:
        """Queues work for the next group. Raises Unavailable when closed or when too much is waiting already."""
        if self._queue.qsize() >= MAX_WAITING:
            raise Unavailable("too many writes are waiting", remedy="send fewer at once, then retry", retry_after=1.0)
        with self._door:
            # nothing may be queued behind the last item: nobody would ever answer it
            if self._closed:
                raise Unavailable("the ledger is closed", remedy="retry when the runtime is up again", retry_after=1.0)
            self._queue.put(job)
        return job.future

    def nudge(self) -> None:
        """Asks for a look at what others have committed, now."""
        if not self._nudged.is_set():
            self._nudged.set()
            self._queue.put(Job())

    def doubt(self) -> None:
        """The server went away: what is followed counts for nothing before the next look."""
        self.tracker.looked = -math.inf
        self.nudge()

    def close(self) -> None:
        """Finishes what is queued."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _loop(self) -> None:
        ended, looked = False, 0.0
        while not ended:
            jobs, ended = self._gather()
            for part in _parts(jobs):
                self._run(part)
            if not ended and (self._nudged.is_set() or time.monotonic() - looked >= LOOK_SECONDS):
                self._nudged.clear()
                self._look_safely()
                looked = time.monotonic()
        self._link.close()

    def _look_safely(self) -> None:
        try:
            self._look()
        except Exception:
            # a defect: without this thread no writer would ever be answered again
            log.exception("a look at what others have committed failed")

    def _gather(self) -> tuple[list[Job[Any]], bool]:
        """What waits, up to a group; True once nothing will come any more."""
        jobs: list[Job[Any]] = []
        units = weight = 0
        try:
            job = self._queue.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            return [], False
        while job is not None:
            real = job.units or job.run is not None or job.alone is not None
            if real and job.start():
                jobs.append(job)
                units += len(job.units)
                weight += job.weight
            if max(len(jobs), units) >= MAX_GROUP or weight >= MAX_GROUP_WRITES or self._queue.empty():
                return jobs, False
            job = self._queue.get()
        return jobs, True

    def _run(self, jobs: Sequence[Job[Any]]) -> None:
        try:
            if jobs[0].alone is not None:
                self._run_alone(jobs[0])
            else:
                self._run_group(jobs)
        except Exception as error:
            # a defect: whoever waits must hear of it, and the thread must go on
            log.exception("the writer failed")
            for job in jobs:
                if not job.future.done():
                    job.fail(error)

    def _run_group(self, jobs: Sequence[Job[Any]]) -> None:
        outcomes: list[Outcome] = []

        def work(transaction: PostgresTransaction) -> None:
            outcomes.clear()
            outcomes.extend(_execute(transaction, jobs))

        try:
            units = [unit for job in jobs for unit in job.units]
            with self._counted():
                group = self._committer.commit(work, units, only_units=all(job.run is None for job in jobs))
        except Exception as error:
            self._refuse(jobs, error)
            return
        self.ailment = ""
        self.commits += 1
        reach("post-commit")
        self.tracker.publish(self._link, group)
        reach("pre-ack")
        for job, result, failure in outcomes:
            if failure is None:
                job.future.set_result(result)
            else:
                job.fail(failure)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Counts a group's commit with the calls to all back ends. When it is repeated is up to `Committer`."""
        began, outcome = time.perf_counter(), "ok"
        self._committing = True
        try:
            yield
        except Exception as error:
            if errors.is_lost(error) or isinstance(error, Unavailable):
                outcome = "away"
            else:
                outcome = "refused" if errors.is_of_one(error) or isinstance(error, SomaError) else "error"
            raise
        finally:
            self._committing = False
            if self._metrics is not None:
                self._metrics.record(ADAPTER, "commit", outcome, time.perf_counter() - began)

    def _refuse(self, jobs: Sequence[Job[Any]], error: Exception) -> None:
        """Nothing of the group is durable, or nobody knows. One unlucky unit must not fail the others."""
        if sum(max(1, len(job.units)) for job in jobs) > 1 and errors.is_of_one(error):
            for job in jobs:
                if job.many:
                    self._run_apart(job)
                else:
                    self._run_group([job])
            return
        answer: Exception = errors.in_words(error) if isinstance(error, errors.Failures) else error
        if errors.is_lost(error):
            self.ailment = str(answer)
        log.error(
            "a commit failed: %s",
            errors.for_the_log(error),
            exc_info=not isinstance(error, (*errors.Failures, SomaError)),
        )
        for job in jobs:
            one = errors.again(answer)
            one.__cause__ = error if one is not error else None
            job.fail(one)

    def _run_apart(self, job: Job[Any]) -> None:
        """Each unit of the job in a group of its own."""
        apart: list[Job[Committed]] = [Job(unit=unit) for unit in job.many]
        for one in apart:
            self._run_group([one])
        job.future.set_result([one.future.exception() or one.future.result() for one in apart])

    def _run_alone(self, job: Job[Any]) -> None:
        """Applies all that the view sees, then lets the function look."""
        if job.alone is None:
            return
        try:
            with self._link.reading("ISOLATION LEVEL REPEATABLE READ READ ONLY") as session:
                self.tracker.reach_head(session)
                result = raising_only_errors(job.alone, PostgresView(session))
        except Exception as error:
            log.warning("a look at the ledger failed: %s", error)
            answer: Exception = errors.in_words(error) if isinstance(error, errors.Failures) else error
            job.fail(answer)
            return
        job.future.set_result(result)

    def _explain(self) -> None:
        """Begins another line of history, where changes were lost and none was begun for it: once in the fleet."""
        if self.tracker.unexplained:
            self._link.begin_lineage(self.tracker.mark.lineage)
            self.tracker.unexplained = False
            with self._link.reading() as session:
                self.tracker.look(session)

    def _look(self) -> None:
        if not self.tracker.following:
            return
        try:
            with self._link.reading() as session:
                self.tracker.look(session)
            self._explain()
            self.ailment = ""
            self.on_look()
        except errors.Failures as error:
            self._link.rollback()
            self.ailment = str(errors.in_words(error))
            log.warning("the ledger cannot be followed for now: %s", self.ailment)
            if errors.is_lost(error):
                self._link.drop()
                self._committer.rest()


def _parts(jobs: Sequence[Job[Any]]) -> Iterator[list[Job[Any]]]:
    """The jobs in their order, cut where one must be alone."""
    part: list[Job[Any]] = []
    for job in jobs:
        if job.alone is None:
            part.append(job)
            continue
        if part:
            yield part
        yield [job]
        part = []
    if part:
        yield part


def _execute(transaction: PostgresTransaction, jobs: Sequence[Job[Any]]) -> Iterator[Outcome]:
    """Runs the jobs in order; units that stand together are run together."""
    waiting: list[Job[Any]] = []
    for job in jobs:
        if job.run is None:
            waiting.append(job)
            continue
        yield from _execute_units(transaction, waiting)
        waiting = []
        try:
            yield job, raising_only_errors(job.run, transaction), None
        except SomaError as refusal:
            yield job, None, refusal
        reach("mid-group")
    yield from _execute_units(transaction, waiting)


def _execute_units(transaction: PostgresTransaction, jobs: Sequence[Job[Any]]) -> Iterator[Outcome]:
    units = [unit for job in jobs for unit in job.units]
    if not units:
        return
    fates = iter(transaction.run_many(units))
    for job in jobs:
        reach("mid-group")
        if job.many:
            yield job, [next(fates) for _ in job.many], None
            continue
        fate = next(fates)
        yield (job, None, fate) if isinstance(fate, SomaError) else (job, fate, None)
