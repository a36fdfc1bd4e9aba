"""Recalls that would wait for one another are answered together: one pass over the index, one query for the records.

Who comes first is answered at once, alone. Who comes meanwhile waits for it and is then answered with all others that
wait, as a group commit does for writes: under load a batch costs little more than one, and few threads contend.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from memory_runtime.engine.recalling import Query
from memory_runtime.engine.types import RecallResult
from memory_runtime.model.actor import work_for
from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.records import Scope
from memory_runtime.stores.answer_size import answer_of
from memory_runtime.stores.resilience.deadline import deadline_after
from memory_runtime.stores.sessions import Ledger, LedgerView

MOST: Final = 64
"""Queries of one batch: nobody waits for more."""


class Answered(NamedTuple):
    """Results in order, and the queries as they were asked: those of a batch share one moment."""

    queries: Sequence[Query]
    results: list[RecallResult]


Answer = Callable[[LedgerView, Scope, Sequence[Query]], list[RecallResult]]
"""Answers queries of one scope on a reader's thread."""


@dataclass(slots=True, eq=False)
class _Waiting:
    scope: Scope
    queries: Sequence[Query]
    most: int
    future: asyncio.Future[Answered]


class Gathering:
    """The recalls of one engine that may share a batch: those of one tenant. Belongs to the event loop.

    Each tenant has a line of its own and one batch at work, so that nobody waits for another tenant's searches.
    """

    def __init__(self, ledger: Ledger, answer: Answer, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._answer = answer
        self._clock = clock
        self._lines: dict[str, deque[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, scope: Scope, queries: Sequence[Query], most: int) -> Answered:
        """The answers of one caller's queries, of `most` bytes at most. Raises what each alone would raise."""
        line = self._lines.get(scope.tenant)
        if line is None:
            self._lines[scope.tenant] = deque()
            try:
                with answer_of(most):
                    results = await self._ledger.read(lambda view: self._answer(view, scope, queries))
            finally:
                self._go_on(scope.tenant)
            return Answered(queries, results)
        waiting = _Waiting(scope, queries, most, asyncio.get_running_loop().create_future())
        line.append(waiting)
        return await waiting.future

    def _go_on(self, tenant: str) -> None:
        """After a batch of the tenant: the next, if somebody waits."""
        if not self._lines[tenant]:
            del self._lines[tenant]
            return
        # of no caller: neither the deadline nor the trace of one is the batch's
        context = contextvars.Context()
        context.run(work_for, tenant)
        task = asyncio.get_running_loop().create_task(self._serve(tenant), name="recalls", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, tenant: str) -> None:
        batch: list[_Waiting] = []
        try:
            while batch := self._next(self._lines[tenant]):
                now = self._clock()
                for one in batch:
                    one.queries = [replace(query, now=now) for query in one.queries]
                fates = await self._read(batch)
                for one, fate in zip(batch, fates, strict=True):
                    if one.future.done():
                        continue
                    if isinstance(fate, Exception):
                        one.future.set_exception(fate)
                    else:
                        one.future.set_result(Answered(one.queries, fate))
        except BaseException as error:
            fault = error if isinstance(error, Exception) else Unavailable("the runtime is stopping", retry_after=1.0)
            for one in batch:
                if not one.future.done():
                    one.future.set_exception(fault)
            if not isinstance(error, Exception):
                raise
        finally:
            self._go_on(tenant)

    async def _read(self, batch: Sequence[_Waiting]) -> list[list[RecallResult] | Exception]:
        """The batch's fates; the time it has is what the most patient of it has."""
        latest = max(query.deadline for one in batch for query in one.queries)
        most = sum(one.most for one in batch)
        with deadline_after(latest - time.monotonic()), answer_of(most):
            return await self._ledger.read(lambda view: self._fates(view, batch))

    @staticmethod
    def _next(line: deque[_Waiting]) -> list[_Waiting]:
        batch: list[_Waiting] = []
        count = 0
        while line and (not batch or count + len(line[0].queries) <= MOST):
            one = line.popleft()
            if not one.future.done():  # done: who asked has gone
                batch.append(one)
                count += len(one.queries)
        return batch

    def _fates(self, view: LedgerView, batch: Sequence[_Waiting]) -> list[list[RecallResult] | Exception]:
        """Each one's answer, or why it has none; what fails for all is asked for each alone."""
        fates: list[list[RecallResult] | Exception] = [[] for _ in batch]
        by_scope: dict[Scope, list[int]] = {}
        for position, one in enumerate(batch):
            by_scope.setdefault(one.scope, []).append(position)
        for scope, positions in by_scope.items():
            together = [query for position in positions for query in batch[position].queries]
            try:
                results = iter(self._answer(view, scope, together))
            except SomaError as error:
                for position in positions:
                    fates[position] = error if len(positions) == 1 else self._alone(view, batch[position])
                continue
            for position in positions:
                fates[position] = [next(results) for _ in batch[position].queries]
        return fates

    def _alone(self, view: LedgerView, one: _Waiting) -> list[RecallResult] | Exception:
        try:
            with answer_of(one.most):
                return self._answer(view, one.scope, one.queries)
        except SomaError as error:
            return error
