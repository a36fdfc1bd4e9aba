"""One group's transaction from BEGIN to a COMMIT whose outcome is known, whatever becomes of the connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from memory_runtime.model.errors import Unavailable
from memory_runtime.model.failpoints import reach
from memory_runtime.stores.contracts import NormaliserFactory, Put, Unit
from memory_runtime.stores.postgres import errors, lineage, loading
from memory_runtime.stores.postgres.flushing import COPY_FROM
from memory_runtime.stores.postgres.link import PLAN_EACH, WriterLink
from memory_runtime.stores.postgres.session import Session, TurnNeeded
from memory_runtime.stores.postgres.tracking import Group
from memory_runtime.stores.postgres.transacting import TURN, Memory, PostgresTransaction

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 5.0
"""How long a group is tried again while PostgreSQL is away and nothing of it can have been committed."""
OUTCOME_SECONDS: Final = 30.0
"""How long is asked whether a group is durable whose COMMIT was not answered."""
FIRST_REST: Final = 0.05
LONGEST_REST: Final = 1.0

Work = Callable[[PostgresTransaction], None]


class Committer:
    """Belongs to the writer's thread."""

    def __init__(self, link: WriterLink, factory: NormaliserFactory) -> None:
        self._link = link
        self._factory = factory
        self.memory = Memory()
        self._away = False
        self._alone = False

    def commit(self, work: Work, units: Sequence[Unit] = (), *, only_units: bool = False) -> Group:
        """Runs `work` in a transaction that knows what `units` name; returns what is durable.

        `only_units`: `work` does nothing besides them. A lost connection is made anew, and the group run again, while
        nothing can have been committed. Raises what `work` or the driver raises: then nothing is durable; or
        Unavailable saying that nobody knows.
        """
        until = time.monotonic() + (0.0 if self._away else AGAIN_SECONDS)
        rest = FIRST_REST
        # behind a pooler the two statements may meet two servers, and the row may be equal on both
        simple = only_units and not self._link.target.pooled and _fits_one_statement(units)
        while True:
            try:
                if simple and self._alone and (group := self._run_at_once(work, units)) is not None:
                    self._away = False
                    return group
                transaction = self._run(work, units, *(() if only_units else (PLAN_EACH,)))
            except errors.Failures as error:
                self._undo(error)
                if not errors.is_lost(error) or time.monotonic() + rest > until:
                    self._away = errors.is_lost(error)
                    raise
                time.sleep(rest)
                rest = min(2 * rest, LONGEST_REST)
                continue
            except BaseException as error:
                self._undo(error)
                raise
            self._away = False
            reach("pre-commit")
            if self._end(transaction):
                return self._group(transaction)

    def _group(self, transaction: PostgresTransaction) -> Group:
        self.memory.seq = transaction.work.seq
        head = transaction.work.head
        return Group(transaction.applied, head.generation, transaction.generation, head, self.memory.history)

    @property
    def rests(self) -> bool:
        """Whether PostgreSQL was away when it was asked last: then a group is tried once, and not again and again."""
        return self._away

    def rest(self) -> None:
        """PostgreSQL was seen to be away: the next group does not wait for it."""
        self._away = True

    def _run(self, work: Work, units: Sequence[Unit], *also: str) -> PostgresTransaction:
        self.memory.next_group()
        session = self._link.begin("", TURN, *also)
        if self._link.target.pooled and not lineage.is_same(session):
            # the pooler has another server behind it than the one that the newest line was begun on
            session.do("ROLLBACK")
            lineage.ensure(session)
            session = self._link.begin("", TURN, *also)
        known = loading.begin(session, units)
        self._alone = known.head.writer == self.memory.writer
        transaction = PostgresTransaction(session, known, self._factory, self.memory, time.time)
        work(transaction)
        transaction.seal()
        return transaction

    def _run_at_once(self, work: Work, units: Sequence[Unit]) -> Group | None:
        """The group in two round trips: what it names is read, and one statement writes it and is its transaction.

        None where the turn must be taken first: nothing of it is durable then. Optimistic, so it is for a writer that
        was the last one too: of two that write in turn, each would undo what the other has begun.
        """
        self.memory.next_group()
        session = self._link.session()
        known = loading.begin(session, units)
        self._alone = known.head.writer == self.memory.writer
        if not self._alone:
            return None
        transaction = PostgresTransaction(session, known, self._factory, self.memory, time.time, has_turn=False)
        try:
            work(transaction)
            reach("pre-commit")
            self._link.warnings.clear()
            transaction.seal()
        except TurnNeeded:
            self.memory.forget()
            self._alone = False
            return None
        except errors.Failures as error:
            if not errors.is_lost(error):
                raise
            self._link.drop()
            self.memory.forget()
            self._alone = False
            if not self._is_durable(error):
                return None
        else:
            if self._link.warnings and not self._is_durable(self._unreplicated()):
                return None
        return self._group(transaction)

    def _undo(self, error: BaseException) -> None:
        """Nothing was committed; what this writer remembers may be of what never was."""
        self.memory.forget()
        if errors.is_lost(error) or errors.is_read_only(error):
            # after a fail-over the old primary is read-only: the next connection looks for the new one
            self._link.drop()
        else:
            self._link.rollback()

    def _end(self, transaction: PostgresTransaction) -> bool:
        """Commits; whether the group is durable. False only where the database has said that it is not."""
        self._link.warnings.clear()
        try:
            transaction.session.do("COMMIT")
        except errors.Failures as error:
            self._link.drop()
            self.memory.forget()
            return not transaction.touched or self._is_durable(error)
        if self._link.warnings and transaction.touched:
            return self._is_durable(self._unreplicated())
        return True

    def _unreplicated(self) -> Exception:
        """A commit that came with a warning: the wait for its synchronous standby was cancelled, as far as is known.

        The server says so in its own language, so any warning counts.
        """
        self.memory.forget()
        return ConnectionError(f"PostgreSQL warned at the commit: {self._link.warnings[-1]}")

    def _is_durable(self, error: BaseException) -> bool:
        """Asks the database, once it is there again. Raises Unavailable where it stays away for too long.

        What is there counts only with a commit after it whose replication was waited for: a standby that has that one
        has everything before it.
        """
        log.warning("the outcome of a commit is not known; asking whether it is durable: %s", error)
        until = time.monotonic() + OUTCOME_SECONDS
        rest = FIRST_REST
        while time.monotonic() < until:
            try:
                # waits for the turn: the old connection's commit, should it still be running, is over after that
                session = self._link.begin("", TURN)
                durable = self._last_group(session) == self.memory.group
                # a statement that has not arrived yet finds another row, and does nothing
                session.do("UPDATE ledger_head SET seq = seq")
                self._link.warnings.clear()
                session.do("COMMIT")
                if durable and self._link.warnings:
                    raise self._unreplicated()
            except errors.Failures:
                self._link.drop()
                time.sleep(rest)
                rest = min(2 * rest, LONGEST_REST)
                continue
            log.warning("the commit is %s", "durable" if durable else "not durable")
            return durable
        self._away = True
        raise Unavailable(
            "PostgreSQL or its standby went away during the commit: whether the write is durable is not known",
            remedy="retry with the same idempotency key, or read the memory when PostgreSQL is back",
            retry_after=5.0,
        ) from error

    def _last_group(self, session: Session) -> int | None:
        found = session.value("SELECT group_number FROM ledger_writers WHERE writer = $1", self.memory.writer)
        return None if found is None else int(found)


def _fits_one_statement(units: Sequence[Unit]) -> bool:
    """Whether they are few puts, as a client's stores are: no COPY, nothing to erase, no edges."""
    rows = sum(len(unit.writes) + len(unit.audit) for unit in units)
    return 0 < rows < COPY_FROM and all(isinstance(one, Put) for unit in units for one in unit.writes)
