"""The circuit breaker against a plain model of it, and the behaviours that a reader wants spelled out."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memory_runtime.stores.resilience import Breaker, BreakerPolicy, BreakerState, Verdict
from memory_runtime.stores.resilience.breaker import Permit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        permit = breaker.admit()
        assert permit is not None
        breaker.settle(permit, Verdict.FAILED)


def test_it_opens_at_the_threshold_and_probes_when_its_time_is_up() -> None:
    clock = Clock()
    breaker = Breaker(BreakerPolicy(failures=3, reset_after=2.0, probes=2), clock)
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    fail(breaker, 1)
    assert breaker.state is BreakerState.OPEN
    assert breaker.admit() is None
    assert breaker.retry_after == 2.0
    clock.now += 2.0
    first, second = breaker.admit(), breaker.admit()
    assert first is not None
    assert second is not None
    assert breaker.admit() is None, "no more than the probes may pass"
    breaker.settle(first, Verdict.HEALTHY)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.settle(second, Verdict.HEALTHY)
    assert breaker.state is BreakerState.CLOSED


def test_each_failed_probe_doubles_the_wait_up_to_its_most() -> None:
    clock = Clock()
    breaker = Breaker(BreakerPolicy(failures=1, reset_after=1.0, reset_most=3.0), clock)
    fail(breaker, 1)
    waits = []
    for _ in range(3):
        waits.append(breaker.retry_after)
        clock.now += breaker.retry_after
        fail(breaker, 1)
    assert [*waits, breaker.retry_after] == [1.0, 2.0, 3.0, 3.0]


def test_after_a_recovery_the_wait_is_short_again() -> None:
    clock = Clock()
    breaker = Breaker(BreakerPolicy(failures=1, reset_after=1.0, probes=1), clock)
    fail(breaker, 1)
    clock.now += 1.0
    fail(breaker, 1)
    clock.now += 2.0
    permit = breaker.admit()
    assert permit is not None
    breaker.settle(permit, Verdict.HEALTHY)
    fail(breaker, 1)
    assert breaker.retry_after == 1.0


def test_old_failures_and_a_small_share_of_failures_do_not_open_it() -> None:
    clock = Clock()
    breaker = Breaker(BreakerPolicy(failures=3, window=10.0, share=0.5), clock)
    fail(breaker, 2)
    clock.now += 10.0
    fail(breaker, 2)
    assert breaker.state is BreakerState.CLOSED
    for verdict in [Verdict.HEALTHY] * 6 + [Verdict.HEALTHY, Verdict.FAILED, Verdict.HEALTHY] * 5:
        permit = breaker.admit()
        assert permit is not None
        breaker.settle(permit, verdict)
    assert breaker.state is BreakerState.CLOSED, "7 of 23, never in a row, is no outage"
    fail(breaker, 3)
    assert breaker.state is BreakerState.OPEN, "three in a row are one, however well it went before"


def test_what_began_before_it_opened_says_nothing_about_the_recovery() -> None:
    clock = Clock()
    breaker = Breaker(BreakerPolicy(failures=1, reset_after=1.0, probes=1), clock)
    slow = breaker.admit()
    assert slow is not None
    fail(breaker, 1)
    clock.now += 1.0
    probe = breaker.admit()
    assert probe is not None
    breaker.settle(slow, Verdict.HEALTHY)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.settle(probe, Verdict.NEUTRAL)
    assert breaker.admit() is not None, "a cancelled probe gives its place back"


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls, answers and time; the model counts by hand."""

    @initialize(
        failures=st.integers(1, 4),
        probes=st.integers(1, 3),
        share=st.sampled_from([0.1, 0.5, 1.0]),
        reset_after=st.sampled_from([1.0, 4.0]),
    )
    def begin(self, failures: int, probes: int, share: float, reset_after: float) -> None:
        self.clock = Clock()
        self.policy = BreakerPolicy(failures, 10.0, share, reset_after, 8.0, probes)
        self.breaker = Breaker(self.policy, self.clock)
        self.calls: list[tuple[Permit, int]] = []
        self.era = 0
        self.model: tuple[str, float] = ("closed", 0.0)
        self.wait = reset_after
        self.history: list[tuple[float, bool]] = []
        self.probing = self.passed = 0

    def enter(self, state: str) -> None:
        self.era += 1
        self.history, self.probing, self.passed = [], 0, 0
        self.model = (state, self.clock.now + self.wait)

    @rule()
    def admit(self) -> None:
        state, until = self.model
        if state == "open" and self.clock.now >= until:
            self.enter("half")
            state = "half"
        allowed = state == "closed" or (state == "half" and self.probing + self.passed < self.policy.probes)
        permit = self.breaker.admit()
        assert (permit is not None) == allowed
        if permit is not None:
            self.probing += state == "half"
            self.calls.append((permit, self.era))

    @precondition(lambda self: bool(self.calls))
    @rule(verdict=st.sampled_from(Verdict), which=st.integers(0, 99))
    def settle(self, verdict: Verdict, which: int) -> None:
        permit, era = self.calls.pop(which % len(self.calls))
        self.breaker.settle(permit, verdict)
        if era != self.era:
            return
        if self.model[0] == "half":
            self.probing -= 1
            if verdict is Verdict.FAILED:
                self.wait = min(8.0, self.wait * 2)
                self.enter("open")
            elif verdict is Verdict.HEALTHY:
                self.passed += 1
                if self.passed == self.policy.probes:
                    self.enter("closed")
        elif verdict is not Verdict.NEUTRAL:
            self.history.append((self.clock.now, verdict is Verdict.FAILED))
            recent = [failed for at, failed in self.history if at > self.clock.now - 10.0]
            if (
                verdict is Verdict.FAILED
                and sum(recent) >= self.policy.failures
                and (all(recent[-self.policy.failures :]) or sum(recent) >= self.policy.share * len(recent))
            ):
                self.wait = self.policy.reset_after
                self.enter("open")

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def agrees(self) -> None:
        state, until = self.model
        if state == "open" and self.clock.now >= until:
            state = "half"
        names = {BreakerState.CLOSED: "closed", BreakerState.HALF_OPEN: "half", BreakerState.OPEN: "open"}
        assert names[self.breaker.state] == state
        assert (self.breaker.retry_after > 0) == (state == "open")


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
