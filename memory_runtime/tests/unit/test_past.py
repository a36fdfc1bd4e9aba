"""A recall at a past moment ranks the versions that counted then, as the float64 oracle with history does."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine
from memory_runtime.engine.past import PastIndex, was_at_coordinate
from memory_runtime.engine.recalling import Query, Recaller
from memory_runtime.model.errors import DeadlineExceeded, NotFound, PayloadTooLarge
from memory_runtime.model.records import MemoryRecord, Scope, StoreItem
from memory_runtime.scoring.oracle import brute_force
from memory_runtime.scoring.rows import RowBatch
from memory_runtime.stores.resilience.deadline import deadline_after
from memory_runtime.tests.samples import DAY, Clock, asked, coordinates, item

DIM = 8


async def test_as_of_before_an_update_finds_what_was_there(open_engine: Any, scope: Scope) -> None:
    clock = Clock()
    engine: MemoryEngine = await open_engine(vector_dim=3, half_life="1d", clock=clock)
    start = clock.now
    await engine.store(scope, item(1, [1, 0, 0], payload={"text": "Ann lives in Porto"}))
    clock.now += 10 * DAY
    await engine.store(scope, item(1, [0, 1, 0], payload={"text": "Ann lives in Lisbon"}))
    clock.now += DAY
    for restart in (False, True):
        if restart:
            await engine.close()
            engine = await open_engine(vector_dim=3, half_life="1d", clock=clock)
        then = await engine.recall(scope, asked([1, 0, 0], as_of=start + DAY, explain=True))
        assert [hit.record.payload["text"] for hit in then.hits] == ["Ann lives in Porto"]
        assert then.hits[0].score == pytest.approx(0.5)
        assert then.hits[0].explanation is not None
        assert then.hits[0].explanation.age_seconds == DAY
        assert coordinates(await engine.recall(scope, asked([0, 1, 0], as_of=start + DAY))) == []
        assert coordinates(await engine.recall(scope, asked([1, 0, 0], as_of=start - DAY))) == []
        now = await engine.recall(scope, asked([0, 1, 0], as_of=clock.now))
        assert [hit.record.payload["text"] for hit in now.hits] == ["Ann lives in Lisbon"]
        assert (await engine.get(scope, (1.0,), as_of=start)).payload["text"] == "Ann lives in Porto"
        assert (await engine.get(scope, (1.0,), as_of=clock.now)).payload["text"] == "Ann lives in Lisbon"
        assert (await engine.get(scope, (1.0,))).version == 2
        with pytest.raises(NotFound):
            await engine.get(scope, (1.0,), as_of=start - 1)
    await engine.delete(scope, (1.0,))
    assert coordinates(await engine.recall(scope, asked([1, 0, 0], as_of=start + DAY))) == []
    with pytest.raises(NotFound):
        await engine.get(scope, (1.0,), as_of=start)


@pytest.mark.parametrize("half_life", ["none", "3d"])
async def test_the_oracle_with_history_gives_the_same_ids(open_engine: Any, scope: Scope, half_life: str) -> None:
    dice = np.random.default_rng(5)
    clock = Clock()
    engine: MemoryEngine = await open_engine(vector_dim=DIM, half_life=half_life, clock=clock)
    versions: dict[float, list[tuple[float, float, np.ndarray, bool]]] = {}
    start = clock.now
    for _ in range(400):
        clock.now += float(dice.exponential(3600.0))
        number, vector = float(dice.integers(0, 60)), dice.standard_normal(DIM).astype(np.float32)
        event = clock.now if dice.random() < 0.7 else clock.now - float(dice.exponential(2 * DAY))
        pinned = bool(dice.random() < 0.1)
        if dice.random() < 0.05:
            await engine.delete(scope, (number,))
            versions.pop(number, None)
            continue
        await engine.store(scope, StoreItem((number,), {"n": number}, timestamp=event, vector=vector, pinned=pinned))
        versions.setdefault(number, []).append((clock.now, event, vector / np.linalg.norm(vector), pinned))
    for _ in range(40):
        at = start + float(dice.random()) * (clock.now - start)
        query = dice.standard_normal(DIM).astype(np.float32)
        counted = {number: one for number, several in versions.items() if (one := counts(several, at)) is not None}
        found = await engine.recall(scope, asked(query.tolist(), as_of=at, top_k=10))
        wanted = truth(engine, scope, counted, query, at)
        assert coordinates(found) == wanted


def counts(versions: list[tuple[float, float, np.ndarray, bool]], at: float) -> Any:
    """The rule of docs/recall.md, said once more."""
    stored = [one for one in versions if one[0] <= at]
    known = stored[-1:] or [one for one in versions if one[1] <= at][-1:]
    return known[0] if known and known[0][1] <= at else None


def truth(engine: MemoryEngine, scope: Scope, counted: dict[float, Any], query: Any, at: float) -> list[float]:
    from memory_runtime.model.coordinates import memory_id

    follower = engine.follower
    partition = follower.partition(scope)
    assert partition is not None
    if not counted:
        return []
    ids = {memory_id(scope.tenant, scope.namespace, "episodic", repr(number)): number for number in counted}
    plain, pinned = follower.type_codes("episodic")
    rows = RowBatch.of(
        list(ids),
        np.stack([counted[number][2] for number in ids.values()]),
        dim=DIM,
        event_time=[counted[number][1] for number in ids.values()],
        tenant=partition.tenant,
        namespace=partition.namespace,
        memory_type=[pinned if counted[number][3] else plain for number in ids.values()],
    )
    (best,) = brute_force(rows, query, params=follower.params, k=10, partition=partition, now=engine.clock(), as_of=at)
    by_bytes = {one.bytes: number for one, number in ids.items()}
    return [by_bytes[row.id] for row in best]


@pytest.mark.parametrize("after", ["at_coordinate", "superseded_since", "past"])
async def test_an_update_between_two_queries_hides_nothing(open_engine: Any, scope: Scope, after: str) -> None:
    clock = Clock()
    engine: MemoryEngine = await open_engine(vector_dim=3, clock=clock)
    start, loop = clock.now, asyncio.get_running_loop()
    await engine.store(scope, item(1, [1, 0, 0], payload={"text": "Porto"}))
    clock.now += DAY
    moment = start + 1
    updates: list[str] = []

    async def update() -> None:
        await engine.store(scope, item(1, [0, 1, 0], payload={"text": "Lisbon"}, timestamp=start))

    class Interrupted:
        """A view after whose query of that name the memory is updated, once."""

        def __init__(self, view: Any) -> None:
            self.view = view

        def __getattr__(self, name: str) -> Any:
            def ask(*given: Any, **named: Any) -> Any:
                found = getattr(self.view, name)(*given, **named)
                if name == after and not updates:
                    updates.append(name)
                    asyncio.run_coroutine_threadsafe(update(), loop).result(20)
                return found

            return ask

    def look(view: Any) -> list[MemoryRecord | None]:
        interrupted: Any = Interrupted(view)
        if after == "at_coordinate":
            return [was_at_coordinate(interrupted, scope, (1.0,), None, moment)]
        query = Query(asked([1, 0.1, 0], as_of=moment), np.array([1, 0.1, 0], np.float32), clock.now, math.inf)
        (found,) = Recaller(engine.follower, engine.settings).answer(interrupted, scope, [query])
        return [hit.record for hit in found.hits]

    found = await engine.ledger.read(look)
    assert updates == [after]
    assert [one and one.payload["text"] for one in found] == ["Porto"]
    assert (await engine.get(scope, (1.0,))).payload["text"] == "Lisbon"


async def test_an_answer_is_bounded_by_its_own_payloads(open_engine: Any, scope: Scope) -> None:
    """Not by those of all versions that were superseded since."""
    clock = Clock()
    engine: MemoryEngine = await open_engine(vector_dim=3, clock=clock, max_response_body_mb=0.01)
    for text in ("was", "is"):
        clock.now += DAY
        for n in range(40):
            await engine.store(scope, item(n, [1, n, 0], payload={"text": text, "more": "x" * 1000}))
    found = await engine.recall(scope, asked([1, 0, 0], as_of=clock.now - 1, top_k=3))
    assert [hit.record.payload["text"] for hit in found.hits] == ["was"] * 3
    with pytest.raises(PayloadTooLarge):
        await engine.recall(scope, asked([1, 1, 0], as_of=clock.now - 1, top_k=30))


async def test_an_index_of_the_past_is_made_within_the_deadline(open_engine: Any, scope: Scope) -> None:
    clock = Clock()
    engine: MemoryEngine = await open_engine(vector_dim=3, clock=clock)
    for n in range(3):
        clock.now += DAY
        await engine.store(scope, item(1, [1, n, 0]))
    past = await engine.ledger.read(lambda view: view.past(scope, clock.now - 1))
    assert PastIndex(past, engine.follower, {}).index is not None
    with deadline_after(0.0), pytest.raises(DeadlineExceeded):
        PastIndex(past, engine.follower, {})


async def test_the_bounds_of_the_settings_hold(open_engine: Any, scope: Scope) -> None:
    clock = Clock()
    engine: MemoryEngine = await open_engine(
        vector_dim=3, clock=clock, history_versions=2, history_age="10d", embedding_provider="client"
    )
    start = clock.now
    for n in range(6):
        clock.now = start + n * DAY
        await engine.store(scope, item(1, [1, n, 0], payload={"n": n}))
    assert await engine._housekeeper.sweep_versions() == 3
    with pytest.raises(NotFound):
        await engine.get(scope, (1.0,), as_of=start + 2 * DAY)
    assert (await engine.get(scope, (1.0,), as_of=start + 3 * DAY)).payload == {"n": 3}
    clock.now = start + 14.5 * DAY
    assert await engine._housekeeper.sweep_versions() == 1
    with pytest.raises(NotFound):
        await engine.get(scope, (1.0,), as_of=start + 3 * DAY)
