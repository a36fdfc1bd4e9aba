"""What is counted of calls to back ends, the same for every adapter. `operation` and `outcome` are fixed words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


Watched = Callable[[], tuple[int, int, int]]
"""The state of a guard's circuit, its calls under way, and its calls waiting."""


class BackendMetrics:
    """Outcomes: ok, refused, away, open (circuit), shed (bulkhead), deadline, cancelled, error (a defect)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "soma_backend_calls_total", "Calls to back ends.", ("adapter", "operation", "outcome"), registry=registry
        )
        self.seconds = Histogram(
            "soma_backend_call_seconds",
            "Time of a call to a back end, waits and repeats included.",
            ("adapter", "operation"),
            registry=registry,
            buckets=_LATENCY,
        )
        self.retries = Counter(
            "soma_backend_retries_total", "Repeats of calls to back ends.", ("adapter", "operation"), registry=registry
        )
        self._guards: dict[str, list[Watched]] = {}
        self.breaker = Gauge(
            "soma_backend_circuit_state",
            "0 closed, 1 half-open, 2 open; the worst of the adapter's circuits.",
            ("adapter",),
            registry=registry,
        )
        self.active = Gauge("soma_backend_calls_active", "Calls under way.", ("adapter",), registry=registry)
        self.waiting = Gauge(
            "soma_backend_calls_waiting", "Calls that wait for a place.", ("adapter",), registry=registry
        )

    def watch(self, adapter: str, guard: Watched) -> None:
        """Asks the guard at each scrape; an adapter may have several."""
        guards = self._guards.setdefault(adapter, [])
        guards.append(guard)
        self.breaker.labels(adapter).set_function(lambda: max(one()[0] for one in guards))
        self.active.labels(adapter).set_function(lambda: sum(one()[1] for one in guards))
        self.waiting.labels(adapter).set_function(lambda: sum(one()[2] for one in guards))

    def record(self, adapter: str, operation: str, outcome: str, seconds: float) -> None:
        """A call is over."""
        self.calls.labels(adapter, operation, outcome).inc()
        self.seconds.labels(adapter, operation).observe(seconds)
