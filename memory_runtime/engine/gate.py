"""Lets requests run side by side, and now and then one change of the engine run alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

FIRST_PATIENCE_SECONDS: Final = 0.5


class _Inside(contextlib.AbstractAsyncContextManager[None]):
    """One stay. A class, because a generator would take longer than all else that a request does here."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def __aenter__(self) -> None:
        await self._gate.enter()

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave()


class Gate:
    """Many `shared` at once, or one `alone`.

    Who wants to be alone holds newcomers up for half a second; if somebody inside takes longer, it lets them in, tries
    again later, and waits twice as long each time: a slow request is not everybody's delay, and nobody starves.
    Not re-entrant: `shared` inside `shared` would wait for itself once somebody wants to be alone.
    """

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._inside = 0
        self._turn = asyncio.Lock()

    def shared(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Runs beside others, and never beside `alone`."""
        return _Inside(self)

    async def enter(self) -> None:
        """Waits while somebody is alone. `leave` must follow."""
        while not self._open.is_set():
            await self._open.wait()
        self._inside += 1
        self._empty.clear()

    def leave(self) -> None:
        """After `enter`."""
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Lets nobody new in, waits for those inside, and runs."""
        patience = FIRST_PATIENCE_SECONDS
        async with self._turn:
            while not await self._emptied(patience):
                await asyncio.sleep(patience)
                patience *= 2
            try:
                yield
            finally:
                self._open.set()

    async def _emptied(self, patience: float) -> bool:
        """Shuts the gate; True once nobody is inside, False, and open again, when that takes longer than `patience`."""
        self._open.clear()
        try:
            await asyncio.wait_for(self._empty.wait(), patience)
        except BaseException as error:
            self._open.set()
            if isinstance(error, TimeoutError):
                return False
            raise
        return True
