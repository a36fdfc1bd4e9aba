"""What is kept of recent recalls: a bounded ring of queries to replay, and samples that are held against the oracle.

The vectors stay in memory: they are never logged, stored or answered. The oracle runs on one thread of the lowest
priority, rests far longer than it works, also within a comparison, and looks at the very view of the index that the
answer came from.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from memory_runtime.engine.following import Follower
from memory_runtime.engine.pacing import Breaths, Interrupted
from memory_runtime.engine.recalling import Query
from memory_runtime.engine.types import Hit, RecallResult
from memory_runtime.engine.vectors.truth import ledger_truth
from memory_runtime.model.records import Scope, Vector
from memory_runtime.model.threads import raising_only_errors
from memory_runtime.scoring import Partition, ScoredRow, Unset
from memory_runtime.scoring.census import oracle, recall_at
from memory_runtime.scoring.search import View
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.sessions import Ledger
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.supervision import Supervised

RING: Final = 256
WAITING: Final = 2
LEVELS: Final = (1, 5, 10, 20, 50, 100)
WINDOW: Final = 100
STOP_GRACE: Final = 15.0
REST: Final = 20.0
"""Rest for each second that a comparison works: it costs at most 5 % of one core."""
LEDGER_REST: Final = 1.0
"""How much of the rest is taken within a comparison with the ledger: it holds one moment of the ledger open."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One recent query: enough to ask it again."""

    tenant: str
    partition: Partition
    types: tuple[int, ...] | None
    vector: Vector
    top_k: int
    now: float
    as_of: float | None
    half_life: float | Unset | None


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    asked: Asked
    answered: list[ScoredRow]
    view: View | None
    k: int
    route: str


class Sampling:
    """The memory of recent recalls of one engine."""

    def __init__(
        self, follower: Follower, settings: SMFSettings, metrics: Metrics, ledger: Ledger | None = None
    ) -> None:
        """Approximate answers are compared with every memory of the `ledger`; without one they are not compared."""
        self._follower = follower
        self._ledger = ledger
        self._approximate: deque[list[tuple[ScoredRow, bool]]] = deque(maxlen=RING)
        self.reload(settings)
        self._metrics = metrics
        self._ring: deque[Asked] = deque(maxlen=RING)
        self._waiting: deque[_Sample] = deque()
        self._arrived = asyncio.Event()
        self._stop = asyncio.Event()
        self._ending = threading.Event()
        self._scores: dict[tuple[str, int], deque[float]] = {}
        self._chance = random.Random()  # noqa: S311 -- which answers are compared is no secret
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="oracle", initializer=_lower_priority)
        self._task: Supervised | None = None

    def reload(self, settings: SMFSettings) -> None:
        """Takes over how many answers are compared, and which questions mix in words."""
        self._rate = settings.recall_sample_rate
        self._hybrid = settings.hybrid_recall_default

    def recent(self) -> list[Asked]:
        """The last queries that can be asked again (by vector alone, without filters), oldest first."""
        return list(self._ring)

    def approximate(self) -> list[list[tuple[ScoredRow, bool]]]:
        """The last approximate answers: each row, and whether it was found through the vector store."""
        return list(self._approximate)

    def note(self, scope: Scope, queries: Sequence[Query], results: Sequence[RecallResult]) -> None:
        """Remembers answered queries, and sets some aside for the oracle. Called on the event loop: takes no time."""
        for query, result in zip(queries, results, strict=True):
            if result.route == "approximate":
                self._approximate.append([(_row(hit), hit.approximate) for hit in result.hits])
            asked = self._asked(scope, query)
            if asked is None:
                continue
            self._ring.append(asked)
            if self._rate and len(self._waiting) < WAITING and self._chance.random() < self._rate:
                self._set_aside(asked, result)

    def _asked(self, scope: Scope, query: Query) -> Asked | None:
        request = query.request
        hybrid = self._hybrid if request.hybrid is None else request.hybrid
        partition = self._follower.partition(scope)
        if request.as_of is not None:
            return None  # the truth that answers are compared with knows no superseded versions
        if partition is None or request.filters or (hybrid and (request.query is not None or request.terms)):
            return None
        types: tuple[int, ...] | None = None
        if request.memory_type is not None:
            types = tuple(self._follower.type_codes(request.memory_type))
        return Asked(
            scope.tenant, partition, types, query.vector, request.top_k, query.now, request.as_of, request.half_life
        )

    def _set_aside(self, asked: Asked, result: RecallResult) -> None:
        exact = result.route == "exact"
        # an answer certified within the budget is compared with the whole ledger too, where rows were given up
        within = exact and not self._follower.residency.bounds(self._follower.index)
        view = self._follower.index.view() if within else None
        if view is None and self._ledger is None:
            return
        if within and self._follower.applied_seq != result.seq:
            return  # something was stored since: the view is not the one that was searched
        k = max((level for level in LEVELS if level <= asked.top_k), default=1)
        answered = [_row(hit) for hit in result.hits[:k]]
        self._waiting.append(_Sample(asked, answered, view, k, result.route))
        self._arrived.set()

    def start(self) -> None:
        """Begins to compare what is set aside."""
        self._task = self._metrics.tasks.start("recall-sampling", self._comparisons)

    async def stop(self) -> None:
        """Ends the comparison that is under way, at its next run of rows."""
        self._ending.set()
        self._stop.set()
        self._arrived.set()
        if self._task is not None:
            await self._task.stop(STOP_GRACE)
        self._thread.shutdown(wait=True)

    async def _comparisons(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            if not self._waiting:
                await self._arrived.wait()
            self._arrived.clear()
            while self._waiting and not self._stop.is_set():
                sample = self._waiting.popleft()
                with contextlib.suppress(Interrupted):
                    recall, owed = await loop.run_in_executor(self._thread, raising_only_errors, self._compare, sample)
                    self._publish(sample, recall)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), owed)

    def _compare(self, sample: _Sample) -> tuple[float, float]:
        """The recall, and the seconds of rest that are still to be taken for it."""
        pace = Breaths(self._ending, rest=REST, at_once=LEDGER_REST if sample.view is None else REST)
        recall = recall_at(sample.answered, self._truth(sample, pace.breathe))
        return recall, pace.owed()

    def _truth(self, sample: _Sample, breathe: Callable[[], None]) -> list[ScoredRow]:
        asked = sample.asked
        if sample.view is None:
            if self._ledger is None:
                raise Interrupted
            return ledger_truth(self._ledger, self._follower, asked, k=sample.k, breathe=breathe)
        return oracle(
            sample.view,
            asked.vector,
            k=sample.k,
            partition=asked.partition,
            breathe=breathe,
            now=asked.now,
            as_of=asked.as_of,
            types=asked.types,
            half_life=asked.half_life,
        )

    def _publish(self, sample: _Sample, recall: float) -> None:
        scores = self._scores.setdefault((sample.route, sample.k), deque(maxlen=WINDOW))
        scores.append(recall)
        gauge = self._metrics.recall_at_k if sample.route == "exact" else self._metrics.vectors.recall_at_k
        gauge.labels(str(sample.k)).set(sum(scores) / len(scores))
        self._metrics.recall_samples.labels(sample.route).inc()


def _row(hit: Hit) -> ScoredRow:
    return ScoredRow(hit.record.id.bytes, hit.score, hit.log2_score, 0.0)


def _lower_priority() -> None:
    # on Linux a priority is a thread's own
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
