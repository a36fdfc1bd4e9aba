"""Reader threads are shared between tenants: turns go round, and no tenant has more than its share of them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from memory_runtime.model.actor import current_tenant, work_for
from memory_runtime.model.errors import DeadlineExceeded, Unavailable
from memory_runtime.stores.resilience.deadline import check_time, deadline_after
from memory_runtime.stores.resilience.readers import MOST_WAITING, FairReaders


class Work:
    """Jobs that wait until they are let go, and what has begun."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun: list[str] = []
        self._changed = threading.Condition()

    def __call__(self) -> str:
        tenant = current_tenant()
        with self._changed:
            self.begun.append(tenant)
            self._changed.notify_all()
        assert self.open.wait(30)
        return tenant

    def wait_for(self, condition: Callable[[Counter[str]], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(Counter(self.begun)), 30), self.begun


@pytest.fixture
def readers() -> Iterator[FairReaders]:
    made = FairReaders(4, "test-reader")
    yield made
    made.shutdown()


def asked(readers: FairReaders, tenant: str, work: Callable[[], Any]) -> Future[Any]:
    work_for(tenant)
    try:
        return readers.submit(work)
    finally:
        work_for("")


def test_one_tenant_has_half_of_the_threads_and_the_others_are_answered(readers: FairReaders) -> None:
    held, free = Work(), Work()
    free.open.set()
    hostile = [asked(readers, "hostile", held) for _ in range(100)]
    held.wait_for(lambda begun: begun["hostile"] == readers.share)
    polite = [asked(readers, f"polite-{n}", free) for n in range(20)]
    assert [one.result(30) for one in polite] == [f"polite-{n}" for n in range(20)]
    assert held.begun == ["hostile"] * readers.share, "a tenant had more than its share"
    held.open.set()
    assert [one.result(30) for one in hostile] == ["hostile"] * 100


def test_turns_go_round_between_tenants() -> None:
    readers, held, free = FairReaders(1, "test-reader"), Work(), Work()
    free.open.set()
    asked(readers, "first", held)
    held.wait_for(lambda begun: begun["first"] == 1)
    waiting = [asked(readers, "many", free) for _ in range(50)] + [asked(readers, "few", free) for _ in range(2)]
    held.open.set()
    for one in waiting:
        one.result(30)
    assert free.begun[:4] == ["many", "few", "many", "few"]
    readers.shutdown()


def test_who_has_gone_is_not_worked_for_and_too_many_are_refused(readers: FairReaders) -> None:
    held, never = Work(), Work()
    for tenant in ("a", "b"):
        for _ in range(2):
            asked(readers, tenant, held)
    held.wait_for(lambda begun: begun.total() == 4)
    gone = asked(readers, "a", never)
    assert gone.cancel()
    waiting = [asked(readers, "a", held) for _ in range(MOST_WAITING - 1)]
    with pytest.raises(Unavailable):
        asked(readers, "c", held)
    held.open.set()
    assert {one.result(30) for one in waiting} == {"a"}
    with pytest.raises(CancelledError):
        gone.result(30)
    assert not never.begun


def test_the_callers_deadline_goes_with_the_work(readers: FairReaders) -> None:
    with deadline_after(-1.0), pytest.raises(DeadlineExceeded):
        readers.submit(check_time).result(30)
    assert readers.submit(check_time).result(30) is None


def test_what_waits_at_the_end_is_refused() -> None:
    readers, held = FairReaders(1, "test-reader"), Work()
    running = readers.submit(held)
    held.wait_for(lambda begun: begun.total() == 1)
    waiting = readers.submit(held)
    closing = threading.Thread(target=readers.shutdown)
    closing.start()
    with pytest.raises(Unavailable):
        waiting.result(30)
    held.open.set()
    closing.join(30)
    assert running.result(30) == ""
    with pytest.raises(Unavailable):
        readers.submit(held)
