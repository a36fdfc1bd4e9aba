"""The engine's use cases on a real ledger: store, recall, filters, words, links, deletes, scopes, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.engine.importing import ExportedMemory
from memory_runtime.model.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    SomaError,
    Unavailable,
    Unprocessable,
)
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.sqlite import following
from memory_runtime.tests.samples import DAY, Clock, asked, coordinates, item


async def test_a_stored_memory_is_recalled_by_whoever_asks_after_the_receipt(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine()

    async def one(n: int) -> bool:
        receipt = await engine.store(scope, item(n, payload={"text": f"unrepeatable{n}"}))
        result = await engine.recall(scope, RecallRequest(query=f"unrepeatable{n}", top_k=1, min_seq=receipt.seq))
        return coordinates(result) == [float(n)] and result.seq >= receipt.seq

    assert all(await asyncio.gather(*(one(n) for n in range(30))))


async def test_storing_a_coordinate_again_replaces_it_in_every_answer(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    first = await engine.store(scope, item(1, [1, 0, 0], payload={"text": "old words"}))
    second = await engine.store(scope, item(1, [0, 1, 0], payload={"text": "new words"}))
    assert (first.id, first.version, second.version, second.created) == (second.id, 1, 2, False)
    assert coordinates(await engine.recall(scope, asked([1, 0, 0]))) == []
    assert coordinates(await engine.recall(scope, asked([0, 1, 0]))) == [1.0]
    assert await engine.keyword_search(scope, "old") == []
    assert len(await engine.keyword_search(scope, "new")) == 1
    assert (await engine.stats(scope)).total_memories == 1


async def test_a_deleted_memory_never_returns_by_any_way_nor_after_restart(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    for n in (1, 2):
        await engine.store(scope, item(n, [1, 0, 0], payload={"text": "fox", "tag": "x"}))
    await engine.link(scope, (2.0,), (1.0,))
    receipt = await engine.delete(scope, (1.0,))
    assert receipt.deleted
    assert not (await engine.delete(scope, (1.0,))).deleted
    for _ in range(2):
        assert coordinates(await engine.recall(scope, asked([1, 0, 0], filters={"tag": "x"}))) == [2.0]
        assert coordinates(await engine.recall(scope, RecallRequest(query="fox", hybrid=True))) in ([2.0], [])
        assert [one.coordinate for one in await engine.keyword_search(scope, "fox")] == [(2.0,)]
        assert await engine.coordinates_in_range(scope, (0.0,), (9.0,)) == [(2.0,)]
        assert await engine.neighbors(scope, (2.0,)) == []
        assert not (await engine.shortest_path(scope, (2.0,), (1.0,))).found
        with pytest.raises(NotFound):
            await engine.get(scope, (1.0,))
        assert (await engine.stats(scope)).total_memories == 1
        await engine.close()
        engine = await open_engine(vector_dim=3)


async def test_a_restart_answers_exactly_as_before(open_engine: Any, scope: Scope) -> None:
    clock = Clock()
    options = {"vector_dim": 8, "half_life": "7d", "feature_weights": {"trust": 0.5}, "clock": clock}
    options["half_life_by_type"] = {"fact": "none"}
    engine: MemoryEngine = await open_engine(**options)
    rng = np.random.default_rng(1)
    items = [
        StoreItem(
            (float(n),),
            {"text": f"m{n}"},
            memory_type="fact" if n % 3 else "episodic",
            vector=rng.standard_normal(8).astype(np.float32),
            importance=float(rng.lognormal()),
            timestamp=clock.now - float(rng.uniform(0, 60)) * DAY,
            features={"trust": float(rng.uniform())} if n % 2 else None,
        )
        for n in range(200)
    ]
    await engine.store_bulk(scope, items)
    queries = [asked(list(rng.standard_normal(8)), top_k=7) for _ in range(10)]
    before = await engine.recall_batch(scope, queries)
    await engine.close()
    engine = await open_engine(**options)
    after = await engine.recall_batch(scope, queries)
    assert [[(hit.record.id, hit.score) for hit in one.hits] for one in after] == [
        [(hit.record.id, hit.score) for hit in one.hits] for one in before
    ]
    assert all(len(one.hits) == 7 for one in after)
    single = [await engine.recall(scope, query) for query in queries]
    assert [coordinates(one) for one in single] == [coordinates(one) for one in after]


async def test_nothing_crosses_scopes(open_engine: Any) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    scopes = [Scope(tenant, namespace) for tenant in ("a", "b") for namespace in ("a", "b")]
    for n, scope in enumerate(scopes):
        payload = {"text": "shared words", "owner": n}
        await engine.store(scope, item(1, [1, 0, 0], payload=payload), idempotency_key="same")
        await engine.store(scope, item(2, [1, 0, 0], payload=payload))
        await engine.coordinate_store(scope, (0.0, 0.0), payload)
    await engine.link(scopes[0], (1.0,), (2.0,))
    for n, scope in enumerate(scopes):
        seen = [hit.record for hit in (await engine.recall(scope, asked([1, 0, 0], top_k=100))).hits]
        seen += [hit.record for hit in (await engine.recall(scope, RecallRequest(query="shared", hybrid=True))).hits]
        seen += await engine.keyword_search(scope, "shared")
        seen += [hit.record for hit in await engine.coordinate_recall(scope, (0.0, 0.0), top_k=100)]
        seen.append(await engine.get(scope, (1.0,)))
        assert len(seen) >= 6
        assert {(one.tenant, one.namespace, one.payload["owner"]) for one in seen} == {
            (scope.tenant, scope.namespace, n)
        }
        assert len(await engine.neighbors(scope, (1.0,))) == (1 if n == 0 else 0)
        assert (await engine.stats(scope)).total_memories == 2
    await engine.delete(scopes[0], (1.0,))
    assert (await engine.get(scopes[1], (1.0,))).payload["owner"] == 1
    assert coordinates(await engine.recall(Scope("nobody", "x"), asked([1, 0, 0]))) == []


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (item(1, [1, 0]), "vector"),
        (item(1, [0, 0, 0]), "vector"),
        (item(1, [math.nan, 0, 0]), "vector"),
        (item(1, [math.inf, 0, 0]), "vector"),
        (item(1, [1, 0, 0], importance=math.nan), "importance"),
        (item(1, [1, 0, 0], timestamp=1.7e12), "timestamp"),
        (item(1, [1, 0, 0], ttl=0.0), "ttl"),
        (item(1, [1, 0, 0], features={"trust": 1.5}), "features.trust"),
        (item(1, [1, 0, 0], memory_type="a\nb"), "memory_type"),
        (item(1, [1, 0, 0], payload={"n": math.nan}), "payload"),
        (item(math.nan, [1, 0, 0]), "coord"),
        (StoreItem((), {}), "coord"),
    ],
)
async def test_a_bad_item_is_refused_by_field_and_a_bulk_with_it_stores_nothing(
    open_engine: Any, scope: Scope, bad: StoreItem, field: str
) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    with pytest.raises(InvalidArgument) as caught:
        await engine.store(scope, bad)
    assert caught.value.field == field
    assert caught.value.remedy
    with pytest.raises(InvalidArgument) as caught:
        await engine.store_bulk(scope, [item(7, [1, 0, 0]), bad])
    assert caught.value.field == f"items[1].{field}"
    assert (await engine.stats()).total_memories == 0


async def test_a_payload_beyond_the_limit_and_a_memory_beyond_the_cap_are_refused(
    open_engine: Any, scope: Scope
) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3, max_request_body_mb=0.001, max_memory_size=2)
    with pytest.raises(PayloadTooLarge):
        await engine.store(scope, item(1, [1, 0, 0], payload={"text": "x" * 2000}))
    await engine.store_bulk(scope, [item(n, [1, 0, 0]) for n in range(2)])
    with pytest.raises(Unprocessable, match="cap of 2"):
        await engine.store(scope, item(3, [1, 0, 0]))


async def test_a_tenant_may_have_so_many_memory_types_by_whatever_door_they_come(
    open_engine: Any, scope: Scope
) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3, max_memory_types=3)
    elsewhere, stranger = Scope(scope.tenant, "elsewhere"), Scope("stranger", "notes")
    await engine.store(scope, item(1, [1, 0, 0], memory_type="a"))
    await engine.store(elsewhere, item(1, [1, 0, 0], memory_type="b"))
    # of many that come at once, as many are let in as there is room for
    fates = await asyncio.gather(
        *(engine.store(scope, item(n, [1, 0, 0], memory_type=f"new-{n}")) for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(fate, Unprocessable) for fate in fates) == 19
    for refused in (
        engine.store_bulk(scope, [item(2, [1, 0, 0], memory_type="a"), item(3, [1, 0, 0], memory_type="c")]),
        engine.import_memories(scope, [ExportedMemory(item(4, [1, 0, 0], memory_type="d"), 1.0, 1.0, 1.0)]),
        engine.coordinate_store(scope, (1.0, 2.0), {}, "e"),
    ):
        with pytest.raises(Unprocessable) as caught:
            await refused
        assert caught.value.field == "memory_type"
        assert "SOMA_MAX_MEMORY_TYPES" in str(caught.value.remedy)
    await engine.store(scope, item(5, [1, 0, 0], memory_type="a"))
    await engine.store(stranger, item(1, [1, 0, 0], memory_type="c"))
    await engine.delete(elsewhere, (1.0,))
    await engine.store(scope, item(6, [1, 0, 0], memory_type="c"))
    assert len(engine.follower.living_types(scope.tenant)) == 3
    assert ("acme", "elsewhere", "b", 0) not in engine.follower.counts


async def test_a_retry_with_the_same_key_is_answered_alike_and_stores_nothing_twice(
    open_engine: Any, scope: Scope
) -> None:
    engine: MemoryEngine = await open_engine()
    retries = await asyncio.gather(*(engine.store(scope, item(1), idempotency_key="k") for _ in range(8)))
    assert {(one.id, one.version, one.seq, one.created) for one in retries} == {
        (retries[0].id, 1, retries[0].seq, True)
    }
    await engine.close()
    engine = await open_engine()
    again = await engine.store(scope, item(1), idempotency_key="k")
    assert again.replayed
    with pytest.raises(Conflict):
        await engine.store(scope, item(1, payload={"text": "another"}), idempotency_key="k")
    assert (await engine.get(scope, (1.0,))).version == 1


async def test_access_counts_are_gathered_and_flushed_in_one_commit(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    await engine.store(scope, item(1, [1, 0, 0]))
    before = engine.ledger.commits
    for _ in range(20):
        await engine.recall(scope, asked([1, 0, 0]))
    assert engine.ledger.commits == before
    await engine.close()
    engine = await open_engine(vector_dim=3)
    assert (await engine.get(scope, (1.0,))).access_count == 20


async def test_an_expired_memory_is_not_found_then_deleted_but_for_pinned_and_held_ones(
    open_engine: Any, scope: Scope
) -> None:
    clock = Clock()
    engine: MemoryEngine = await open_engine(vector_dim=3, clock=clock)
    for number, kept in enumerate(({}, {"pinned": True}, {"hold": True}, {}), start=1):
        await engine.store(scope, item(number, [1, 0, 0], ttl=60.0, payload={"text": "brief"}, **kept))
    await engine.retention.hold(scope, (4.0,))
    assert await engine._housekeeper.spare() == 2
    clock.now += 61

    async def there() -> list[float]:
        """What every door shows, which is the same."""
        by_vector = sorted(coordinates(await engine.recall(scope, asked([1, 0, 0]))))
        for request in (asked([1, 0, 0], filters={"text": "brief"}), RecallRequest(query="brief", hybrid=True)):
            assert sorted(coordinates(await engine.recall(scope, request))) == by_vector
        for records in (await engine.keyword_search(scope, "brief"), (await engine.scan(scope)).memories):
            assert sorted(one.coordinate[0] for one in records) == by_vector
        for number in range(1, 5):
            with contextlib.nullcontext() if number in by_vector else pytest.raises(NotFound):
                await engine.get(scope, (float(number),))
        return by_vector

    assert await there() == [2.0, 3.0, 4.0]
    assert await engine._housekeeper.expire() == 1
    assert await engine._housekeeper.expire() == 0
    await engine.store(scope, item(4, [1, 0, 0], ttl=30.0, payload={"text": "brief"}))
    assert await engine._housekeeper.spare() == 2
    clock.now += 31
    assert await there() == [2.0, 3.0, 4.0]
    await engine.close()
    engine = await open_engine(vector_dim=3, clock=clock)
    assert await there() == [2.0, 3.0, 4.0]
    await engine.retention.hold(scope, (4.0,), hold=False)
    assert await engine._housekeeper.expire() == 1
    assert await there() == [2.0, 3.0]


async def test_another_dimension_or_another_model_is_refused_at_the_start(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=16)
    await engine.store(scope, item(1))
    await engine.close()
    with pytest.raises(SettingsError, match="vectors of 16 numbers"):
        await open_engine(vector_dim=32)
    engine = await open_engine(vector_dim=16)
    await engine.ledger.transact(
        lambda tx: tx.connection.execute("UPDATE facts SET value='other' WHERE key LIKE 'emb%'")
    )
    await engine.close()
    with pytest.raises(SettingsError, match="embedded by other"):
        await open_engine(vector_dim=16)


async def test_distributed_mode_is_refused_by_name() -> None:
    from memory_runtime.engine import build_engine

    with pytest.raises(SettingsError, match="mode"):
        build_engine(SMFSettings(mode="distributed"))


async def test_an_engine_that_is_not_started_or_is_closed_refuses_and_says_which(
    open_engine: Any, scope: Scope
) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    assert (await engine.ready()).ready
    await engine.close()
    with pytest.raises(Unavailable, match="stopping"):
        await engine.store(scope, item(1, [1, 0, 0]))
    assert not (await engine.ready()).ready


async def test_an_index_that_fell_out_of_step_is_built_anew_without_a_restart(
    open_engine: Any, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    await engine.store(scope, item(1, [1, 0, 0]))
    await engine.coordinate_store(scope, (7.0,), {})
    with monkeypatch.context() as patch:
        patch.setattr(engine.follower.index, "upsert", lambda _: (_ for _ in ()).throw(MemoryError))
        assert (await engine.store(scope, item(2, [1, 0, 0]))).created, "it is durable, so it is acknowledged"
        assert not (await engine.ready()).ready
    assert await engine._housekeeper.mend()
    assert not await engine._housekeeper.mend()
    assert (await engine.ready()).ready
    await engine.store(scope, item(3, [1, 0, 0]))
    assert sorted(coordinates(await engine.recall(scope, asked([1, 0, 0])))) == [1.0, 2.0, 3.0]
    assert len(await engine.coordinate_recall(scope, (7.0,))) == 1
    assert (await engine.stats(scope)).total_memories == 3


async def test_stats_go_on_with_the_last_counts_when_the_ledger_is_away(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    await engine.store(scope, item(1, [1, 0, 0]))
    engine.ledger._damaged = True
    stats = await engine.stats()
    assert (stats.total_memories, stats.stale) == (1, True)
    assert (await engine.ready()).reasons


async def test_a_storm_of_writers_deleters_and_readers_leaves_ledger_and_index_equal(
    open_engine: Any, scope: Scope
) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    rng = np.random.default_rng(3)

    async def act(kind: int, at: int) -> None:
        try:
            if kind < 5:
                await engine.store(scope, item(at, list(rng.uniform(0.1, 1, 3))))
            elif kind < 8:
                await engine.delete(scope, (float(at),))
            else:
                await engine.recall(scope, asked([1, 1, 1], top_k=50, filters={"text": f"memory {at}"}))
        except SomaError as error:
            pytest.fail(str(error))

    await asyncio.gather(*(act(int(rng.integers(10)), int(rng.integers(20))) for _ in range(400)))
    hits = (await engine.recall(scope, asked([1, 1, 1], top_k=100))).hits
    stored = await engine.coordinates_in_range(scope, (0.0,), (99.0,))
    assert sorted(hit.record.coordinate for hit in hits) == stored
    assert (await engine.stats(scope)).total_memories == len(stored) == len(engine.follower.index)
    assert not any((await engine.ledger.read(lambda view: following.half_visible(view.connection))).values())
