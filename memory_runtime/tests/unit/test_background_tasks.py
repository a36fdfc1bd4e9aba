"""Every background task is made to fail at every await once (R33): it is begun again, counted, and shown; the rest goes
on, and a shutdown reaches the ledger whatever fails on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from qdrant_client import AsyncQdrantClient

from memory_runtime.engine import MemoryEngine, RecallRequest, build_engine, graphs, housekeeping, snapshots
from memory_runtime.engine.vectors import keeping
from memory_runtime.events.pipeline import Pipeline
from memory_runtime.events.sinks import Sink
from memory_runtime.flags.flags import Flags
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.qdrant import QdrantOptions, QdrantVectorStore
from memory_runtime.telemetry import supervision
from memory_runtime.telemetry.supervision import Supervised, Supervisor, stop_all
from memory_runtime.tests.samples import Clock

DEEPEST = 10
"""Awaits of one run that are made to fail, one after the other."""
LOOPS = (
    "housekeeping", "retention", "recall-sampling", "index-snapshots", "index-budget", "vector-store", "graph-follow",
    "relay-list", "flags-watch", "flags-tick",
)  # fmt: skip


class Injected(Exception):  # noqa: N818 -- what nobody foresaw
    """Of no kind that any code of ours expects."""


class Injection:
    """Raises at an await of a task's run, at the next one of the run after that, and so on."""

    def __init__(self) -> None:
        self.name = ""
        self.depth = 0
        self.steps: Counter[str] = Counter()

    def aim(self, name: str) -> None:
        """From here on this task's runs fail: the one under way at its next await, the next one at its first."""
        self.name, self.depth = name, 0

    def strikes(self, name: str, count: int) -> bool:
        """Whether the await that a run has come to, its `count`th, fails: one a run."""
        struck = name == self.name and self.depth <= DEEPEST and (self.depth == 0 or count == self.depth)
        self.depth += struck
        return struck

    async def attempt(self, task: Supervised) -> None:
        await _Driven(self, task)


class _Driven:
    """Awaits a task's work by hand."""

    def __init__(self, injection: Injection, task: Supervised) -> None:
        self._injection, self._task = injection, task

    def __await__(self) -> Generator[Any, Any, None]:
        inner, count, struck = self._task._work().__await__(), 0, False
        step: Callable[[Any], Any] = inner.send  # type: ignore[attr-defined]
        answer: Any = None
        while True:
            try:
                waited_for = step(answer)
            except StopIteration:
                return
            count += 1
            self._injection.steps[self._task.name] += 1
            if not struck and (struck := self._injection.strikes(self._task.name, count)):
                if hasattr(waited_for, "_asyncio_future_blocking"):
                    waited_for._asyncio_future_blocking = False
                step, answer = inner.throw, Injected("injected")  # type: ignore[attr-defined]
                continue
            try:
                step, answer = inner.send, (yield waited_for)  # type: ignore[attr-defined]
            except BaseException as error:
                step, answer = inner.throw, error  # type: ignore[attr-defined]


class ListSink:
    name = "list"

    async def deliver(self, changes: Any) -> int:
        await asyncio.sleep(0)
        return int(changes[-1].seq)

    async def rebuild(self) -> int:
        return 0

    async def close(self) -> None: ...


class FakeEtcd:
    """One whose revision rises at every look."""

    def __init__(self) -> None:
        self.revision = 0

    async def read(self, prefix: str) -> tuple[dict[str, str], int]:
        await asyncio.sleep(0)
        return {}, self.revision

    async def watch(self, prefix: str, revision: int, *, idle: float) -> AsyncIterator[int]:
        while True:
            await asyncio.sleep(0.002)
            self.revision += 1
            yield self.revision

    async def close(self) -> None: ...


