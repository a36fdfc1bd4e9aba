"""Recalls that wait for one another are answered together: each by what it asked, and a failure is its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest

from memory_runtime.engine.gathering import Answered, Gathering
from memory_runtime.engine.recalling import Query
from memory_runtime.engine.types import RecallRequest, RecallResult
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Scope
from memory_runtime.stores.sessions import Ledger, LedgerView

ONE, OTHER = Scope("one", "notes"), Scope("one", "mail")
STRANGER = Scope("stranger", "notes")


class Reader:
    """A ledger of which nothing is read; a read can be held up."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.reads = 0

    async def read(self, query: Callable[[Any], Any]) -> Any:
        self.reads += 1
        return await asyncio.to_thread(self._now, query)

    def _now(self, query: Callable[[Any], Any]) -> Any:
        assert self.open.wait(10)
        return query(None)


class Answers:
    """Answers a query with its own number; some numbers are refused."""

    def __init__(self, refused: Sequence[int] = ()) -> None:
        self.refused = refused
        self.batches: list[tuple[Scope, list[int]]] = []
        self.moments: list[set[float]] = []

    def __call__(self, view: LedgerView, scope: Scope, queries: Sequence[Query]) -> list[RecallResult]:
        numbers = [query.request.top_k for query in queries]
        self.batches.append((scope, numbers))
        self.moments.append({query.now for query in queries})
        if set(numbers) & set(self.refused):
            raise InvalidArgument("refused", field="top_k")
        return [RecallResult((), number, query.now, "exact") for number, query in zip(numbers, queries, strict=True)]


def query(number: int) -> Query:
    return Query(RecallRequest(query="words", top_k=number), np.ones(3, np.float32), now=float(number), deadline=1e12)


def gathering(reader: Reader, answers: Answers) -> Gathering:
    return Gathering(cast(Ledger, reader), answers, clock=lambda: 1000.0)


def seqs(answered: Answered) -> list[int]:
    return [result.seq for result in answered.results]


async def test_who_comes_alone_is_answered_at_once_and_as_of_its_own_moment() -> None:
    reader, answers = Reader(), Answers()
    answered = await gathering(reader, answers).ask(ONE, [query(3)], 10**6)
    assert (seqs(answered), answered.queries[0].now) == ([3], 3.0)
    assert answers.batches == [(ONE, [3])]


async def test_who_waits_is_answered_with_all_others_that_wait_each_by_what_it_asked() -> None:
    reader, answers = Reader(), Answers()
    desk = gathering(reader, answers)
    reader.open.clear()
    first = asyncio.create_task(desk.ask(ONE, [query(1)], 10**6))
    await asyncio.sleep(0.05)
    scopes = [ONE, OTHER, ONE, OTHER, ONE]
    rest = [
        asyncio.create_task(desk.ask(scope, [query(10 * n), query(10 * n + 1)], 10**6))
        for n, scope in enumerate(scopes, 1)
    ]
    await asyncio.sleep(0.05)
    reader.open.set()
    assert seqs(await first) == [1]
    assert [seqs(await one) for one in rest] == [[10 * n, 10 * n + 1] for n in range(1, 6)]
    assert reader.reads == 2
    assert answers.batches[1:] == [(ONE, [10, 11, 30, 31, 50, 51]), (OTHER, [20, 21, 40, 41])]
    assert answers.moments[1:] == [{1000.0}, {1000.0}], "a batch is answered as of one moment"


async def test_a_refusal_is_of_the_one_that_is_refused() -> None:
    reader, answers = Reader(), Answers(refused=[20])
    desk = gathering(reader, answers)
    reader.open.clear()
    tasks = [asyncio.create_task(desk.ask(ONE, [query(n)], 10**6)) for n in (1, 10, 20, 30)]
    await asyncio.sleep(0.05)
    reader.open.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[2], InvalidArgument)
    assert [seqs(one) for one in found if isinstance(one, Answered)] == [[1], [10], [30]]


async def test_who_has_gone_is_not_answered_and_holds_nobody_up() -> None:
    reader, answers = Reader(), Answers()
    desk = gathering(reader, answers)
    reader.open.clear()
    first = asyncio.create_task(desk.ask(ONE, [query(1)], 10**6))
    await asyncio.sleep(0.05)
    gone, stays = (
        asyncio.create_task(desk.ask(ONE, [query(2)], 10**6)),
        asyncio.create_task(desk.ask(ONE, [query(3)], 10**6)),
    )
    await asyncio.sleep(0.05)
    gone.cancel()
    reader.open.set()
    assert (seqs(await first), seqs(await stays)) == ([1], [3])
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert answers.batches == [(ONE, [1]), (ONE, [3])]
    assert seqs(await desk.ask(ONE, [query(4)], 10**6)) == [4], "the lane is free again"


async def test_nobody_waits_for_the_batch_of_another_tenant() -> None:
    reader, answers = Reader(), Answers()
    desk = gathering(reader, answers)
    reader.open.clear()
    hostile = [asyncio.create_task(desk.ask(ONE, [query(n)], 10**6)) for n in range(1, 50)]
    await asyncio.sleep(0)
    polite = asyncio.create_task(desk.ask(STRANGER, [query(7)], 10**6))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reader.reads == 2, "the other tenant's recall waits in the line of the first"
    reader.open.set()
    assert seqs(await polite) == [7]
    await asyncio.gather(*hostile)
    assert not desk._lines, "the line of a tenant that is answered is kept"
