"""The readers' threads, shared fairly between tenants: one tenant's queries never take all of them.

Each tenant has a line of its own. A free thread takes the first query of the next tenant in turn that has fewer than
its share at work, so who comes with one query waits for at most one query of each other tenant.
"""

from __future__ import annotations

import contextvars
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, NamedTuple, TypeVar

from memory_runtime.model.actor import current_tenant
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.threads import raisable

T = TypeVar("T")

MOST_WAITING: Final = 512
"""Queries of all tenants that may wait; more than are let in at once."""


class _Job(NamedTuple):
    future: Future[Any]
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    context: contextvars.Context


class FairReaders:
    """`size` threads of which one tenant has at most `share`, half of them; safe to use from any thread."""

    def __init__(self, size: int, name: str) -> None:
        self.size = size
        self.share = max(1, size // 2)
        self._name = name
        # not a pool of concurrent.futures: that would make a second future and a second queue for each query
        self._threads: list[threading.Thread] = []
        self._taken: SimpleQueue[tuple[str, _Job] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._lines: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._at_work: Counter[str] = Counter()
        self._busy = self._waiting = 0
        self._closed = False

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Queues work for the tenant of the caller's context, which the work runs in (its deadline included).

        Cancelled before its turn, it is never run. Raises Unavailable where too many wait or `shutdown` was called.
        """
        job = _Job(Future(), work, arguments, contextvars.copy_context())
        with self._lock:
            if self._closed:
                raise _closed()
            if self._waiting >= MOST_WAITING:
                raise Unavailable("too many queries wait", remedy="retry a little later", retry_after=1.0)
            self._lines.setdefault(current_tenant(), deque()).append(job)
            self._waiting += 1
            self._fill()
        return job.future

    def _fill(self) -> None:
        """Gives free threads work. Under the lock."""
        while self._busy < self.size and (tenant := self._next()) is not None:
            job = self._lines[tenant].popleft()
            self._waiting -= 1
            if self._lines[tenant]:
                self._lines.move_to_end(tenant)
            else:
                del self._lines[tenant]
            if not job.future.set_running_or_notify_cancel():
                continue
            self._busy += 1
            self._at_work[tenant] += 1
            self._taken.put((tenant, job))
            if len(self._threads) < self._busy:
                number = len(self._threads)
                self._threads.append(threading.Thread(target=self._serve, name=f"{self._name}_{number}", daemon=True))
                self._threads[-1].start()

    def _next(self) -> str | None:
        return next((tenant for tenant in self._lines if self._at_work[tenant] < self.share), None)

    def _serve(self) -> None:
        while (taken := self._taken.get()) is not None:
            self._run(*taken)
            del taken

    def _run(self, tenant: str, job: _Job) -> None:
        answer: Any = None
        failure: BaseException | None = None
        try:
            answer = job.context.run(job.work, *job.arguments)
        except BaseException as error:  # the caller's, whatever it is
            failure = raisable(error)
        with self._lock:
            self._busy -= 1
            self._at_work[tenant] -= 1
            if not self._at_work[tenant]:
                del self._at_work[tenant]
            self._fill()
        if failure is None:
            job.future.set_result(answer)
        else:
            job.future.set_exception(failure)
        # a kept exception would keep this frame, and with it the answer of another
        del job, answer, failure

    def shutdown(self) -> None:
        """Takes no more work, refuses what waits, and returns when what runs has ended. Blocking."""
        with self._lock:
            self._closed = True
            waiting = [job for line in self._lines.values() for job in line]
            self._lines.clear()
            self._waiting = 0
        for job in waiting:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(_closed())
        for _ in self._threads:
            self._taken.put(None)
        for thread in self._threads:
            thread.join()


def _closed() -> Unavailable:
    return Unavailable("the ledger is closed", remedy="retry when the runtime is up again")
