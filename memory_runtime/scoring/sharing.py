"""Several processors for one large search: what remains of it is cut in parts, and idle helpers take one each.

Helpers are few and shared by all searches of the process. One that is busy is not waited for: where requests already
keep the processors occupied, each search stays on its own thread and no answer comes later than it would have.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Final

from memory_runtime.scoring import processors
from memory_runtime.scoring.kernel import GROUP
from memory_runtime.scoring.source import Stretch

HELPER_COUNT: Final = min(4, processors.available()) - 1
"""A scan is bound by memory, which four threads exhaust; the thread that searches is one of them."""


class Helpers:
    """At most `count` threads that work beside the thread that asks."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._idle = threading.Semaphore(count)
        self._pool: ThreadPoolExecutor | None = None
        self._making = threading.Lock()

    def take(self) -> int:
        """Reserves the helpers that are idle now; `run` gives them back."""
        taken = 0
        while taken < self._count and self._idle.acquire(blocking=False):
            taken += 1
        return taken

    def run(self, taken: int, jobs: Sequence[Callable[[], None]]) -> None:
        """Runs the first job here and one more on each helper taken, and waits for all; raises what the first raised
        that failed.
        """
        started: list[Future[None]] = []
        try:
            started = [self._threads().submit(job) for job in jobs[1:]]
            jobs[0]()
        finally:
            wait(started)
            for _ in range(taken):
                self._idle.release()
        for one in started:
            one.result()

    def _threads(self) -> ThreadPoolExecutor:
        with self._making:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="search")
            return self._pool


def cut(stretches: Sequence[Stretch], parts: int) -> list[list[Stretch]]:
    """The rows of all stretches in so many parts of about the same length; what follows a stretch goes with its last
    part, as its rows rank below all of them.
    """
    shares: list[list[Stretch]] = [[] for _ in range(parts)]
    for stretch in stretches:
        step = max(GROUP, (stretch.end - stretch.cursor) // parts)
        start = stretch.cursor
        for share in shares:
            end = min(stretch.end, (start + step) // GROUP * GROUP)
            last = end >= stretch.end or share is shares[-1]
            if last:
                share.append(replace(stretch, cursor=start, rest=stretch.rest))
                break
            share.append(replace(stretch, cursor=start, end=end, rest=None))
            start = end
    return [share for share in shares if share]
