"""One policy for every call to a back end: deadline, bulkhead, circuit breaker, retries, span, metrics.

    guard = Guard("redis", GuardPolicy(attempt_timeout=0.5), classify=redis_failure, metrics=metrics.backends)
    value = await guard.run("get", lambda: client.get(key), retry=Retry.SAFE)

`guard` puts the pieces together; `breaker`, `bulkhead` and `backoff` are values and small machines that take the clock
and the dice as arguments; `deadline` is the caller's, carried in a context variable from the surface that knows it.
Imports model and telemetry; OpenTelemetry where it is installed.
"""

from __future__ import annotations

from memory_runtime.stores.resilience.backoff import Backoff, RetryBudget
from memory_runtime.stores.resilience.breaker import Breaker, BreakerPolicy, BreakerState, Verdict
from memory_runtime.stores.resilience.bulkhead import Bulkhead
from memory_runtime.stores.resilience.deadline import deadline_after, remaining
from memory_runtime.stores.resilience.failures import Failure, Retry, socket_failure
from memory_runtime.stores.resilience.guard import Guard, GuardPolicy
from memory_runtime.stores.resilience.halving import in_halves, is_of_an_item

__all__ = [
    "Backoff",
    "Breaker",
    "BreakerPolicy",
    "BreakerState",
    "Bulkhead",
    "Failure",
    "Guard",
    "GuardPolicy",
    "Retry",
    "RetryBudget",
    "Verdict",
    "deadline_after",
    "in_halves",
    "is_of_an_item",
    "remaining",
    "socket_failure",
]
