"""When each endpoint is looked at, and who is told: shared, fair between namespaces, no request of a reconcile."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from soma_operator.catalog.back_ends import Endpoint
from soma_operator.catalog.kinds import Ref
from soma_operator.observe.dependencies import Answer, Health, Sight, after
from soma_operator.probes.conversations import ask
from soma_operator.probes.names import Names
from soma_operator.probes.turns import Turns

log = logging.getLogger(__name__)
_TIMEOUT = 3.0
_SOONER = 4.0  # while something is wrong, or not settled
AT_ONCE = 32
PER_NAMESPACE = 4
_LONGEST_SLEEP = 5.0

Ask = Callable[[Endpoint, float], Awaitable[Answer]]


@dataclass(slots=True)
class _Watched:
    """One endpoint. `users` are the resources that stand on it."""

    users: set[Ref] = field(default_factory=set)
    health: Health | None = None

    @property
    def namespaces(self) -> set[str]:
        return {user.namespace for user in self.users}


class Prober:
    """For one event loop. `every` seconds from one look to the next, a quarter of it while something is wrong.

    `question` and `names` stand for the network; a look keeps its turn until its names are no longer looked up.
    """

    def __init__(
        self,
        every: float,
        wake: Callable[[Ref], None],
        clock: Callable[[], float],
        question: Ask | None = None,
        names: Names | None = None,
        timeout: float = _TIMEOUT,
    ) -> None:
        self._every = every
        self._wake = wake
        self._clock = clock
        self._names = names or Names()
        self._ask: Ask = question or partial(ask, names=self._names)
        self._timeout = timeout
        self._watched: dict[Endpoint, _Watched] = {}
        self._of: dict[Ref, frozenset[Endpoint]] = {}
        self._due: list[tuple[float, int, Endpoint, _Watched]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._turns = Turns(AT_ONCE, PER_NAMESPACE)

    def want(self, memory: Ref, endpoints: Iterable[Endpoint]) -> Mapping[Endpoint, Health]:
        """Look at these for that resource from now on, and at no others; returns what is known of them."""
        wanted = frozenset(endpoints)
        for endpoint in self._of.get(memory, frozenset()) - wanted:
            self._leave(memory, endpoint)
        for endpoint in wanted:
            watched = self._watched.get(endpoint)
            if watched is None:
                watched = self._watched[endpoint] = _Watched()
                self._turns.wait(endpoint, [memory.namespace])
                self._changed.set()
            elif self._turns.waits(endpoint):
                self._turns.wait(endpoint, [memory.namespace])
            watched.users.add(memory)
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
                self._queue_what_is_due()
                while (turn := self._turns.take()) is not None:
                    endpoint, namespace = turn
                    look = self._look(endpoint, self._watched[endpoint], namespace)
                    group.create_task(look, name=f"probe {endpoint}")
                await self._pause()

    def _queue_what_is_due(self) -> None:
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            _, _, endpoint, watched = heapq.heappop(self._due)
            if self._watched.get(endpoint) is watched:  # else nobody stands on it any more
                self._turns.wait(endpoint, watched.namespaces)

    async def _pause(self) -> None:
        next_due = self._due[0][0] if self._due else self._clock() + _LONGEST_SLEEP
        wait = min(_LONGEST_SLEEP, max(0.05, next_due - self._clock()))
        try:
            await asyncio.wait_for(self._changed.wait(), wait)
        except TimeoutError:
            return

    async def _look(self, endpoint: Endpoint, watched: _Watched, namespace: str) -> None:
        begun = self._clock()
        answer = Answer(Sight.SILENT)
        try:
            answer = await self._ask(endpoint, self._timeout)
            await self._names.quiet(host for host, _ in endpoint.addresses)
        except Exception:
            # Whatever one server brought about is that server's: the looks at all others go on.
            log.exception("a look has failed", extra={"endpoint": str(endpoint)})
        finally:
            self._turns.done(namespace)
            self._changed.set()
        if answer.sight is not Sight.ANSWERS:
            # Told at one time, whatever was the matter: else how soon would tell a closed port from a filtered one.
            await asyncio.sleep(max(0.0, begun + self._timeout - self._clock()))
        self._note(endpoint, watched, answer)
        if self._watched.get(endpoint) is watched:
            due = self._clock() + self._pace(watched.health) * (0.9 + 0.2 * random.random())  # noqa: S311
            heapq.heappush(self._due, (due, next(self._order), endpoint, watched))
        self._changed.set()

    def _note(self, endpoint: Endpoint, watched: _Watched, answer: Answer) -> None:
        before, watched.health = watched.health, after(watched.health, answer, self._clock())
        if before is not None and before.told == watched.health.told:
            return
        log.info("back end looked at", extra={"endpoint": str(endpoint), "seen": watched.health.told.sight.value})
        for user in watched.users:
            self._wake(user)

    def _pace(self, health: Health | None) -> float:
        well = health is not None and health.failures == 0 and not health.told.missing
        return self._every if well else self._every / _SOONER

    def _leave(self, memory: Ref, endpoint: Endpoint) -> None:
        watched = self._watched[endpoint]
        watched.users.discard(memory)
        if watched.users:
            return
        del self._watched[endpoint]
        self._turns.withdraw(endpoint)
