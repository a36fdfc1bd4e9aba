"""Eight clients that write without a pause while something happens to the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from memory_runtime.model.errors import Unavailable
from memory_runtime.stores.contracts import Unit
from memory_runtime.tests.ledgers import put

CLIENTS = 8


class Load:
    """Writes of numbered memories, each tried once; `acknowledged` holds the numbers that were answered."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self._stopped = False
        self.acknowledged: set[int] = set()

    async def gets_on(self, writes: int = 20, seconds: float = 60.0) -> None:
        """Waits until so many more writes are acknowledged."""
        before, end = len(self.acknowledged), time.monotonic() + seconds
        while len(self.acknowledged) < before + writes:
            assert time.monotonic() < end, f"nothing is acknowledged any more: {self._ledger.ailment}"
            await asyncio.sleep(0.05)

    async def _client(self, number: int) -> None:
        while not self._stopped:
            try:
                await self._ledger.commit(Unit([put(number)]))
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                self.acknowledged.add(number)
            number += CLIENTS

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """The clients write inside the block and have ended after it."""
        clients = [asyncio.create_task(self._client(n)) for n in range(CLIENTS)]
        try:
            yield self
        finally:
            self._stopped = True
            await asyncio.gather(*clients)
