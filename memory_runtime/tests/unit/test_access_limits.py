"""Tenancy, rate limits and admission: who is meant, how often they may call, how much is let in at once."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.access import Admission, BodyBudget, FleetLimiter, RateLimiter, scope_of
from memory_runtime.model.errors import InvalidArgument, RateLimited, Unavailable
from memory_runtime.model.records import Scope
from memory_runtime.settings import SMFSettings

SETTINGS = SMFSettings()


@pytest.mark.parametrize(
    ("headers", "scope"),
    [
        ({}, Scope("default", "api_ns")),
        ({"x-soma-tenant": "acme"}, Scope("acme", "api_ns")),
        ({"x-soma-namespace": "brain"}, Scope("default", "brain")),
        ({"x-soma-namespace": "brain:acme"}, Scope("acme", "brain")),
        ({"x-soma-namespace": "a:b:acme"}, Scope("acme", "a:b")),
        ({"x-soma-namespace": ":acme"}, Scope("acme", "api_ns")),
        ({"x-soma-namespace": "brain:acme", "x-soma-tenant": "other"}, Scope("other", "brain")),
        ({"x-soma-namespace": " ", "x-soma-tenant": " "}, Scope("default", "api_ns")),
    ],
)
def test_scope_comes_from_the_headers_that_existing_clients_send(headers, scope):
    assert scope_of(headers, SETTINGS) == scope


@pytest.mark.parametrize("tenant", ["a\x1fb", "x" * 257, "a\nb"])
def test_tenant_that_could_collide_with_another_is_refused(tenant):
    with pytest.raises(InvalidArgument) as refused:
        scope_of({"x-soma-tenant": tenant}, SETTINGS)
    assert refused.value.field == "X-Soma-Tenant"


def test_rate_limit_is_of_the_caller_and_not_of_the_path():
    clock = [0.0]
    limiter = RateLimiter(3, 60.0, clock=lambda: clock[0])
    for _ in range(3):
        limiter.spend("a")
    with pytest.raises(RateLimited) as refused:
        limiter.spend("a")
    assert refused.value.retry_after == pytest.approx(20.0)
    limiter.spend("b")
    clock[0] = 20.1
    limiter.spend("a")


@given(gaps=st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_no_window_sees_more_than_twice_the_limit(gaps):
    clock, allowed = [0.0], []
    limiter = RateLimiter(5, 10.0, clock=lambda: clock[0])
    for gap in gaps:
        clock[0] += gap
        try:
            limiter.spend("a")
            allowed.append(clock[0])
        except RateLimited:
            pass
    assert all(sum(start <= t < start + 10.0 for t in allowed) <= 10 for start in allowed)


def test_limit_of_zero_is_no_limit_and_remembers_nobody():
    limiter = RateLimiter(0, 60.0)
    for caller in range(100):
        limiter.spend(caller)
    assert not limiter._buckets


def test_flood_of_callers_does_not_grow_the_table():
    limiter = RateLimiter(5, 60.0)
    for caller in range(10_500):
        limiter.spend(caller)
    assert len(limiter._buckets) == 10_000


def test_admission_refuses_beyond_the_bound_and_frees_the_place_after_an_error():
    admission = Admission(1)
    with contextlib.suppress(KeyError), admission.enter():
        with pytest.raises(Unavailable) as refused, admission.enter():
            pass
        assert refused.value.retry_after
        raise KeyError
    with admission.enter():
        assert admission.in_flight == 1


def test_admission_keeps_places_that_one_tenant_cannot_take():
    admission = Admission(4, of_one=3)
    with contextlib.ExitStack() as places:
        for _ in range(3):
            places.enter_context(admission.enter("hostile"))
        with pytest.raises(Unavailable), admission.enter("hostile"):
            pass
        places.enter_context(admission.enter("polite"))
    assert not admission._by_tenant
    with admission.enter("hostile"):
        assert admission.in_flight == 1


def test_body_budget_always_has_room_for_one_largest_body():
    budget = BodyBudget(10, room_for=100)
    budget.take(100)
    with pytest.raises(Unavailable):
        budget.take(1)
    budget.give_back(100)
    budget.take(1)


class SharedOf:
    """A shared rate that answers as it is told."""

    def __init__(self, answers):
        self.answers, self.asked = list(answers), 0

    async def wait(self, caller, limit, window):
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else 0.0
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_what_the_fleet_refused_is_not_held_against_the_replica():
    shared = SharedOf([7.0] * 50)
    limiter = FleetLimiter(2, 3600.0, shared)
    for _ in range(50):
        with pytest.raises(RateLimited) as refused:
            await limiter.spend(("a", "t"))
        assert refused.value.retry_after == 7.0
    for _ in range(2):
        await limiter.spend(("a", "t"))
    with pytest.raises(RateLimited):
        await limiter.spend(("a", "t"))
    assert shared.asked == 52, "what one replica alone has seen too often is not asked about"


async def test_a_shared_rate_that_is_lost_leaves_the_local_limit():
    limiter = FleetLimiter(3, 3600.0, SharedOf([Unavailable("away")] * 9))
    for _ in range(3):
        await limiter.spend(("a", "t"))
    with pytest.raises(RateLimited):
        await limiter.spend(("a", "t"))


async def test_no_limit_asks_nobody():
    shared = SharedOf([])
    await FleetLimiter(0, 60.0, shared).spend(("a", "t"))
    assert shared.asked == 0


def test_each_refusal_of_admission_is_told():
    told = []
    admission = Admission(1, refused=lambda: told.append("in_flight"))
    budget = BodyBudget(10, refused=lambda: told.append("bytes"))
    with admission.enter(), pytest.raises(Unavailable), admission.enter():
        pass
    with pytest.raises(Unavailable):
        budget.take(11)
    assert told == ["in_flight", "bytes"]
