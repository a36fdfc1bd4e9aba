"""A bulkhead: so many calls at once, so many waiting, and the rest turned away at once rather than piling up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class BulkheadFull(Exception):  # noqa: N818 -- the guard's answer to it is an Unavailable
    """Every place and every seat in the queue is taken."""


class Bulkhead:
    """At most `places` calls at once and `seats` waiting, first come, first served."""

    def __init__(self, places: int, seats: int) -> None:
        self._semaphore = asyncio.Semaphore(places)
        self._seats = seats
        self.active = 0
        self.waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Holds a place, waiting for one if need be (bound the wait with asyncio.timeout). Raises BulkheadFull."""
        if self._semaphore.locked() and self.waiting >= self._seats:
            raise BulkheadFull
        self.waiting += 1
        try:
            await self._semaphore.acquire()
        finally:
            self.waiting -= 1
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1
            self._semaphore.release()
