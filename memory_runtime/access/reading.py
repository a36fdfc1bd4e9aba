"""How many bodies of unknown size are read at once, where the transport tells a body's size only when it is there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from memory_runtime.model.errors import Unavailable

T = TypeVar("T")

_REMEDY = "send the whole message at once, or try again a little later"


class ReadingPlaces:
    """A bounded number of places, each for one body that is being read; who comes later waits for one in turn.

    One who has held a place for `patience` seconds loses it once somebody waits: a caller who sends a body drop by
    drop, or never, keeps nobody out. `newest_first` serves who came last before those who wait longer: where most of
    those mean harm, it is the honest caller's best chance. Belongs to one event loop.
    """

    def __init__(self, most: Callable[[], int], *, patience: float, newest_first: bool = False) -> None:
        self._most = most
        self._newest_first = newest_first
        self._patience = patience
        self._holders: dict[asyncio.Timeout, float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._leaving = 0
        self._timer: asyncio.TimerHandle | None = None
        self.taken = 0

    async def read(self, body: Callable[[], Awaitable[T]]) -> T:
        """What `body` gives, read while a place is held. Raises Unavailable where the place was lost."""
        if self._waiting or self.taken >= self._most():
            await self._wait()
        else:
            self.taken += 1
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._holders[limit] = asyncio.get_running_loop().time()
                self._hurry()  # who waits was not timed while this place had no holder yet
                return await body()
        except TimeoutError:
            if not limit.expired():
                raise
            raise Unavailable(
                "too many requests are being sent at once, and this one took too long to arrive",
                remedy=_REMEDY,
                retry_after=1.0,
            ) from None
        finally:
            if self._holders.pop(limit, None) is None:
                self._leaving -= 1
            self._give_back()

    async def _wait(self) -> None:
        """Returns with a place taken."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._hurry()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()
            raise

    def _give_back(self) -> None:
        self.taken -= 1
        while self._waiting and self.taken < self._most():
            turn = self._waiting.pop() if self._newest_first else self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.taken += 1
        self._hurry()

    def _hurry(self) -> None:
        """Takes the places of those who have held one for longest, once that is too long and somebody waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while self._holders and len(self._waiting) > self._leaving:
            oldest, since = next(iter(self._holders.items()))
            left = since + self._patience - loop.time()
            if left > 0:
                self._timer = loop.call_later(left, self._hurry)
                return
            del self._holders[oldest]
            self._leaving += 1
            oldest.reschedule(loop.time())
