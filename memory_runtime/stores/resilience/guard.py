"""The guard that stands before a back end: every call of an adapter goes through its `run`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from memory_runtime.model.errors import DeadlineExceeded, Internal, SomaError, Unavailable
from memory_runtime.stores.resilience.backoff import Backoff, RetryBudget
from memory_runtime.stores.resilience.breaker import Breaker, BreakerPolicy, BreakerState, Verdict
from memory_runtime.stores.resilience.bulkhead import Bulkhead, BulkheadFull
from memory_runtime.stores.resilience.deadline import remaining
from memory_runtime.stores.resilience.failures import Classify, Failure, Retry, socket_failure
from memory_runtime.stores.resilience.tracing import call_span
from memory_runtime.telemetry.backends import BackendMetrics

T = TypeVar("T")
_EARLY = 0.001
"""Seconds by which a timer may fire before its time."""
_FAIR = 0.9
"""Share of its time that a back end must have had before its silence counts against it."""


@dataclass(frozen=True, slots=True)
class GuardPolicy:
    """The numbers of one adapter's guard; times in seconds.

    A call has `attempts` attempts of at most `attempt_timeout` each, and `timeout` in all, waits included; both are cut
    to the caller's deadline. `places` calls run at once and `seats` more may wait.
    """

    attempts: int = 3
    attempt_timeout: float = 5.0
    timeout: float = 15.0
    places: int = 64
    seats: int = 256
    backoff: Backoff = field(default_factory=Backoff)
    budget_ratio: float = 0.1
    budget_burst: float = 10.0
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)


class _Failed(Exception):  # noqa: N818 -- carries a failure to the loop that decides about a repeat
    def __init__(self, failure: Failure, cause: Exception) -> None:
        super().__init__(str(failure))
        self.failure, self.cause = failure, cause


class Guard:
    """One adapter's policy and its state: circuit, bulkhead, retry budget. Belongs to one event loop.

    The loop over attempts is written out: tenacity would leave deadline, budget and circuit, which decide here whether
    there is another attempt, to its callbacks, and costs a cache's read more than the read.
    """

    def __init__(
        self,
        adapter: str,
        policy: GuardPolicy | None = None,
        *,
        classify: Classify = socket_failure,
        metrics: BackendMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.adapter = adapter
        self.policy = policy or GuardPolicy()
        self.breaker = Breaker(self.policy.breaker, clock)
        self._classify, self._metrics = classify, metrics
        self._clock, self._sleep, self._dice = clock, sleep, dice
        self._budget = RetryBudget(self.policy.budget_ratio, self.policy.budget_burst)
        self._bulkhead = Bulkhead(self.policy.places, self.policy.seats)
        if metrics is not None:
            metrics.watch(adapter, lambda: (self.breaker.state, self._bulkhead.active, self._bulkhead.waiting))

    async def run(
        self,
        operation: str,
        call: Callable[[], Awaitable[T]],
        *,
        retry: Retry = Retry.UNSENT,
        timeout: float | None = None,  # noqa: ASYNC109 -- it bounds all attempts and waits together
    ) -> T:
        """Calls `call`, anew for each attempt, and returns what it returned.

        `operation` names it in metrics and spans: a fixed word, never a key. `timeout` replaces the policy's. Raises
        Unavailable (away, too slow, shed, or the circuit is open), DeadlineExceeded (the caller's deadline passed),
        Internal (the back end refused); SomaErrors and what `classify` disowns come out as they are.
        """
        started = self._clock()
        attempts = 0
        outcome, heard = "ok", None
        with call_span(self.adapter, operation) as span:
            try:
                allowed = self._allowed(operation, self.policy.timeout if timeout is None else timeout)
                # the clock is read after the deadline was: else a pause between would end the call just before it
                ends = self._clock() + allowed
                self._budget.deposit()
                while True:
                    attempts += 1
                    try:
                        return await self._attempt(operation, call, ends)
                    except _Failed as failed:
                        if not await self._again(operation, failed.failure, retry, attempts, ends):
                            final = self._final(operation, failed)
                            raise final from (None if final is failed.cause else failed.cause)
            except BaseException as error:
                outcome, heard = _outcome(error), error
                raise
            finally:
                span.end(outcome, attempts, heard)
                if self._metrics is not None:
                    self._metrics.record(self.adapter, operation, outcome, self._clock() - started)

    def _allowed(self, operation: str, most: float) -> float:
        left = remaining()
        if left is not None and left <= 0:
            raise self._too_late(operation)
        return most if left is None else min(most, left)

    async def _attempt(self, operation: str, call: Callable[[], Awaitable[T]], ends: float) -> T:
        left = max(0.0, ends - self._clock())
        if self.breaker.state is BreakerState.OPEN:
            raise self._open()
        try:
            async with asyncio.timeout(left) as queueing, self._bulkhead.place():
                queueing.reschedule(None)
                return await self._admitted(operation, call, ends)
        except BulkheadFull:
            raise _Shed(
                f"{self.adapter}: {self.policy.places} calls are under way and {self.policy.seats} wait",
                remedy="try again; where it stays so, give the back end more room or send less",
                retry_after=1.0,
            ) from None
        except TimeoutError as error:
            if queueing.expired():
                raise self._too_late(operation) from error
            raise

    async def _admitted(self, operation: str, call: Callable[[], Awaitable[T]], ends: float) -> T:
        permit = self.breaker.admit()
        if permit is None:
            raise self._open()
        verdict = Verdict.NEUTRAL  # what is cancelled says nothing of the back end
        left = max(0.0, ends - self._clock())
        patience = min(self.policy.attempt_timeout, left)
        try:
            async with asyncio.timeout(patience) as limit:
                answer = await call()
            verdict = Verdict.HEALTHY
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                # a caller in more of a hurry than the policy must not open the circuit for all others
                if patience >= _FAIR * min(self.policy.attempt_timeout, self.policy.timeout):
                    verdict = Verdict.FAILED
                raise _Failed(Failure.AWAY, error) from error
            failure = self._classify(error)
            if failure in {Failure.AWAY, Failure.UNSENT}:
                verdict = Verdict.FAILED
            elif failure is not None:
                verdict = Verdict.HEALTHY
            if failure is None:
                raise
            raise _Failed(failure, error) from error
        else:
            return answer
        finally:
            self.breaker.settle(permit, verdict)

    async def _again(self, operation: str, failure: Failure, retry: Retry, attempts: int, ends: float) -> bool:
        """Waits for the next attempt, where there may be one: allowed, affordable, and in time."""
        if attempts >= self.policy.attempts or not retry.allows(failure):
            return False
        wait = self.policy.backoff.wait(attempts, self._dice())
        if self._clock() + wait >= ends or self.breaker.state is BreakerState.OPEN or not self._budget.withdraw():
            return False
        if self._metrics is not None:
            self._metrics.retries.labels(self.adapter, operation).inc()
        await self._sleep(wait)
        return True

    def _final(self, operation: str, failed: _Failed) -> SomaError:
        if isinstance(failed.cause, SomaError):
            return failed.cause
        if failed.failure is Failure.REFUSED:
            return Internal(
                f"{self.adapter} refused {operation} ({type(failed.cause).__name__})",
                remedy=f"see the log; check the credentials, rights and version of {self.adapter}",
            )
        left = remaining()
        if left is not None and left <= _EARLY:
            return self._too_late(operation)
        return Unavailable(
            f"{self.adapter}: {operation} failed ({type(failed.cause).__name__})",
            remedy=f"try again; where it stays so, see whether {self.adapter} is up and reachable",
            retry_after=max(1.0, self.breaker.retry_after),
        )

    def _too_late(self, operation: str) -> SomaError:
        left = remaining()
        if left is not None and left <= _EARLY:
            return DeadlineExceeded(
                f"{self.adapter}: the deadline passed during {operation}", field="deadline", remedy="allow more time"
            )
        return Unavailable(
            f"{self.adapter}: no place for {operation} within {self.policy.timeout:g} s",
            remedy="try again; where it stays so, send less",
            retry_after=1.0,
        )

    def _open(self) -> SomaError:
        wait = max(0.1, self.breaker.retry_after)
        return _CircuitOpen(
            f"{self.adapter} is away: its circuit is open",
            remedy=f"try again in {wait:.1f} s; see whether {self.adapter} is up and reachable",
            retry_after=wait,
        )


class _CircuitOpen(Unavailable):
    """The circuit is open: nothing was sent."""


class _Shed(Unavailable):
    """The bulkhead is full: nothing was sent."""


def _outcome(error: BaseException) -> str:
    """The metric's word for it."""
    if isinstance(error, _CircuitOpen):
        return "open"
    if isinstance(error, _Shed):
        return "shed"
    if isinstance(error, DeadlineExceeded):
        return "deadline"
    if isinstance(error, Unavailable):
        return "away"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return "refused" if isinstance(error, SomaError) else "error"
