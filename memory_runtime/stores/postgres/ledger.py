"""The async face of the distributed ledger: commits go to this replica's writer, queries to readers' threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Final, TypeVar

from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.records import MemoryRecord
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Change, Committed, NormaliserFactory, Observer, Rows, Unit
from memory_runtime.stores.postgres import connecting, errors, following, migrating
from memory_runtime.stores.postgres.links import ONE_MOMENT, Links
from memory_runtime.stores.postgres.schema import HEAD, KNOWN
from memory_runtime.stores.postgres.session import run_apart
from memory_runtime.stores.postgres.tracking import Mark
from memory_runtime.stores.postgres.view import PostgresView
from memory_runtime.stores.postgres.writer import ADAPTER, MAX_GROUP, Job, Writer
from memory_runtime.stores.resilience import BreakerPolicy, Guard, GuardPolicy, Retry
from memory_runtime.stores.resilience.readers import MOST_WAITING, FairReaders
from memory_runtime.stores.sessions import LedgerTransaction, LedgerView, Loaded
from memory_runtime.stores.values import CountKey, VectorTable
from memory_runtime.telemetry.backends import BackendMetrics

T = TypeVar("T")
log = logging.getLogger(__name__)

READ_TRIES: Final = 3
READ_REST: Final = 0.1
FRESH_SECONDS: Final = 1.0
"""How long ago the last look may be; a process that was paused has none so late."""
LONG_QUERIES: Final = 4
"""Statements of one read that may each take their whole time-out, before it is given up: a read may ask many."""


class PostgresLedger:
    """One replica's part in a ledger on PostgreSQL; any number of them, in any number of processes, may be open.

    `observer` (None: nobody) hears every durable change of all of them, in order of seq, on the writer's thread, before
    the writer of this replica's own is told. `on_generation` is called there too when rows changed without changes to
    tell of (importance rebuilt, vectors swapped, a restore by another process): the index must be loaded anew, under
    `exclusively`; it must return at once.
    """

    def __init__(
        self,
        settings: SMFSettings,
        *,
        normalisers: NormaliserFactory,
        observer: Observer | None,
        metrics: BackendMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._normalisers = normalisers
        self._observer = observer
        self._links: Links | None = None
        self._writer: Writer | None = None
        self._on_generation: Callable[[int], None] | None = None
        self.on_lineage: Callable[[bool], None] | None = None
        self._places = max(1, settings.postgres_pool_size - 2)
        self._readers = FairReaders(self._places, "ledger-reader")
        self._guards: dict[asyncio.AbstractEventLoop, Guard] = {}
        self._reader_ailment = self._note = ""
        self._trial: Future[int] | None = None
        self._damaged = False

    @property
    def on_generation(self) -> Callable[[int], None] | None:
        """What is called when the index must be loaded anew."""
        return self._on_generation

    @on_generation.setter
    def on_generation(self, call: Callable[[int], None] | None) -> None:
        self._on_generation = call
        if self._writer is not None:
            self._writer.tracker.on_generation = call

    def open(self) -> None:
        """Connects, checks server and schema (or migrates, where the settings let it) and starts the writer.

        Blocking: call it from a thread. Raises SettingsError naming the setting, or Unavailable.
        """
        target = run_apart(connecting.probe(connecting.target(self._settings), self._settings))
        schema = migrating.current(self._settings)
        if self._settings.postgres_migrate_at_start and not schema.may_be_served(HEAD, KNOWN):
            migrating.migrate(self._settings)
        else:
            migrating.check(schema)
            self._note = schema.note(HEAD, KNOWN)
        # of the pool's size, the writer has one and the listener one
        self._links = Links(target, self._places)
        try:
            self._links.start()
            writer = Writer(target, self._normalisers, self._observer, self._settings.vector_dim, self._metrics)
            writer.connect()
            found = self.read_now(lambda view: following.moment(view.session, 0))  # type: ignore[attr-defined]
            writer.tracker.begin_at(Mark.at(found), following=False)
            writer.tracker.on_generation = self._on_generation
            writer.tracker.on_lineage = self._turn_over
            writer.on_look = self._try_readers
            writer.start()
            self._writer = writer
            self._links.listen(lambda whose: None if whose == writer.name else writer.nudge(), writer.doubt)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Finishes queued commits and lets go of every connection. Blocking."""
        if self._writer is not None:
            self._writer.close()
        self._readers.shutdown()
        if self._links is not None:
            self._links.close()

    @property
    def head_seq(self) -> int:
        """The sequence of the newest durable change that this process knows of."""
        return self._writer.tracker.head if self._writer else 0

    @property
    def lineage(self) -> str:
        """The line of history that the changes handed on last are of; empty while that is not known."""
        return self._writer.tracker.lineage if self._writer else ""

    @property
    def fresh(self) -> bool:
        """Whether the ledger was compared with what was handed on within the last second, and is still connected to."""
        return self._writer is not None and time.monotonic() - self._writer.tracker.looked < FRESH_SECONDS

    def _turn_over(self, lost: bool) -> None:
        if self._links is not None:
            # a connection to the server of before may still be answered there
            self._links.expire()
        if self.on_lineage is not None:
            self.on_lineage(lost)

    @property
    def commits(self) -> int:
        """How many groups this replica has committed: fewer than writes, where writers were concurrent."""
        return self._writer.commits if self._writer else 0

    @property
    def healthy(self) -> bool:
        """Open, whole and reachable."""
        return not self.ailment

    @property
    def ailment(self) -> str:
        """Why it is not healthy; it recovers by itself when PostgreSQL is back."""
        if self._writer is None:
            return "the ledger is not open"
        if self._damaged:
            return "the ledger is damaged: restore it from a backup"
        return self._writer.ailment or self._reader_ailment

    @property
    def note(self) -> str:
        """What the user should hear about and that is no ailment."""
        return self._note

    async def commit(self, unit: Unit) -> Committed:
        """Makes the unit durable. Cancelled before its group began, it has no effect."""
        return await asyncio.wrap_future(self._submit(Job(unit=unit)))

    async def commit_many(self, units: Sequence[Unit]) -> list[Committed | Exception]:
        """Each unit's fate, in order; queued together, they share groups."""
        parts = [units[start : start + MAX_GROUP] for start in range(0, len(units), MAX_GROUP)]
        fates: list[Committed | Exception] = []
        waiting: list[asyncio.Future[list[Committed | Exception]]] = []
        for part in parts:
            try:
                waiting.append(asyncio.wrap_future(self._submit(Job(many=part))))
            except SomaError as refusal:
                full: asyncio.Future[list[Committed | Exception]] = asyncio.get_running_loop().create_future()
                full.set_exception(refusal)
                waiting.append(full)
        for part, found in zip(parts, await asyncio.gather(*waiting, return_exceptions=True), strict=True):
            if isinstance(found, BaseException):
                if not isinstance(found, Exception):
                    raise found
                fates.extend([found] * len(part))
            else:
                fates.extend(found)
        return fates

    async def transact(self, run: Callable[[LedgerTransaction], T]) -> T:
        """Runs `run` on the writer's thread inside the next group's transaction, and returns once that is durable."""
        return await asyncio.wrap_future(self._submit(Job(run=run)))

    def write_now(self, run: Callable[[LedgerTransaction], T]) -> T:
        """`transact`, blocking, for a thread that is not the event loop's."""
        return self._submit(Job(run=run)).result()

    async def exclusively(self, run: Callable[[LedgerView], T]) -> T:
        """Runs `run` on the writer's thread, where alone changes are applied; all that its view sees has been."""
        return await asyncio.wrap_future(self._submit(Job(alone=run)))

    def _submit(self, job: Job[T]) -> Future[T]:
        if self._writer is None:
            raise Unavailable("the ledger is not open", remedy="retry when the runtime is ready", retry_after=1.0)
        return self._writer.submit(job)

    async def read(self, query: Callable[[LedgerView], T]) -> T:
        """Runs a query on a reader's thread; it sees everything committed before.

        While PostgreSQL is away its circuit is open, and callers are refused at once; who finds no free thread waits
        for his tenant's turn.
        """
        # `read_now` itself asks again on a fresh connection, so the guard does not
        return await self._guard(asyncio.get_running_loop()).run(
            "read", lambda: asyncio.wrap_future(self._readers.submit(self.read_now, query)), retry=Retry.NEVER
        )

    def _guard(self, loop: asyncio.AbstractEventLoop) -> Guard:
        guard = self._guards.get(loop)
        if guard is None:
            longest = READ_TRIES * (self._settings.postgres_statement_timeout_seconds + 5.0) * LONG_QUERIES
            policy = GuardPolicy(
                attempts=1,
                attempt_timeout=longest,
                timeout=longest,
                # the readers have lines of their own, one for each tenant; a second one before them would be nobody's
                places=MOST_WAITING + self._places,
                breaker=BreakerPolicy(reset_after=0.5, reset_most=2.0),
            )
            guard = self._guards[loop] = Guard(ADAPTER, policy, metrics=self._metrics)
        return guard

    def read_now(self, query: Callable[[LedgerView], T]) -> T:
        """`read`, blocking, on the calling thread. A lost connection is made anew, and the query asked again."""
        links = self._open_links()
        tries, rest = READ_TRIES, READ_REST
        while True:
            try:
                # cut off, a replica must not go on answering from an index that follows nobody
                with links.session(proven=bool(self.ailment)) as session:
                    answer = query(PostgresView(session))
            except errors.Failures as error:
                tries -= 1
                if errors.is_lost(error) and not isinstance(error, TimeoutError) and tries:
                    # connections of before a restart are all dead: the second try may find the server up again
                    links.expire()
                    time.sleep(rest)
                    rest *= 3
                    continue
                raise self._failed(error) from error
            self._reader_ailment = ""
            return answer

    def _try_readers(self) -> None:
        """Asks something where the last query failed: a replica that is not ready is asked nothing by anybody else."""
        if self._reader_ailment and (self._trial is None or self._trial.done()):
            with contextlib.suppress(Unavailable):
                self._trial = self._readers.submit(self.read_now, lambda view: view.head())

    def _failed(self, error: BaseException) -> SomaError:
        answer = errors.in_words(error)
        self._damaged = self._damaged or errors.is_damage(error)
        if errors.is_lost(error):
            self._reader_ailment = str(answer)
        log.warning("a query failed: %s", errors.for_the_log(error))
        return answer

    def _open_links(self) -> Links:
        if self._links is None:
            raise Unavailable("the ledger is not open", remedy="retry when the runtime is ready", retry_after=1.0)
        return self._links

    @contextlib.contextmanager
    def _moment(self) -> Iterator[PostgresView]:
        """A view of one moment."""
        try:
            with self._open_links().session(ONE_MOMENT) as session:
                yield PostgresView(session)
        except errors.Failures as error:
            raise self._failed(error) from error

    @contextlib.contextmanager
    def load(self, dim: int) -> Iterator[Loaded]:
        """All that an index is built from, at one moment; blocking. The first one says where following begins."""
        with self._moment() as view:
            found = following.moment(view.session, 0)
            yield Loaded(view.scan(dim), view.coordinate_rows(), view.counts(), found.head.seq)
        writer = self._writer
        if writer is not None and not writer.tracker.following:
            writer.tracker.begin_at(Mark.at(found), following=True)
            writer.nudge()

    def scan(self, dim: int, batch: int = 20_000, table: VectorTable = "vectors") -> Iterator[Rows]:
        """All live memories, in batches, at one moment; blocking. Raises Unavailable where the ledger is damaged."""
        with self._moment() as view:
            yield from view.scan(dim, batch, table)

    def catch_up(self) -> None:
        """Asks for what other replicas have committed to be applied now rather than at the next look."""
        if self._writer is not None:
            self._writer.tracker.following = True
            self._writer.nudge()

    async def get(self, record_id: uuid.UUID) -> MemoryRecord | None:
        """The live memory of this id, with its vector."""
        return await self.read(lambda view: view.get(record_id))

    async def tail(self, seq: int, limit: int = 1000, token: str = "") -> list[Change]:
        """The changes after `seq`, in order. Raises TailTrimmed, and HistoryLost as `FollowView.tail` does."""
        return await self.read(lambda view: view.tail(seq, limit, token))

    async def counts(self) -> dict[CountKey, int]:
        """Live memories by tenant, namespace, memory type and collection."""
        return await self.read(lambda view: view.counts())
