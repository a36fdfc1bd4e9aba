"""A circuit breaker: it stops asking a back end that fails, and finds out with few calls when it is well again.

A machine of values: `admit` before a call, `settle` after it; the clock is an argument, and nothing here waits.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple


class BreakerState(enum.IntEnum):
    """Also the value of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Verdict(enum.Enum):
    """What a finished call says of the back end. NEUTRAL: nothing (cancelled, or the caller's own deadline)."""

    HEALTHY = "healthy"
    FAILED = "failed"
    NEUTRAL = "neutral"


class Permit(NamedTuple):
    """Leave for one call; it must be settled once. `era` tells calls of an earlier state apart."""

    era: int
    probe: bool


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Opens at `failures` failures in a row, or at as many within `window` seconds that are `share` of the calls in it.

    It stays open for `reset_after` seconds, twice as long after each failed probe, at most `reset_most`; then it lets
    `probes` calls through and no more, closes when all of them went well, and opens again when one fails.
    """

    failures: int = 5
    window: float = 10.0
    share: float = 0.5
    reset_after: float = 1.0
    reset_most: float = 30.0
    probes: int = 2


class Breaker:
    """One back end's circuit. Not thread-safe: it belongs to the event loop of its guard."""

    def __init__(self, policy: BreakerPolicy | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy or BreakerPolicy()
        self._clock = clock
        self._state = BreakerState.CLOSED
        self._era = 0
        self._settled: deque[tuple[float, bool]] = deque(maxlen=1000)  # (when, failed)
        self._until = 0.0
        self._wait = self.policy.reset_after
        self._probing = 0
        self._passed = 0

    @property
    def state(self) -> BreakerState:
        """The state now; an open circuit whose time is up is half-open."""
        if self._state is BreakerState.OPEN and self._clock() >= self._until:
            return BreakerState.HALF_OPEN
        return self._state

    @property
    def retry_after(self) -> float:
        """Seconds until a call may be let through; 0 where one may be now."""
        if self._state is BreakerState.OPEN:
            return max(0.0, self._until - self._clock())
        return 0.0

    def admit(self) -> Permit | None:
        """Leave for a call, or None while the circuit is open or every probe is taken."""
        if self._state is BreakerState.OPEN:
            if self._clock() < self._until:
                return None
            self._enter(BreakerState.HALF_OPEN)
        if self._state is BreakerState.HALF_OPEN:
            if self._probing + self._passed >= self.policy.probes:
                return None
            self._probing += 1
            return Permit(self._era, probe=True)
        return Permit(self._era, probe=False)

    def settle(self, permit: Permit, verdict: Verdict) -> None:
        """Says how an admitted call went. One that began in an earlier state no longer counts."""
        if permit.era != self._era:
            return
        if permit.probe:
            self._settle_probe(verdict)
        elif verdict is not Verdict.NEUTRAL:
            now = self._clock()
            self._settled.append((now, verdict is Verdict.FAILED))
            if verdict is Verdict.FAILED and self._too_many(now):
                self._wait = self.policy.reset_after
                self._open()

    def _settle_probe(self, verdict: Verdict) -> None:
        self._probing -= 1
        if verdict is Verdict.FAILED:
            self._wait = min(self.policy.reset_most, self._wait * 2)
            self._open()
        elif verdict is Verdict.HEALTHY:
            self._passed += 1
            if self._passed >= self.policy.probes:
                self._enter(BreakerState.CLOSED)

    def _too_many(self, now: float) -> bool:
        while self._settled and self._settled[0][0] <= now - self.policy.window:
            self._settled.popleft()
        failed = sum(failed for _, failed in self._settled)
        if failed < self.policy.failures:
            return False
        newest = islice(reversed(self._settled), self.policy.failures)
        return all(failed for _, failed in newest) or failed >= self.policy.share * len(self._settled)

    def _open(self) -> None:
        self._enter(BreakerState.OPEN)
        self._until = self._clock() + self._wait

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        self._settled.clear()
        self._probing = self._passed = 0
