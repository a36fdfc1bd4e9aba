"""The work queue: a key waits once, however often it is added; the urgent go first; one that fails waits longer each
time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from soma_operator.catalog.kinds import Ref
from soma_operator.telemetry import metrics

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 120.0


class Priority(IntEnum):
    """Lower goes first."""

    CHANGED = 0
    """Created, deleted, or its spec changed: somebody waits."""
    CHILD = 1
    """A child changed."""
    ROUTINE = 2
    """Resync, or waiting for a rollout."""


@dataclass(frozen=True, slots=True)
class _Turn:
    due: float
    priority: Priority


class KeyedQueue:
    """For one event loop. A key that is being worked on is not given out a second time."""

    def __init__(self, *, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._waiting: dict[Ref, _Turn] = {}
        # Heaps may hold turns that were replaced by sooner ones: only the turn in _waiting counts.
        self._delayed: list[tuple[float, int, Ref, _Turn]] = []
        self._ready: list[tuple[int, int, Ref, _Turn]] = []
        self._working: set[Ref] = set()
        self._failures: dict[Ref, int] = {}
        self._order = itertools.count()
        self._changed = asyncio.Event()

    def add(self, key: Ref, priority: Priority = Priority.CHILD, delay: float = 0.0) -> None:
        """Let `key` be reconciled after `delay` seconds, or sooner if it already waits for less."""
        turn = _Turn(self._clock() + delay, priority)
        known = self._waiting.get(key)
        if known is not None:
            if turn.due >= known.due and priority >= known.priority:
                return
            turn = _Turn(min(turn.due, known.due), min(priority, known.priority))
        self._waiting[key] = turn
        heapq.heappush(self._delayed, (turn.due, next(self._order), key, turn))
        metrics.QUEUE_DEPTH.set(len(self._waiting))
        self._changed.set()

    def retry(self, key: Ref, at_least: float = 0.0) -> float:
        """Add a key that failed; returns the seconds it waits: 0.5, 1, 2 … 120, with jitter, at least `at_least`."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        wait = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures, 16)) * (0.75 + 0.5 * self._jitter())
        delay = max(wait, at_least)
        self.add(key, Priority.ROUTINE, delay)
        return delay

    def succeeded(self, key: Ref) -> None:
        """Start again from the shortest wait."""
        self._failures.pop(key, None)

    def take(self) -> tuple[Ref | None, float | None]:
        """The most urgent key that is due, or the seconds until one is (None: only `add` or `done` can change that)."""
        now = self._clock()
        while self._delayed:
            due, order, key, turn = self._delayed[0]
            current = self._waiting.get(key) == turn
            if current and due > now:
                break
            heapq.heappop(self._delayed)
            if current:
                heapq.heappush(self._ready, (turn.priority, order, key, turn))
        while self._ready:
            _, _, key, turn = heapq.heappop(self._ready)
            # A key that is being worked on stays in _waiting; `done` puts it back.
            if self._waiting.get(key) == turn and key not in self._working:
                del self._waiting[key]
                self._working.add(key)
                metrics.QUEUE_DEPTH.set(len(self._waiting))
                return key, None
        return None, self._delayed[0][0] - now if self._delayed else None

    async def get(self) -> Ref:
        """The next key that is due; it counts as being worked on until `done`."""
        while True:
            self._changed.clear()
            key, wait = self.take()
            if key is not None:
                return key
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                continue

    def done(self, key: Ref) -> None:
        """The work on `key` has ended; if it was added meanwhile it is given out again."""
        self._working.discard(key)
        turn = self._waiting.get(key)
        if turn is not None:
            heapq.heappush(self._delayed, (turn.due, next(self._order), key, turn))
        self._changed.set()

    def forget(self, key: Ref) -> None:
        """The resource is gone."""
        self._failures.pop(key, None)
        self._waiting.pop(key, None)

    def __len__(self) -> int:
        return len(self._waiting)
