"""The vector store follows the ledger, whatever is stored, deleted, wiped or restored; and the proof that it does."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from memory_runtime.engine import MemoryEngine, build_engine
from memory_runtime.engine.vectors.feed import FILLED, FILLING
from memory_runtime.engine.vectors.reconcile import RangeHashes, row_hashes
from memory_runtime.events import Pipeline
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Scope
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.interfaces import VectorRemoval
from memory_runtime.stores.qdrant import QdrantOptions, QdrantVectorStore
from memory_runtime.tests.samples import item

DIM = 8


class Fed:
    """An engine with a store in local mode, and the relay between them."""

    def __init__(self, engine: MemoryEngine, store: QdrantVectorStore) -> None:
        self.engine = engine
        self.store = store
        self.pipeline = Pipeline(
            engine.settings, engine.ledger, engine.metrics, engine.clock, also=engine.vectors.sinks
        )

    async def drained(self) -> None:
        (relay,) = self.pipeline.relays
        async with asyncio.timeout(20):
            await relay.caught_up()

    async def equal(self) -> bool:
        await self.drained()
        return (await self.engine.vectors.reconcile(repair=False)).equal


Feeder = Callable[..., Awaitable[Fed]]


@pytest.fixture
async def fed(tmp_path: Path) -> AsyncIterator[Feeder]:
    made: list[Fed] = []

    async def opener(**settings: Any) -> Fed:
        store = QdrantVectorStore(QdrantOptions("notes", DIM, batch=50), client=AsyncQdrantClient(":memory:"))
        values = {"data_dir": tmp_path / "data", "embedding_provider": "hash", "vector_dim": DIM} | settings
        engine = build_engine(SMFSettings(**values), vector_store=store)
        await engine.start()
        made.append(Fed(engine, store))
        made[-1].pipeline.start()
        return made[-1]

    yield opener
    for one in made:
        await one.pipeline.stop()
        await one.engine.close()


def drawn(seed: int) -> list[float]:
    return np.random.default_rng(seed).standard_normal(DIM).tolist()


async def fill(engine: MemoryEngine, scope: Scope, count: int, *, first: int = 0) -> None:
    await engine.store_bulk(scope, [item(n, drawn(n), timestamp=1e9 + n) for n in range(first, first + count)])


async def test_the_store_follows_every_kind_of_change(fed: Feeder, scope: Scope) -> None:
    one = await fed(half_life="1d")
    await fill(one.engine, scope, 120)
    assert await one.equal()
    assert await one.store.count(scope) == 120
    await one.engine.store(scope, item(3, drawn(1000)))
    for n in (5, 6):
        await one.engine.delete(scope, (float(n),))
    await one.engine.store(scope, item(6, drawn(6)))
    await one.engine.link(scope, (1.0,), (2.0,))
    await one.engine.coordinate_store(scope, (1.0, 2.0), {"a": 1})
    assert await one.equal()
    assert await one.store.count(scope) == 119
    found = await one.engine.vectors.reconcile(repair=False)
    assert (found.ledger_hash, found.ledger_rows, found.ranges_differing) == (found.store_hash, found.store_rows, 0)
    # a payload never leaves the ledger
    records, _ = await one.store._client.scroll("notes", limit=200, with_payload=True)
    assert {key for record in records for key in record.payload or {}} <= {
        "tenant", "namespace", "memory_type", "seq", "epoch", "band", "log2_weight", "event_time", "layout",
            "gone",
    }  # fmt: skip


@pytest.mark.parametrize("late", [0, 1, 2, 3])
async def test_verdict_and_counts_are_of_one_moment_whenever_the_relay_comes(
    fed: Feeder, scope: Scope, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """The relay delivers between two looks of the comparison, whichever they are."""
    one = await fed()
    await one.pipeline.stop()
    await fill(one.engine, scope, 12)
    await one.engine.delete(scope, (3.0,))
    feed, ledger = one.engine.vectors.feed, one.engine.ledger
    assert feed is not None
    plain, looks = one.store.stamps, 0

    async def deliver() -> None:
        seq = await feed.deliver(await ledger.tail(0))
        await ledger.transact(lambda transaction: transaction.advance_sink("qdrant", seq, 1.0))

    async def stamps(*after: Any) -> Any:
        nonlocal looks
        if looks == late:
            await deliver()
        looks += 1
        async for page in plain(*after):
            yield page

    monkeypatch.setattr(one.store, "stamps", stamps)
    found = await one.engine.vectors.reconcile(repair=False)
    assert found.equal
    assert found.ledger_rows == 11
    assert (found.store_rows == 11) == (found.pending == 0 or found.ledger_hash == found.store_hash)
    assert (found.ledger_hash == found.store_hash) == (found.ledger_rows == found.store_rows)
    assert found.store_rows + found.pending >= 11
    await deliver()
    found = await one.engine.vectors.reconcile(repair=False)
    assert (found.equal, found.pending, found.ledger_rows, found.store_rows) == (True, 0, 11, 11)
    await one.store.erase([(await one.engine.get(scope, (5.0,))).id])
    found = await one.engine.vectors.reconcile(repair=False)
    assert (found.equal, found.missing, found.pending, found.store_rows) == (False, 1, 0, 10)


async def test_a_store_that_is_new_to_an_old_ledger_is_filled_from_a_scan(fed: Feeder, scope: Scope) -> None:
    one = await fed()
    await one.pipeline.stop()
    await fill(one.engine, scope, 30)
    await one.engine.ledger.transact(lambda transaction: transaction.drop_sink("qdrant"))
    await one.engine.ledger.transact(lambda transaction: transaction.trim(0.0, 1))
    one.pipeline = Pipeline(
        one.engine.settings, one.engine.ledger, one.engine.metrics, one.engine.clock, also=one.engine.vectors.sinks
    )
    one.pipeline.start()
    assert await one.equal()
    assert await one.store.count(scope) == 30


async def test_a_memory_that_the_store_cannot_take_stops_neither_changes_nor_a_fill(
    fed: Feeder, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await fed()
    await fill(one.engine, scope, 10)
    await one.drained()
    culprit = (await one.engine.get(scope, (3.0,), None)).id
    upsert = one.store.upsert

    async def fails_for_one(points: Any) -> None:
        if any(point.id == culprit for point in points):
            raise ValueError("Out of range float values are not JSON compliant")
        await upsert(points)

    monkeypatch.setattr(one.store, "upsert", fails_for_one)
    await fill(one.engine, scope, 20)
    await one.drained()
    assert await one.store.count(scope) == 20
    await one.store.drop()
    await one.engine.vectors.look()
    assert await one.store.count(scope) == 19


async def test_a_wiped_store_is_filled_again_by_the_next_change(fed: Feeder, scope: Scope) -> None:
    one = await fed()
    await fill(one.engine, scope, 40)
    await one.drained()
    await one.store.drop()
    await fill(one.engine, scope, 1, first=40)
    assert await one.equal()
    assert await one.store.count(scope) == 41


async def test_a_wiped_store_is_filled_again_without_a_change(fed: Feeder, scope: Scope) -> None:
    one = await fed()
    await fill(one.engine, scope, 40)
    await one.drained()
    await one.store.drop()
    await one.engine.vectors.look()
    assert await one.store.count(scope) == 40
    assert await one.equal()


async def test_an_interrupted_fill_goes_on_and_is_not_taken_for_finished(fed: Feeder, scope: Scope) -> None:
    one = await fed()
    await fill(one.engine, scope, 40)
    await one.drained()
    await one.store.drop()
    feed = one.engine.vectors.feed
    assert feed is not None
    upsert, written = one.store.upsert, []

    async def once(points: Any) -> None:
        if written:
            raise Unavailable("away", retry_after=1)
        written.append(len(points))
        await upsert(points[:7])
        raise Unavailable("away", retry_after=1)

    one.store.upsert = once  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await feed.start_over()
    facts = await one.engine.ledger.read(lambda view: view.facts())
    assert FILLED not in facts
    assert FILLING in facts
    one.store.upsert = upsert  # type: ignore[method-assign]
    await fill(one.engine, scope, 1, first=40)
    assert await one.equal()
    facts = await one.engine.ledger.read(lambda view: view.facts())
    assert facts[FILLED] == str(one.store.layout)
    assert FILLING not in facts


async def test_other_rules_of_weight_place_every_point_anew(fed: Feeder, scope: Scope) -> None:
    one = await fed(gates_apply_allowed=True)
    await fill(one.engine, scope, 40)
    assert await one.equal()
    before = one.store.layout
    await one.engine.gates.apply("G6", value="7d", actor="test")
    await fill(one.engine, scope, 1, first=40)
    assert await one.equal()
    assert one.store.layout != before
    assert await one.store.count(scope) == 41
    stamps = [stamp async for page in one.store.stamps() for _, stamp in page]
    assert {stamp.layout for stamp in stamps} == {one.store.layout}


@pytest.mark.parametrize("repair", [False, True])
async def test_every_kind_of_difference_is_found_and_mended(fed: Feeder, scope: Scope, repair: bool) -> None:
    one = await fed()
    await fill(one.engine, scope, 60)
    assert await one.equal()
    stamps = {key: stamp async for page in one.store.stamps() for key, stamp in page}
    ids = sorted(stamps)
    feed = one.engine.vectors.feed
    assert feed is not None
    points = {
        point.id: point
        for point in await one.engine.ledger.read(lambda view: feed.points_of([key.bytes for key in ids], view))
    }
    await one.store.erase(ids[:3])
    older = dataclasses.replace(points[ids[4]], seq=0)
    await one.store.erase([ids[4]])
    await one.store.upsert([older])
    stranger = dataclasses.replace(points[ids[5]], id=uuid.UUID(int=77 << 100 | 1), seq=1)
    # from before a restore of the ledger: newer than anything that it knows
    ahead = [dataclasses.replace(points[ids[6]], seq=10**9), dataclasses.replace(stranger, id=uuid.uuid4(), seq=10**9)]
    await one.store.upsert([stranger, *ahead])
    await one.store.remove([VectorRemoval(ids[8], stamps[ids[8]].seq, stamps[ids[8]].epoch)])
    found = await one.engine.vectors.reconcile(repair=repair)
    if not repair:
        assert (found.missing, found.stale, found.foreign, found.repaired) == (4, 2, 2, 0)
        assert not found.equal
        assert found.ledger_hash != found.store_hash
        assert await one.store.count() != 60
    else:
        assert found.equal
        assert found.repaired >= 8
        assert found.ledger_hash == found.store_hash
        assert await one.store.seqs(ids) == {key: stamps[key].seq for key in ids}
        assert await one.store.count() == 60


async def test_what_the_relay_has_yet_to_deliver_is_no_difference(fed: Feeder, scope: Scope) -> None:
    one = await fed()
    await fill(one.engine, scope, 20)
    await one.drained()
    await one.pipeline.stop()
    await fill(one.engine, scope, 5, first=20)
    await one.engine.delete(scope, (3.0,))
    found = await one.engine.vectors.reconcile(repair=False)
    assert (found.equal, found.pending, found.ledger_rows, found.store_rows) == (True, 6, 24, 20)


async def test_tombstones_are_forgotten_once_nothing_as_old_can_come(fed: Feeder, scope: Scope) -> None:
    one = await fed()
    await fill(one.engine, scope, 10)
    await one.drained()
    await one.engine.delete(scope, (3.0,))
    await one.drained()
    assert (await one.store.status()).points == 10
    for points in (10, 10, 9):
        assert (await one.store.status()).points == points
        await one.engine.vectors.reconcile(repair=True)
        await one.engine.store(scope, item(4, drawn(4)))
        await one.drained()


async def test_concurrent_stores_updates_and_deletes_end_equal(fed: Feeder, scope: Scope) -> None:
    one = await fed(half_life="30d")
    rng = np.random.default_rng(8)

    async def client(number: int) -> None:
        for _ in range(25):
            place = float(rng.integers(0, 30))
            if rng.random() < 0.3:
                await one.engine.delete(scope, (place,))
            else:
                await one.engine.store(scope, item(place, drawn(int(rng.integers(1e6)))))

    await asyncio.gather(*(client(n) for n in range(4)))
    assert await one.equal()
    assert await one.store.count(scope) == (await one.engine.stats(scope)).total_memories


def test_range_hashes_do_not_depend_on_order_and_see_every_bit() -> None:
    rng = np.random.default_rng(2)
    ids = [rng.bytes(16) for _ in range(1000)]
    seqs = rng.integers(1, 2**40, 1000).tolist()
    orders = [(0, seq) for seq in seqs]
    whole, parts = RangeHashes(), RangeHashes()
    whole.add(ids, orders)
    order = rng.permutation(1000).tolist()
    for start in range(0, 1000, 300):
        some = order[start : start + 300]
        parts.add([ids[n] for n in some], [orders[n] for n in some])
    assert whole.digest() == parts.digest()
    assert whole.differing(parts) == []
    for change in ((0, 1), (15, 0), (7, 128)):
        other = bytearray(ids[0])
        other[change[0]] ^= change[1] or 1
        altered = RangeHashes()
        altered.add([bytes(other), *ids[1:]], orders)
        assert set(whole.differing(altered)) == {ids[0][0], other[0]}
    altered = RangeHashes()
    altered.add(ids, [(0, seqs[0] ^ (1 << 33)), *orders[1:]])
    assert whole.differing(altered) == [ids[0][0]]
    altered = RangeHashes()
    altered.add(ids, [(1_796_059_877_152_116, seqs[0]), *orders[1:]])
    assert whole.differing(altered) == [ids[0][0]], "the same sequence in another line of history"
    assert len(np.unique(row_hashes(ids, seqs), axis=0)) == 1000
