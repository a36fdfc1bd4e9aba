"""When each endpoint is asked, and who is told: shared probes, a bounded number at once, no request of a reconcile."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from soma_operator.catalog.back_ends import Endpoint
from soma_operator.catalog.kinds import Ref
from soma_operator.observe.dependencies import Answer, Health, after
from soma_operator.probes.conversations import ask

log = logging.getLogger(__name__)
_TIMEOUT = 3.0
_SOONER = 4.0  # while something is wrong, or not settled
_AT_ONCE = 16
_LONGEST_SLEEP = 5.0

Ask = Callable[[Endpoint, float], Awaitable[Answer]]


@dataclass(slots=True)
class _Watched:
    """One endpoint. `due` is a time of the monotonic clock; `users` are the resources that stand on it."""

    due: float
    users: set[Ref] = field(default_factory=set)
    health: Health | None = None
    asking: bool = False


class Prober:
    """For one event loop. `every` seconds from one look to the next, a quarter of it while something is wrong."""

    def __init__(
        self, every: float, wake: Callable[[Ref], None], clock: Callable[[], float], question: Ask = ask
    ) -> None:
        self._every = every
        self._wake = wake
        self._clock = clock
        self._ask = question
        self._watched: dict[Endpoint, _Watched] = {}
        self._of: dict[Ref, frozenset[Endpoint]] = {}
        self._changed = asyncio.Event()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def want(self, memory: Ref, endpoints: Iterable[Endpoint]) -> Mapping[Endpoint, Health]:
        """Look at these for that resource from now on, and at no others; returns what is known of them."""
        wanted = frozenset(endpoints)
        for endpoint in self._of.get(memory, frozenset()) - wanted:
            self._leave(memory, endpoint)
        for endpoint in wanted:
            if endpoint not in self._watched:
                self._watched[endpoint] = _Watched(self._clock())
                self._changed.set()
            self._watched[endpoint].users.add(memory)
        if wanted:
            self._of[memory] = wanted
        else:
            self._of.pop(memory, None)
        return {e: health for e in wanted if (health := self._watched[e].health) is not None}

    def forget(self, memory: Ref) -> None:
        """The resource is gone."""
        self.want(memory, ())

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for endpoint, watched in list(self._watched.items()):
                    if watched.due <= self._clock() and not watched.asking:
                        watched.asking = True
                        group.create_task(self._look(endpoint, watched), name=f"probe {endpoint}")
                await self._pause()

    async def _pause(self) -> None:
        waiting = [w.due for w in self._watched.values() if not w.asking]
        wait = min(_LONGEST_SLEEP, max(0.05, min(waiting, default=self._clock() + _LONGEST_SLEEP) - self._clock()))
        try:
            await asyncio.wait_for(self._changed.wait(), wait)
        except TimeoutError:
            return

    async def _look(self, endpoint: Endpoint, watched: _Watched) -> None:
        try:
            async with self._turns:
                answer = await self._ask(endpoint, _TIMEOUT)
            before, watched.health = watched.health, after(watched.health, answer, self._clock())
            if before is None or before.told != watched.health.told:
                log.info(
                    "back end looked at", extra={"endpoint": str(endpoint), "seen": watched.health.told.sight.value}
                )
                for user in watched.users:
                    self._wake(user)
        finally:
            watched.asking = False
            watched.due = self._clock() + self._pace(watched.health) * (0.9 + 0.2 * random.random())  # noqa: S311
            self._changed.set()

    def _pace(self, health: Health | None) -> float:
        well = health is not None and health.failures == 0 and not health.told.missing
        return self._every if well else self._every / _SOONER

    def _leave(self, memory: Ref, endpoint: Endpoint) -> None:
        watched = self._watched[endpoint]
        watched.users.discard(memory)
        if not watched.users:
            del self._watched[endpoint]
