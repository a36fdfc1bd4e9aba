"""The guard before every back end: what it repeats, when it stops, whom it turns away, and what it tells of it."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from memory_runtime.model.errors import Conflict, DeadlineExceeded, Internal, Unavailable
from memory_runtime.stores.resilience import (
    Backoff,
    BreakerPolicy,
    BreakerState,
    Failure,
    Guard,
    GuardPolicy,
    Retry,
    RetryBudget,
    deadline_after,
    remaining,
    socket_failure,
    tracing,
)
from memory_runtime.stores.resilience.deadline import no_deadline
from memory_runtime.telemetry.backends import BackendMetrics


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Away:
    """A back end that fails so many times with this, then answers."""

    def __init__(self, error: Exception, times: int = 10**6) -> None:
        self.error, self.times, self.calls = error, times, 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "answer"


def make(clock: Clock | None = None, registry: CollectorRegistry | None = None, **policy: object) -> Guard:
    clock = clock or Clock()
    metrics = BackendMetrics(registry) if registry else None
    return Guard("redis", GuardPolicy(**policy), metrics=metrics, clock=clock, sleep=clock.sleep, dice=lambda: 0.5)  # type: ignore[arg-type]


async def test_a_safe_call_is_repeated_after_growing_waits_with_full_jitter() -> None:
    clock = Clock()
    backend = Away(ConnectionResetError(), times=2)
    assert await make(clock, backoff=Backoff(base=0.1, cap=5.0)).run("get", backend, retry=Retry.SAFE) == "answer"
    assert clock.slept == [0.05, 0.1]


async def test_attempts_are_bounded_and_the_last_failure_is_unavailable_without_the_drivers_words() -> None:
    backend = Away(ConnectionResetError("redis://default:hunter2@host"))
    with pytest.raises(Unavailable) as caught:
        await make(attempts=3).run("get", backend, retry=Retry.SAFE)
    assert backend.calls == 3
    assert "hunter2" not in str(caught.value.body())
    assert caught.value.retry_after is not None


@pytest.mark.parametrize(
    ("retry", "error", "calls"),
    [
        (Retry.SAFE, ConnectionResetError(), 3),
        (Retry.SAFE, ConnectionRefusedError(), 3),
        (Retry.UNSENT, ConnectionResetError(), 1),
        (Retry.UNSENT, ConnectionRefusedError(), 3),
        (Retry.NEVER, ConnectionRefusedError(), 1),
        (Retry.SAFE, Conflict("no"), 1),
        (Retry.SAFE, ValueError("a defect"), 1),
    ],
)
async def test_only_what_is_safe_to_repeat_is_repeated(retry: Retry, error: Exception, calls: int) -> None:
    backend = Away(error)
    with pytest.raises((Unavailable, Conflict, ValueError)):
        await make().run("put", backend, retry=retry)
    assert backend.calls == calls


@pytest.mark.parametrize(("retry", "calls"), [(Retry.SAFE, 3), (Retry.UNSENT, 3), (Retry.NEVER, 1)])
async def test_what_the_back_end_undid_is_repeated_and_leaves_the_circuit_closed(retry: Retry, calls: int) -> None:
    backend = Away(KeyError("deadlock"))
    guard = Guard(
        "pg",
        GuardPolicy(breaker=BreakerPolicy(failures=1)),
        classify=lambda _: Failure.CONTENDED,
        sleep=Clock().sleep,
    )
    with pytest.raises(Unavailable):
        await guard.run("commit", backend, retry=retry)
    assert backend.calls == calls
    assert guard.breaker.state is BreakerState.CLOSED


async def test_a_refusal_is_internal_once_and_no_fault_of_the_back_ends_health() -> None:
    backend = Away(PermissionError("NOPERM user has no rights on key secret"))
    guard = Guard(
        "redis", GuardPolicy(breaker=BreakerPolicy(failures=1)), classify=lambda _: Failure.REFUSED, sleep=Clock().sleep
    )
    with pytest.raises(Internal) as caught:
        await guard.run("get", backend, retry=Retry.SAFE)
    assert backend.calls == 1
    assert "secret" not in str(caught.value)
    assert guard.breaker.state is BreakerState.CLOSED


async def test_when_everything_fails_the_budget_bounds_the_repeats() -> None:
    clock = Clock()
    backend = Away(ConnectionResetError())
    guard = make(clock, attempts=5, budget_ratio=0.1, budget_burst=10.0, breaker=BreakerPolicy(failures=10**6))
    for _ in range(200):
        with pytest.raises(Unavailable):
            await guard.run("get", backend, retry=Retry.SAFE)
    assert 200 <= backend.calls <= 200 + 10 + 20


@given(ratio=st.floats(0.0, 1.0), burst=st.floats(1.0, 20.0), firsts=st.integers(0, 200))
def test_no_order_of_calls_overdraws_the_budget(ratio: float, burst: float, firsts: int) -> None:
    budget = RetryBudget(ratio, burst)
    repeats = 0
    for _ in range(firsts):
        budget.deposit()
        while budget.withdraw():
            repeats += 1
    assert repeats <= burst + ratio * firsts + 1e-6


@given(repeat=st.integers(1, 10_000), dice=st.floats(0.0, 1.0, exclude_max=True))
def test_a_wait_is_within_zero_and_its_cap(repeat: int, dice: float) -> None:
    assert 0.0 <= Backoff(0.05, 2.0).wait(repeat, dice) <= 2.0


async def test_the_open_circuit_turns_calls_away_unsent_and_probes_find_the_recovery() -> None:
    clock = Clock()
    registry = CollectorRegistry()
    guard = make(clock, registry, attempts=1, breaker=BreakerPolicy(failures=2, reset_after=5.0, probes=1))
    backend = Away(ConnectionResetError(), times=2)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await guard.run("get", backend)
    with pytest.raises(Unavailable, match="circuit is open") as caught:
        await guard.run("get", backend)
    assert backend.calls == 2
    assert caught.value.retry_after == 5.0
    assert registry.get_sample_value("soma_backend_circuit_state", {"adapter": "redis"}) == 2
    clock.now += 5.0
    assert await guard.run("get", backend) == "answer"
    assert registry.get_sample_value("soma_backend_circuit_state", {"adapter": "redis"}) == 0
    counted = {
        outcome: registry.get_sample_value(
            "soma_backend_calls_total", {"adapter": "redis", "operation": "get", "outcome": outcome}
        )
        for outcome in ("ok", "away", "open")
    }
    assert counted == {"ok": 1.0, "away": 2.0, "open": 1.0}


async def test_a_repeat_is_not_made_once_the_circuit_has_opened() -> None:
    backend = Away(ConnectionResetError())
    with pytest.raises(Unavailable):
        await make(attempts=9, breaker=BreakerPolicy(failures=2)).run("get", backend, retry=Retry.SAFE)
    assert backend.calls == 2


async def test_a_wait_that_would_pass_the_time_out_is_not_begun() -> None:
    clock = Clock()
    backend = Away(ConnectionResetError())
    with pytest.raises(Unavailable):
        await make(clock, backoff=Backoff(base=8.0, cap=8.0), timeout=3.0).run("get", backend, retry=Retry.SAFE)
    assert (backend.calls, clock.slept) == (1, [])


async def test_the_callers_deadline_ends_a_call_and_does_not_open_the_circuit_for_others() -> None:
    guard = Guard("redis", GuardPolicy(breaker=BreakerPolicy(failures=1)))
    with deadline_after(0.02), pytest.raises(DeadlineExceeded):
        await guard.run("get", lambda: asyncio.sleep(60), retry=Retry.SAFE)
    assert guard.breaker.state is BreakerState.CLOSED
    with deadline_after(0.02):
        await asyncio.sleep(0.03)
        backend = Away(ConnectionResetError())
        with pytest.raises(DeadlineExceeded):
            await guard.run("get", backend)
    assert backend.calls == 0, "what nobody waits for any more is not sent"


@pytest.mark.parametrize("in_all", [0.02, 15.0])
async def test_a_back_end_slower_than_its_time_out_is_away_and_opens_the_circuit(in_all: float) -> None:
    policy = GuardPolicy(attempt_timeout=0.02, timeout=in_all, attempts=1, breaker=BreakerPolicy(failures=1))
    guard = Guard("redis", policy)
    with pytest.raises(Unavailable):
        await guard.run("get", lambda: asyncio.sleep(60))
    assert guard.breaker.state is BreakerState.OPEN


async def test_a_deadline_only_shortens_and_background_work_may_shed_it() -> None:
    assert remaining() is None
    with deadline_after(10.0), deadline_after(60.0):
        left = remaining()
        assert left is not None
        assert left <= 10.0
        assert await asyncio.create_task(_left()) is not None
        with no_deadline():
            assert remaining() is None
        with deadline_after(None):
            assert remaining() is not None
    assert remaining() is None


async def _left() -> float | None:
    return remaining()


async def test_places_and_seats_are_bounded_and_the_rest_is_turned_away_at_once() -> None:
    registry = CollectorRegistry()
    metrics = BackendMetrics(registry)
    guard = Guard("redis", GuardPolicy(places=2, seats=3), metrics=metrics)
    release = asyncio.Event()
    most = now = 0

    async def call() -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await release.wait()
        now -= 1

    tasks = [asyncio.create_task(guard.run("get", call)) for _ in range(5)]
    await asyncio.sleep(0)
    started = time.monotonic()
    with pytest.raises(Unavailable, match="3 wait"):
        await guard.run("get", call)
    assert time.monotonic() - started < 1.0
    assert registry.get_sample_value("soma_backend_calls_active", {"adapter": "redis"}) == 2
    assert registry.get_sample_value("soma_backend_calls_waiting", {"adapter": "redis"}) == 3
    release.set()
    await asyncio.gather(*tasks)
    assert most == 2
    assert registry.get_sample_value("soma_backend_calls_active", {"adapter": "redis"}) == 0


async def test_cancelled_calls_give_their_place_back_wherever_they_were() -> None:
    guard = Guard("redis", GuardPolicy(places=1, seats=5))
    tasks = [asyncio.create_task(guard.run("get", lambda: asyncio.sleep(60))) for _ in range(4)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.wait_for(guard.run("get", Away(OSError(), times=0)), 1.0) == "answer"
    assert guard.breaker.state is BreakerState.CLOSED


async def test_waiting_for_a_place_ends_with_the_deadline() -> None:
    guard = Guard("redis", GuardPolicy(places=1))
    holder = asyncio.create_task(guard.run("get", lambda: asyncio.sleep(60)))
    await asyncio.sleep(0)
    with deadline_after(0.02), pytest.raises(DeadlineExceeded):
        await guard.run("get", Away(OSError(), times=0))
    with pytest.raises(Unavailable):
        await guard.run("get", Away(OSError(), times=0), timeout=0.02)
    holder.cancel()


async def test_a_span_tells_adapter_operation_outcome_and_attempts_but_no_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "recording", lambda: True)
    monkeypatch.setattr(tracing.trace, "get_tracer", provider.get_tracer)
    with pytest.raises(Unavailable):
        await make(attempts=2).run("get", Away(ConnectionResetError("hunter2")), retry=Retry.SAFE)
    (span,) = exporter.get_finished_spans()
    assert span.name == "redis get"
    assert span.attributes is not None
    assert (span.attributes["soma.outcome"], span.attributes["soma.attempts"]) == ("away", 2)
    assert "hunter2" not in span.to_json()


async def test_without_opentelemetry_calls_are_made_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "trace", None)
    assert await make().run("get", Away(OSError(), times=0)) == "answer"


def test_pythons_own_errors_are_told_apart() -> None:
    def kind(error: Exception) -> Failure | None:
        return socket_failure(error)

    assert kind(ConnectionRefusedError()) is Failure.UNSENT
    assert kind(BrokenPipeError()) is Failure.AWAY
    assert kind(EOFError()) is Failure.AWAY
    assert kind(Unavailable("x")) is Failure.AWAY
    assert kind(Conflict("x")) is Failure.REFUSED
    assert kind(ZeroDivisionError()) is None
