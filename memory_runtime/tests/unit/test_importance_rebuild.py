"""Importance is fixed at commit; an explicit rebuild moves it, all at once, previewed and reversible."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.model.errors import Conflict, Unprocessable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.stores.values import Facts

SMALL: dict[str, Any] = {"vector_dim": 8, "embedding_provider": "client", "recall_sample_rate": 0.0}
NOW = 1_700_000_000.0


def items(first: int, count: int, scale: float, seed: int = 0) -> list[StoreItem]:
    rng = np.random.default_rng(seed + first)
    return [
        StoreItem(
            (float(n),),
            {"n": n},
            vector=rng.standard_normal(8).astype(np.float32),
            importance=float(scale * rng.lognormal()),
        )
        for n in range(first, first + count)
    ]


async def filled(open_engine: Any, scope: Scope) -> MemoryEngine:
    """200 memories in a small scale, 200 in a large one: the early ones have an i that no longer compares."""
    engine: MemoryEngine = await open_engine(**SMALL, clock=lambda: NOW)
    for start, scale in ((0, 1.0), (200, 100.0)):
        await engine.store_bulk(scope, items(start, 200, scale))
    await engine.store(scope, StoreItem((999.0,), {}, vector=np.ones(8, np.float32)))
    return engine


async def norms(engine: MemoryEngine, scope: Scope) -> dict[float, tuple[float, int]]:
    records = (await engine.scan(scope, limit=1000)).memories
    return {one.coordinate[0]: (one.importance_norm, one.normaliser_version) for one in records}


def asked(seed: int) -> RecallRequest:
    return RecallRequest(vector=np.random.default_rng(seed).standard_normal(8).astype(np.float32), top_k=10)


async def answers(engine: MemoryEngine, scope: Scope) -> list[list[tuple[float, float]]]:
    results = await engine.recall_batch(scope, [asked(seed) for seed in range(10)])
    return [[(hit.record.coordinate[0], hit.score) for hit in one.hits] for one in results]


async def index_agrees(engine: MemoryEngine, scope: Scope) -> bool:
    index = engine.follower.index
    records = (await engine.scan(scope, limit=1000)).memories
    return all(index.explain(one.id, np.ones(8)).importance == one.importance_norm for one in records)


async def audit(engine: MemoryEngine) -> list[str]:
    rows = await engine.ledger.read(lambda view: view.connection.execute("SELECT action FROM audit").fetchall())
    return [row[0] for row in rows]


async def test_stored_memories_never_move_while_the_normaliser_does(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(**SMALL, clock=lambda: NOW)
    seen: dict[float, tuple[float, int]] = {}
    for start, scale in ((0, 1.0), (100, 50.0), (200, 0.01)):
        await engine.store_bulk(scope, items(start, 100, scale))
        now = await norms(engine, scope)
        assert {at: now[at] for at in seen} == seen
        seen = now
    assert len({version for _, version in seen.values()}) > 3
    assert await index_agrees(engine, scope)
    await engine.close()
    engine = await open_engine(**SMALL, clock=lambda: NOW)
    assert await norms(engine, scope) == seen
    assert await index_agrees(engine, scope)


async def test_a_preview_changes_nothing_and_foretells_the_answers(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    before, i_before = await answers(engine, scope), await norms(engine, scope)
    preview = await engine.importance.preview("acme")
    assert (await answers(engine, scope), await norms(engine, scope)) == (before, i_before)
    assert preview.memories == 400
    assert preview.effect.queries == 10
    await engine.importance.rebuild("acme")
    after = await answers(engine, scope)
    pairs = [({at for at, _ in a}, {at for at, _ in b}) for a, b in zip(before, after, strict=True)]
    assert preview.effect.overlap == pytest.approx(sum(len(a & b) / 10 for a, b in pairs) / 10)
    assert preview.effect.overlap < 1.0
    i_after = [value for at, (value, _) in (await norms(engine, scope)).items() if at != 999.0]
    assert preview.after == pytest.approx(tuple(np.quantile(i_after, (0.1, 0.5, 0.9, 0.99))))


async def test_a_rebuild_maps_every_memory_by_one_version_and_spares_those_without_importance(
    open_engine: Any, scope: Scope
) -> None:
    engine = await filled(open_engine, scope)
    other = Scope("rival", "notes")
    await engine.store_bulk(other, items(0, 50, 3.0))
    theirs = await norms(engine, other)
    done = await engine.importance.rebuild("acme", actor="ann")
    found = await norms(engine, scope)
    assert found.pop(999.0) == (1.0, 0)
    assert {version for _, version in found.values()} == {done.version}
    raw = {one.coordinate[0]: one.importance for one in (await engine.scan(scope, limit=1000)).memories}
    ordered = sorted(found, key=lambda at: raw[at] or 0)
    assert [found[at][0] for at in ordered] == sorted(value for value, _ in found.values())
    assert await norms(engine, other) == theirs
    assert await index_agrees(engine, scope)
    assert await index_agrees(engine, other)
    assert "importance.rebuild" in await audit(engine)


async def test_an_undone_rebuild_leaves_everything_as_it_was(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    before, i_before = await answers(engine, scope), await norms(engine, scope)
    done = await engine.importance.rebuild("acme")
    assert await norms(engine, scope) != i_before
    await engine.close()
    engine = await open_engine(**SMALL, clock=lambda: NOW)
    assert await engine.importance.pending("acme") == done
    await engine.importance.undo("acme")
    assert (await answers(engine, scope), await norms(engine, scope)) == (before, i_before)
    assert await index_agrees(engine, scope)
    assert await engine.importance.pending("acme") is None
    await engine.close()
    engine = await open_engine(**SMALL, clock=lambda: NOW)
    assert await norms(engine, scope) == i_before
    with pytest.raises(Conflict):
        await engine.importance.undo("acme")


async def test_what_is_stored_between_rebuild_and_undo_gets_the_former_map_under_a_new_version(
    open_engine: Any, scope: Scope
) -> None:
    engine = await filled(open_engine, scope)
    old = engine.ledger.read_now(
        lambda view: json.loads(view.connection.execute("SELECT state FROM normalisers").fetchone()[0])
    )
    done = await engine.importance.rebuild("acme")
    await engine.store_bulk(scope, items(500, 3, 10.0))
    during = await norms(engine, scope)
    assert {during[at][1] for at in (500.0, 501.0, 502.0)} == {done.version}
    await engine.importance.undo("acme")
    after = await norms(engine, scope)
    assert {after[at][1] for at in (500.0, 501.0, 502.0)} == {done.version + 1}
    assert after[500.0] != during[500.0]
    new = engine.ledger.read_now(
        lambda view: json.loads(view.connection.execute("SELECT state FROM normalisers").fetchone()[0])
    )
    assert new["mapping"] | {"version": 0} == old["mapping"] | {"version": 0}
    assert await index_agrees(engine, scope)


async def test_what_is_stored_again_or_deleted_meanwhile_is_not_brought_back(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    await engine.importance.rebuild("acme")
    again = StoreItem((3.0,), {"new": True}, vector=np.ones(8, np.float32), importance=7.0)
    await engine.store(scope, again)
    await engine.delete(scope, (4.0,))
    await engine.importance.undo("acme")
    records = {one.coordinate[0]: one for one in (await engine.scan(scope, limit=1000)).memories}
    assert (records[3.0].importance, records[3.0].payload) == (7.0, {"new": True})
    assert 4.0 not in records
    assert len(engine.follower.index) == len(records) == 400
    assert await index_agrees(engine, scope)


async def test_a_confirmed_rebuild_stands_and_the_next_one_may_begin(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    await engine.importance.rebuild("acme")
    with pytest.raises(Conflict) as refused:
        await engine.importance.rebuild("acme")
    assert (refused.value.field, bool(refused.value.remedy)) == ("importance", True)
    await engine.importance.confirm("acme")
    tables = engine.ledger.read_now(lambda view: view.connection.execute("SELECT name FROM sqlite_master").fetchall())
    assert ("importance_previous",) not in tables
    with pytest.raises(Conflict):
        await engine.importance.undo("acme")
    await engine.importance.rebuild("acme")
    assert [one for one in await audit(engine) if one.startswith("importance")] == [
        "importance.rebuild",
        "importance.confirm",
        "importance.rebuild",
    ]


async def test_a_search_sees_all_the_old_importances_or_all_the_new_ones(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    old = await answers(engine, scope)
    seen: list[Any] = []
    ended = asyncio.Event()

    async def ask() -> None:
        while not ended.is_set():
            seen.append(await answers(engine, scope))

    asking = asyncio.create_task(ask())
    beside = Scope(scope.tenant, "beside")
    writing = asyncio.gather(*(engine.store(beside, item) for item in items(2000, 20, 0.0)))
    await engine.importance.rebuild("acme")
    await writing
    ended.set()
    await asking
    new = await answers(engine, scope)
    assert all(one in (old, new) for one in seen)
    assert old != new
    assert len(engine.follower.index) == 421


async def test_a_rebuild_outdates_snapshots_of_the_index(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)

    def generation() -> int:
        rows = engine.ledger.read_now(
            lambda view: view.connection.execute("SELECT value FROM facts WHERE key=?", (Facts.GENERATION,)).fetchall()
        )
        return int(rows[0][0]) if rows else 0

    first = generation()
    await engine.importance.rebuild("acme")
    second = generation()
    await engine.importance.undo("acme")
    assert first < second < generation()


@pytest.mark.parametrize("action", ["preview", "rebuild"])
async def test_a_tenant_without_importances_is_told_so(open_engine: Any, scope: Scope, action: str) -> None:
    engine: MemoryEngine = await open_engine(**SMALL)
    await engine.store(scope, StoreItem((1.0,), {}, vector=np.ones(8, np.float32)))
    with pytest.raises(Unprocessable) as refused:
        await getattr(engine.importance, action)("acme")
    assert (refused.value.field, bool(refused.value.remedy)) == ("importance", True)
