"""The writer's one connection: on an event loop that runs only while the writer's thread asks something."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from typing import Final

import asyncpg

from memory_runtime.stores.postgres import errors, lineage
from memory_runtime.stores.postgres.connecting import Target
from memory_runtime.stores.postgres.session import Session

PLAN_EACH: Final = "SET LOCAL plan_cache_mode = auto"
"""For a transaction that does more than a group's own statements: these may be of a few rows or of all."""


class WriterLink:
    """Belongs to the writer's thread. Connects when it is asked, and again after the connection was lost."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._loop = asyncio.new_event_loop()
        self._session: Session | None = None
        self.warnings: list[str] = []
        """What the server has warned of on this connection since it was last emptied."""

    def session(self) -> Session:
        """The connection, made anew where there is none. Raises what the driver raises."""
        if self._session is not None and self._session.connection.is_closed():
            self._session = None
        if self._session is None:
            # a group reads and writes by keys: to plan that anew for each costs PostgreSQL more than to do it
            connection = self._loop.run_until_complete(self.target.connect(planned_once=True))
            connection.add_log_listener(self._hear)
            session = Session(connection, self._loop.run_until_complete)
            try:
                # before anything is written there: this may be another server than the one of before
                lineage.ensure(session)
            except BaseException:
                connection.terminate()
                raise
            self._session = session
        return self._session

    def _hear(self, _: object, message: object) -> None:
        if isinstance(message, asyncpg.PostgresWarning):
            self.warnings.append(str(message))

    def begin_lineage(self, expected: uuid.UUID | None) -> None:
        """Begins another line of history, unless another replica has begun one after `expected`."""
        lineage.begin(self.session(), expected)

    def begin(self, characteristics: str = "", *also: str) -> Session:
        """Opens a transaction, and runs statements in it whose answers do not matter, in one round trip."""
        session = self.session()
        session.do("; ".join((self.target.begin(characteristics), *also)))
        return session

    def rollback(self) -> None:
        """Ends what is open; the connection is given up where that fails."""
        session = self._session
        if session is None:
            return
        try:
            if session.connection.is_in_transaction():
                session.do("ROLLBACK")
        except errors.Failures:
            self.drop()

    @contextlib.contextmanager
    def reading(self, characteristics: str | None = None) -> Iterator[Session]:
        """A session to read in: in a transaction where one is asked for, or where a pooler needs it."""
        moment = characteristics or ("READ ONLY" if self.target.pooled else None)
        if moment is None:
            yield self.session()
            return
        session = self.begin(moment, PLAN_EACH)
        try:
            yield session
            session.do("COMMIT")
        except BaseException:
            self.rollback()
            raise

    def drop(self) -> None:
        """Gives the connection up."""
        if self._session is not None:
            self._session.connection.terminate()
            self._session = None

    def close(self) -> None:
        """Ends the connection and the loop."""
        if self._session is not None:
            with contextlib.suppress(*errors.Failures):
                self._loop.run_until_complete(self._session.connection.close(timeout=1.0))
            self._session = None
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()
