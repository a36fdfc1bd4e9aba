"""How background work keeps out of the way: rounds bounded by rows and by time, rests between them, an early end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time


class Interrupted(Exception):  # noqa: N818 -- not an error: the engine is closing
    """The engine is closing: stop between two steps."""


class Pace:
    """Bounds each round by rows and by time, rests between rounds, and ends everything when `stop` is set."""

    def __init__(self, rows: int, seconds: float, stop: asyncio.Event, *, rest: float) -> None:
        self._most_rows, self._most_seconds, self._stop, self._rest = rows, seconds, stop, rest
        self.examined = 0
        self._rows, self._began = 0, time.monotonic()

    async def spent(self, rows: int) -> None:
        """Counts work done. Raises Interrupted."""
        self.examined += rows
        self._rows += rows
        elapsed = time.monotonic() - self._began
        if self._rest and (self._rows >= self._most_rows or elapsed >= self._most_seconds):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), elapsed * self._rest)
            self._rows, self._began = 0, time.monotonic()
        if self._stop.is_set():
            raise Interrupted


class Breaths:
    """The pace of a thread's work: for each second of it so many of rest, some at once and the others when it is done.

    Rest at once keeps the work from being anybody's delay; what must not be held open for long takes less of it.
    """

    def __init__(self, stop: threading.Event, *, rest: float, at_once: float) -> None:
        self._stop, self._rest, self._at_once = stop, rest, at_once
        self._owed, self._began = 0.0, time.monotonic()

    def breathe(self) -> None:
        """Called between pieces of the work: rests for the last one. Raises Interrupted once `stop` is set."""
        worked = time.monotonic() - self._began
        self._owed += worked * (self._rest - self._at_once)
        if self._stop.wait(worked * self._at_once):
            raise Interrupted
        self._began = time.monotonic()

    def owed(self) -> float:
        """Seconds of rest that are left to take, now that the work is done."""
        return self._owed + (time.monotonic() - self._began) * self._rest
