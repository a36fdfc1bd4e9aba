"""How background work keeps out of the way: rounds bounded by rows and by time, rests between them, an early end."""

from __future__ import annotations

import asyncio
import contextlib
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
