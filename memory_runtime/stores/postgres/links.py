"""The connections for readers: a pool on an event loop of its own, in a thread of its own, asked from any thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

import asyncpg

from memory_runtime.model.errors import Unavailable
from memory_runtime.stores.postgres import errors
from memory_runtime.stores.postgres.connecting import Target
from memory_runtime.stores.postgres.flushing import CHANNEL
from memory_runtime.stores.postgres.session import Session
from memory_runtime.stores.resilience.deadline import check_time

T = TypeVar("T")
log = logging.getLogger(__name__)

LISTEN_AGAIN_SECONDS: Final = 1.0
READ: Final = "READ ONLY"
ONE_MOMENT: Final = "ISOLATION LEVEL REPEATABLE READ READ ONLY"


async def _as_it_is(connection: Any) -> None:
    """A connection goes back as it is: nothing here leaves anything behind in one."""
    del connection


class _Lent(Session):
    """A session that has no connection before its first question: what Redis answers needs none.

    Connection and first answer come in one trip to the loop; the connection goes back without waiting for it.
    """

    def __init__(self, links: Links) -> None:
        super().__init__(None, links.run)
        self._links = links

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        check_time()
        return self._run(self._answer(method, arguments, options))

    async def _answer(self, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.connection is None:
            self.connection = await self._links.acquire()
        return await getattr(self.connection, method)(*arguments, **options)

    def borrow(self) -> None:
        """Has a connection from here on. Raises what the driver raises."""
        if self.connection is None:
            self.connection = self._run(self._links.acquire())

    def close(self) -> None:
        """Gives the connection back: without a transaction it is as good as it was, whatever was refused."""
        if self.connection is not None:
            self._links.give_back(self.connection)
            self.connection = None


class Links:
    """Lends connections. `size` is the most that it has at once; who finds none free waits, then is refused."""

    def __init__(self, target: Target, size: int) -> None:
        self.target = target
        self._size = size
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ledger-links", daemon=True)
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    def start(self) -> None:
        """Starts the loop's thread; connects nothing yet."""
        self._thread.start()
        self.run(self._make_pool())

    async def _make_pool(self) -> None:
        self._pool = await asyncpg.create_pool(
            connect=self.target.connect, min_size=0, max_size=self._size, reset=_as_it_is
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop and waits for it."""
        if self._closed:
            work.close()
            raise Unavailable("the ledger is closed", remedy="retry when the runtime is up again")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @contextlib.contextmanager
    def session(self, moment: str | None = None, *, proven: bool = False) -> Iterator[Session]:
        """Lends a connection from the first question on; with `moment`, inside a transaction of those characteristics.

        `proven`: there must be one, asked or not. Raises what the driver raises; a wait for a free connection ends
        after the time-out for connecting.
        """
        if moment is None and self.target.pooled:
            # the pooler gives each transaction another server, and a query is two messages
            moment = READ
        if moment is None:
            with contextlib.closing(_Lent(self)) as lent:
                if proven:
                    lent.borrow()
                yield lent
            return
        connection = self.run(self.acquire())
        session = Session(connection, self.run)
        clean = False
        try:
            session.do(self.target.begin(moment))
            yield session
            session.do("COMMIT")
            clean = True
        finally:
            with contextlib.suppress(Unavailable, *errors.Failures):
                self.run(self._release(connection, clean=clean))

    async def acquire(self) -> Any:
        """A connection that is free, on the loop. Raises Unavailable where none becomes free in time."""
        if self._pool is None:
            raise Unavailable("the ledger is not open", remedy="retry when the runtime is ready", retry_after=1.0)
        try:
            return await self._pool.acquire(timeout=self.target.connect_timeout)
        except TimeoutError:
            if self._pool.get_size() >= self._size and not self._pool.get_idle_size():
                raise Unavailable(
                    "every connection to PostgreSQL is in use",
                    remedy="retry, or raise POSTGRES_POOL_SIZE",
                    retry_after=1.0,
                ) from None
            raise

    def give_back(self, connection: Any) -> None:
        """Takes back a connection in which no transaction was begun; whoever asks next comes after it."""
        if not self._closed:
            asyncio.run_coroutine_threadsafe(self._release(connection, clean=True), self._loop)

    async def _release(self, connection: Any, *, clean: bool) -> None:
        if self._pool is None:
            return
        if not clean and not connection.is_closed():
            try:
                await connection.execute("ROLLBACK", timeout=1.0)
            except errors.Failures:
                connection.terminate()
        await self._pool.release(connection)

    def expire(self) -> None:
        """The server went away: idle connections of before are not to be lent any more."""
        if self._pool is not None and not self._closed:
            self.run(self._pool.expire_connections())

    def listen(self, heard: Callable[[str], None], lost: Callable[[], None]) -> None:
        """Calls `heard`, on the loop's thread, with the payload of each notice, and `lost` when the server goes away.

        Not behind a pooler: it cannot work.
        """
        if not self.target.pooled:
            self.run(self._start_listening(heard, lost))

    async def _start_listening(self, heard: Callable[[str], None], lost: Callable[[], None]) -> None:
        self._tasks.append(asyncio.create_task(self._listen(heard, lost)))

    async def _listen(self, heard: Callable[[str], None], lost: Callable[[], None]) -> None:
        while True:
            gone = asyncio.Event()
            connection = None
            try:
                connection = await self.target.connect()
                connection.add_termination_listener(lambda _, gone=gone: gone.set())
                await connection.add_listener(CHANNEL, lambda *notice: heard(str(notice[3])))
                await gone.wait()
                lost()
            except errors.Failures as error:
                log.debug("no notices for now: %s", error)
            except Exception:
                # without notices followers only look later, but nobody may be left without them unsaid
                log.exception("listening for notices failed")
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    def close(self) -> None:
        """Ends every connection and the thread."""
        if self._closed:
            return
        with contextlib.suppress(Exception):
            self.run(self._end())
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), 2.0)
            except (TimeoutError, *errors.Failures):
                self._pool.terminate()
