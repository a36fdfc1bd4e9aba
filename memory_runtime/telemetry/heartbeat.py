"""Liveness: whether the event loop turns. Never a back end, or one outage would become a storm of restarts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 1.0
STALLED_SECONDS: Final = 20.0


class Heartbeat:
    """Beats once a second on the event loop; `lag` is how late the last beat was, `stalled` whether beats stay away.

    `stalled` may be asked from any thread; asked on the loop itself it says whether it has just come back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._task: asyncio.Task[None] | None = None
        self.lag = 0.0

    def start(self) -> None:
        """Begins to beat, on the running loop."""
        self._last = self._clock()
        self._task = asyncio.create_task(self._beat(), name="heartbeat")

    async def stop(self) -> None:
        """Ends the beat."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @property
    def stalled(self) -> bool:
        """No beat for 20 seconds."""
        return self._clock() - self._last > STALLED_SECONDS

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            now = self._clock()
            self.lag = max(0.0, now - self._last - INTERVAL_SECONDS)
            self._last = now