@pytest.fixture
def injection(monkeypatch: pytest.MonkeyPatch) -> Injection:
    """Armed tasks, and rounds that follow one another quickly."""
    made = Injection()

    async def attempt(task: Supervised) -> None:
        await made.attempt(task)

    monkeypatch.setattr(Supervised, "_attempt", attempt)
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(supervision, "LONGEST_PAUSE", 0.01)
    for module, names in (
        (housekeeping, ("ROUND_SECONDS",)),
        (keeping, ("ROUND_SECONDS", "LOOK_SECONDS")),
        (graphs, ("_LOOK_SECONDS", "_REST_SECONDS")),
        (snapshots, ("CLOCK_SECONDS",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 0.004)
    monkeypatch.setattr(housekeeping, "FLUSH_EVERY", 1)
    monkeypatch.setattr(housekeeping, "SWEEP_EVERY", 1)
    monkeypatch.setattr(snapshots, "SPARE_BYTES", 0)
    return made


class Site:
    """An engine with everything that runs beside requests."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.settings = SMFSettings(
            data_dir=directory,
            vector_dim=3,
            embedding_provider="hash",
            graph_backend="networkx",
            recall_sample_rate=1.0,
            index_snapshot_seconds=0.004,
            index_snapshot_min_rows=1,
            retention_enabled=True,
            retention_interval_seconds=0.004,
            retention_max_rows=1000,
            flags_ttl_seconds=0.1,
        )
        store = QdrantVectorStore(QdrantOptions("notes", 3), client=AsyncQdrantClient(":memory:"))
        self.engine: MemoryEngine = build_engine(self.settings, clock=clock, vector_store=store)
        metrics, ledger = self.engine.metrics, self.engine.ledger
        sinks: list[Sink] = [ListSink()]
        self.pipeline = Pipeline(self.settings, ledger, metrics, clock, sinks)
        self.flags = Flags(
            self.settings,
            lambda _: None,
            etcd=FakeEtcd(),
            tasks=metrics.tasks,  # type: ignore[arg-type]
        )

    async def start(self) -> None:
        await self.engine.start()
        self.pipeline.start()
        await self.flags.start()

    async def stop(self) -> None:
        await stop_all(self.flags.stop, self.pipeline.stop)
        await self.engine.close()


async def until(ask: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(20):
            while not ask():  # noqa: ASYNC110 -- what is waited for sets no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(what)


async def busy(engine: MemoryEngine, scope: Scope) -> None:
    """Stores and recalls, so that every task has something to do."""
    number = 0
    while True:
        number += 1
        item = StoreItem((float(number % 50),), {"text": "tea"}, vector=np.array([1, number % 7, 0], np.float32))
        await engine.store(scope, item)
        await engine.recall(scope, RecallRequest(vector=np.array([1, 0, 0], np.float32), top_k=1))
        await asyncio.sleep(0.002)


def failures(engine: MemoryEngine, name: str) -> float:
    registry = engine.metrics.registry
    counted = registry.get_sample_value("soma_memory_task_failures_total", {"task": name}) or 0.0
    # the relay takes whatever a sink raises for the sink's failure, and counts it as one
    own = registry.get_sample_value("soma_memory_sink_failures_total", {"sink": name.removeprefix("relay-")}) or 0.0
    return counted + own


async def test_a_task_that_fails_at_any_await_is_begun_again_and_counted(
    tmp_path: Path, scope: Scope, injection: Injection
) -> None:
    clock = Clock()
    site = Site(tmp_path / "data", clock)
    await site.start()
    engine = site.engine
    work = asyncio.create_task(busy(engine, scope))
    try:
        for name in LOOPS:
            before = failures(engine, name)
            injection.aim(name)
            # a relay's run outlives what its sink raises
            runs = 0 if name.startswith("relay") else 1
            await until(partial(deeper, injection, runs), f"{name} did not fail twice")
            with contextlib.suppress(TimeoutError):  # a run may have fewer awaits
                async with asyncio.timeout(0.7):
                    while injection.depth <= DEEPEST:  # noqa: ASYNC110
                        await asyncio.sleep(0.002)
            struck = injection.depth
            injection.aim("")
            await until(partial(enough, engine, name, before + struck), f"{name}: failures are not counted")
            seen = injection.steps[name]
            await until(partial(moves, injection, name, seen + 3), f"{name} has ended")
        told = (await engine.stats()).tasks
        assert set(told) >= set(LOOPS)
        for name in set(LOOPS) - {"relay-list"}:
            assert told[name]["failures"] >= 1
            assert "Injected" in told[name]["last_error"]
            assert told[name]["state"] != "ended"
        assert not work.done()
        short = StoreItem((99.0,), {"text": "short"}, vector=np.array([1, 0, 0], np.float32), ttl=5.0)
        identity = (await engine.store(scope, short)).id
        clock.now += 10
        async with asyncio.timeout(20):
            while await engine.ledger.get(identity) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await until((tmp_path / "data" / "index").exists, "no snapshot was written")
        assert (await engine.ready()).ready
    finally:
        work.cancel()
        await asyncio.wait({work})
        await site.stop()
    assert not engine.ledger.healthy or engine.ledger._writer._closed  # type: ignore[attr-defined]


def enough(engine: MemoryEngine, name: str, count: float) -> bool:
    return failures(engine, name) >= count


def deeper(injection: Injection, runs: int) -> bool:
    return injection.depth > runs


def moves(injection: Injection, name: str, steps: int) -> bool:
    return injection.steps[name] > steps


PARTS = (
    "vectors", "reembedder", "retention", "sampling", "importance", "_housekeeper", "graphs", "snapshots", "cache",
    "heartbeat",
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
async def test_a_shutdown_reaches_the_ledger_whatever_fails_before(
    open_engine: Any, scope: Scope, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    engine = await open_engine(vector_dim=3)
    await engine.store(scope, StoreItem((1.0,), {}, vector=np.array([1, 0, 0], np.float32)))
    ended = getattr(engine, part).stop

    async def fails() -> None:
        await ended()
        raise Injected(part)

    monkeypatch.setattr(getattr(engine, part), "stop", fails)
    await engine.close()
    assert part in caplog.text
    # the directory has been given back, and nothing was lost
    again = await open_engine(vector_dim=3)
    assert (await again.stats(scope)).total_memories == 1


async def test_a_part_that_fails_does_not_keep_the_next_from_its_turn() -> None:
    ended: list[str] = []

    async def fails() -> None:
        raise Injected("a stop")

    async def ends() -> None:
        ended.append("next")

    await stop_all(fails, ends)
    assert ended == ["next"]


async def test_a_part_that_does_not_end_does_not_keep_the_ledger_open(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def hangs() -> None:
        await asyncio.Event().wait()

    async def ends() -> None:
        ended.append("next")

    await stop_all(hangs, ends, seconds=0.01)
    assert ended == ["next"]
    assert "did not end within" in caplog.text


async def test_pauses_grow_the_state_is_told_and_a_stop_ends_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    supervisor = Supervisor(registry)
    pauses: list[float] = []

    async def rest(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0 if len(pauses) < 9 else 3600)

    monkeypatch.setattr(supervision, "rest", rest)

    async def fails() -> None:
        raise Injected("again")

    task = supervisor.start("failing", fails)
    await until(lambda: len(pauses) == 9, "no pauses")
    assert pauses[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(pauses) <= supervision.LONGEST_PAUSE
    assert supervisor.told()["failing"] == {"state": "waiting", "failures": 9, "last_error": "Injected: again"}
    assert "failing" in supervisor.notes[0]
    assert registry.get_sample_value("soma_memory_task_up", {"task": "failing"}) == 0
    await task.stop(grace=5.0)
    assert supervisor.told()["failing"]["state"] == "ended"
    assert not supervisor.notes


async def test_a_cancellation_that_nobody_asked_for_is_a_failure_too() -> None:
    supervisor, runs = Supervisor(), []

    async def loses_what_it_waits_for() -> None:
        runs.append(1)
        if len(runs) < 2:
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            lost.cancel()
            await lost

    task = supervisor.start("once", loses_what_it_waits_for)
    await asyncio.wait_for(task.wait(), 10)
    assert (len(runs), task.failures, task.state) == (2, 1, "ended")
