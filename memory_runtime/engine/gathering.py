"""Recalls that would wait for one another are answered together: one pass over the index, one query for the records.

Who comes first is answered at once, alone. Who comes meanwhile waits for it and is then answered with all others that
wait, as a group commit does for writes: under load a batch costs little more than one, and few threads contend.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from memory_runtime.engine.recalling import Query
from memory_runtime.engine.types import RecallResult
from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.records import Scope
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
    future: asyncio.Future[Answered]


class Gathering:
    """The recalls of one engine that may share a batch. Belongs to the event loop."""

    def __init__(self, ledger: Ledger, answer: Answer, clock: Callable[[], float], lanes: int = 1) -> None:
        """At most `lanes` batches are worked on at once."""
        self._ledger = ledger
        self._answer = answer
        self._clock = clock
        self._lanes = lanes
        self._busy = 0
        self._line: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, scope: Scope, queries: Sequence[Query]) -> Answered:
        """The answers of one caller's queries. Raises what answering them alone would raise."""
        if self._busy < self._lanes and not self._line:
            self._busy += 1
            try:
                results = await self._ledger.read(lambda view: self._answer(view, scope, queries))
            finally:
                self._busy -= 1
                self._go_on()
            return Answered(queries, results)
        waiting = _Waiting(scope, queries, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        return await waiting.future

    def _go_on(self) -> None:
        if self._line and self._busy < self._lanes:
            self._busy += 1
            # of no caller: neither the deadline nor the trace of one is the batch's
            task = asyncio.get_running_loop().create_task(self._serve(), name="recalls", context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        batch: list[_Waiting] = []
        try:
            while batch := self._next():
                now = self._clock()
                for one in batch:
                    one.queries = [replace(query, now=now) for query in one.queries]
                fates = await self._ledger.read(lambda view, batch=batch: self._fates(view, batch))  # type: ignore[misc]
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
            self._busy -= 1
            self._go_on()

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        count = 0
        while self._line and (not batch or count + len(self._line[0].queries) <= MOST):
            one = self._line.popleft()
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
            return self._answer(view, one.scope, one.queries)
        except SomaError as error:
            return error
