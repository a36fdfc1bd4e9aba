"""The queue and the slots: urgent first, each key once, failures wait longer."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soma_operator.catalog.kinds import SOMA_MEMORY, Ref
from soma_operator.cluster.throttle import Throttle
from soma_operator.reconcile.queue import KeyedQueue, Priority
from soma_operator.reconcile.slots import RolloutSlots


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def key(name: str) -> Ref:
    return Ref(SOMA_MEMORY, "team", name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> KeyedQueue:
    return KeyedQueue(clock=clock, jitter=lambda: 0.5)


def test_a_key_waits_once_however_often_it_is_added(queue: KeyedQueue) -> None:
    for _ in range(3):
        queue.add(key("a"))
    assert queue.take() == (key("a"), None)
    queue.done(key("a"))
    assert queue.take() == (None, None)


def test_the_urgent_go_first(queue: KeyedQueue) -> None:
    queue.add(key("routine"), Priority.ROUTINE)
    queue.add(key("child"), Priority.CHILD)
    queue.add(key("changed"), Priority.CHANGED)
    assert [queue.take()[0] for _ in range(3)] == [key("changed"), key("child"), key("routine")]


def test_a_waiting_key_becomes_urgent(queue: KeyedQueue) -> None:
    queue.add(key("a"), Priority.ROUTINE, 50)
    assert queue.take() == (None, 50)
    queue.add(key("a"), Priority.CHANGED)
    assert queue.take()[0] == key("a")
    queue.done(key("a"))
    assert queue.take() == (None, None), "the later turn went with it"


def test_a_later_addition_does_not_postpone(queue: KeyedQueue, clock: Clock) -> None:
    queue.add(key("a"), Priority.CHILD, 1)
    queue.add(key("a"), Priority.CHILD, 100)
    clock.now += 1
    assert queue.take()[0] == key("a")


def test_a_key_that_is_worked_on_is_given_out_again_afterwards(queue: KeyedQueue) -> None:
    queue.add(key("a"))
    queue.take()
    queue.add(key("a"))
    assert queue.take() == (None, None)
    queue.done(key("a"))
    assert queue.take()[0] == key("a")


def test_failures_wait_longer_each_time_and_success_forgives(queue: KeyedQueue) -> None:
    waits = [queue.retry(key("a")) for _ in range(10)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == 120.0
    assert queue.retry(key("b"), at_least=30) == 30
    queue.succeeded(key("a"))
    assert queue.retry(key("a")) == 0.5


def test_one_poison_key_does_not_starve_others(queue: KeyedQueue, clock: Clock) -> None:
    queue.add(key("poison"), Priority.CHANGED)
    for number in range(5):
        queue.add(key(str(number)), Priority.ROUTINE)
    served = []
    for _ in range(6):
        taken, _ = queue.take()
        assert taken is not None
        served.append(taken.name)
        if taken.name == "poison":
            queue.retry(taken)
        queue.done(taken)
        clock.now += 0.01
    assert served == ["poison", "0", "1", "2", "3", "4"]


@settings(deadline=None)  # a loaded machine is no defect
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(list(Priority)), st.floats(0, 10)), max_size=40))
def test_nothing_is_lost_and_nothing_doubled(additions: list[tuple[str, Priority, float]]) -> None:
    clock = Clock()
    queue = KeyedQueue(clock=clock, jitter=lambda: 0.0)
    for name, priority, delay in additions:
        queue.add(key(name), priority, delay)
    clock.now += 10
    taken = []
    while (found := queue.take()[0]) is not None:
        taken.append(found.name)
        queue.done(found)
    assert sorted(taken) == sorted({name for name, _, _ in additions})
    assert len(queue) == 0


async def test_get_wakes_when_something_is_added() -> None:
    loop = asyncio.get_running_loop()
    queue = KeyedQueue(clock=loop.time)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0.01)
    queue.add(key("a"), delay=0.02)
    assert await asyncio.wait_for(waiting, 1) == key("a")


def test_slots_bound_the_rollouts_at_once_and_rest_afterwards(clock: Clock) -> None:
    slots = RolloutSlots(1, 10.0, clock)
    assert slots.take(key("a"))
    assert slots.take(key("a")), "a held slot stays held"
    assert not slots.take(key("b"))
    slots.release(key("a"))
    assert not slots.take(key("b")), "the slot rests"
    clock.now += 10.1
    assert slots.take(key("b"))
    clock.now += 1000
    assert slots.take(key("c")), "a rollout that never ends does not block the fleet for ever"


def test_the_throttle_grants_a_burst_and_then_the_rate(clock: Clock) -> None:
    throttle = Throttle(10, clock=clock)
    waits = [throttle.delay() for _ in range(25)]
    assert waits[:20] == [0.0] * 20
    assert waits[20:] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    clock.now += 10
    assert throttle.delay() == 0.0
