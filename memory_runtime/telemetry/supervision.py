"""Background tasks that must not end: an exception that nobody foresaw is logged and counted, and the task begun again.

Without this a task that met one was gone without a word, and with it what it did: expiry, merges, relays, rebuilds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0
"""Seconds before a task is begun again: doubled after each failure, from the first again once it ran that long."""
STOP_SECONDS: Final = 20.0
"""What each part of a shutdown may take at most: the ledger is closed after all of them."""

Work = Callable[[], Awaitable[None]]


async def rest(seconds: float) -> None:
    """Between a failure and the next beginning."""
    await asyncio.sleep(seconds)


class Supervised:
    """One task: runs `work` until that returns or `stop` is called, and begins it again where it failed."""

    def __init__(self, name: str, work: Work, metrics: _TaskMetrics) -> None:
        self.name = name
        self.failures = 0
        self.last_error = ""
        self.state = "running"
        self._work = work
        self._failed = metrics.failures.labels(name)
        self._up = metrics.up.labels(name)
        self._failed.inc(0)
        self._up.set(1)
        self._task = asyncio.create_task(self._run(), name=name)

    def told(self) -> dict[str, Any]:
        """State (running, waiting to be begun again, ended), failures so far, and the last one."""
        shown: dict[str, Any] = {"state": self.state, "failures": self.failures}
        return shown | ({"last_error": self.last_error} if self.last_error else {})

    @property
    def done(self) -> bool:
        """Whether the task has ended."""
        return self._task.done()

    async def wait(self) -> None:
        """Returns once the work is done."""
        await asyncio.wait({self._task})

    async def stop(self, grace: float = 0.0) -> None:
        """Ends it; within `grace` seconds the work may end by itself. Raises nothing of the task's."""
        if grace and self.state == "running":
            await asyncio.wait({self._task}, timeout=grace)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        pause = FIRST_PAUSE / 2
        try:
            while True:
                began = time.monotonic()
                try:
                    await self._attempt()
                except asyncio.CancelledError as error:
                    if (task := asyncio.current_task()) is None or task.cancelling():
                        raise
                    # nobody has cancelled this task: what it waited for was
                    self._note(error)
                except Exception as error:
                    self._note(error)
                else:
                    return
                pause = FIRST_PAUSE if time.monotonic() - began > LONGEST_PAUSE else min(2 * pause, LONGEST_PAUSE)
                self.state = "waiting"
                self._up.set(0)
                await rest(pause)
                self.state = "running"
                self._up.set(1)
        finally:
            self.state = "ended"

    async def _attempt(self) -> None:
        await self._work()

    def _note(self, error: BaseException) -> None:
        self.failures += 1
        self._failed.inc()
        self.last_error = f"{type(error).__name__}: {error}"[:300]
        log.error("the background task %s failed and is begun again", self.name, exc_info=error)


class _TaskMetrics:
    """What is measured of background tasks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.failures = Counter(
            "soma_memory_task_failures", "Failures of a background task, each begun again.", ["task"], registry=registry
        )
        self.up = Gauge(
            "soma_memory_task_up", "0 while a background task waits to be begun again.", ["task"], registry=registry
        )


class Supervisor:
    """The background tasks of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._metrics = _TaskMetrics(registry or CollectorRegistry())
        self._tasks: dict[str, Supervised] = {}

    def start(self, name: str, work: Work) -> Supervised:
        """Begins a task, on the running loop; a name stands for the task that was last begun under it."""
        task = self._tasks[name] = Supervised(name, work, self._metrics)
        return task

    def told(self) -> dict[str, dict[str, Any]]:
        """Every task by its name, as /stats shows it."""
        return {name: task.told() for name, task in sorted(self._tasks.items())}

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads /stats should know."""
        return tuple(
            f"the background task {name} failed {task.failures} times and waits to be begun again: {task.last_error}"
            for name, task in sorted(self._tasks.items())
            if task.state == "waiting"
        )


async def stop_all(*stops: Callable[[], Awaitable[Any]], seconds: float = STOP_SECONDS) -> None:
    """Ends one part after the other, each within its time. What one raises is logged, and the next one's turn comes."""
    for stop in stops:
        name = getattr(stop, "__qualname__", repr(stop))
        try:
            async with asyncio.timeout(seconds):
                await stop()
        except TimeoutError:
            log.error("%s did not end within %g s", name, seconds)  # noqa: TRY400 -- the place says it all
        except Exception:
            log.exception("%s failed", name)


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """What a fire-and-forget task raises is logged at once: nobody waits for it."""
    try:
        yield
    except Exception:
        log.exception("%s failed", what)
