"""What the Qdrant store promises: on local mode, over its REST protocol, and on a server where one is named.

`SOMA_TEST_QDRANT_URL` (with `SOMA_TEST_QDRANT_GRPC_PORT`, `SOMA_TEST_QDRANT_API_KEY`) adds the server, over gRPC and
over REST.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, models

from memory_runtime.model.errors import InvalidArgument, Unavailable, Unprocessable
from memory_runtime.model.records import Scope, Vector
from memory_runtime.settings import SettingsError
from memory_runtime.stores.interfaces import (
    IVectorStore,
    StoreWiped,
    VectorFilter,
    VectorHit,
    VectorPoint,
    VectorRemoval,
)
from memory_runtime.stores.qdrant import QdrantOptions, QdrantVectorStore

pytestmark = pytest.mark.integration

DIM = 16
HOME = Scope("acme", "api_ns")
SERVER = os.environ.get("SOMA_TEST_QDRANT_URL")
KINDS = ["local", "rest", *(["server-grpc", "server-rest"] if SERVER else [])]


def unit(rows: int, seed: int = 7) -> Vector:
    drawn = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def point(number: int, vector: Vector, *, seq: int = 1, scope: Scope = HOME, **more: object) -> VectorPoint:
    fields = {"id": uuid.UUID(int=number), "scope": scope, "memory_type": "episodic", "vector": vector, "seq": seq}
    return VectorPoint(**(fields | more))  # type: ignore[arg-type]


def numbers(hits: list[VectorHit]) -> list[int]:
    return [hit.id.int for hit in hits]


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest) -> AsyncIterator[QdrantVectorStore]:
    options = QdrantOptions(f"contract-{uuid.uuid4().hex}", DIM, batch=100)
    client = None
    if request.param == "local":
        client = AsyncQdrantClient(":memory:")
    elif request.param == "rest":
        options = dataclasses.replace(options, url=request.getfixturevalue("qdrant_rest"), prefer_grpc=False)
    else:
        options = dataclasses.replace(
            options,
            url=SERVER or "",
            grpc_port=int(os.environ.get("SOMA_TEST_QDRANT_GRPC_PORT", "6334")),
            secret=os.environ.get("SOMA_TEST_QDRANT_API_KEY"),
            prefer_grpc=request.param == "server-grpc",
            timeout=30,
        )
    made = QdrantVectorStore(options, client=client)
    await made.start()
    yield made
    await made.drop()
    await made.close()


async def test_is_a_vector_store(store: QdrantVectorStore) -> None:
    assert isinstance(store, IVectorStore)
    assert store.approximate
    assert await store.ping()
    assert await store.ensure() is False
    status = await store.status()
    assert (status.points, status.queued, status.status) == (0, 0, "green")


async def test_nearest_are_found_by_cosine_whatever_they_weigh(store: QdrantVectorStore) -> None:
    vectors = unit(300)
    weights = np.random.default_rng(3).uniform(-4, 4, 300)
    await store.upsert([point(n, vectors[n], log2_weight=float(weights[n])) for n in range(300)])
    hits = await store.search(HOME, vectors[5], 10)
    truth = np.argsort(-(vectors @ vectors[5]))[:10].tolist()
    assert numbers(hits)[0] == 5
    # stored scaled, so this order is approximate by design
    assert len(set(numbers(hits)) & set(truth)) >= 8
    assert hits[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
    assert hits[0].log2_weight == pytest.approx(float(weights[5]))


@pytest.mark.parametrize("offset", [0.0, 2_833_333.3])
async def test_weighted_search_is_over_the_decayed_score(store: QdrantVectorStore, offset: float) -> None:
    vectors = unit(250)
    weights = np.random.default_rng(4).exponential(3, 250) * -1 + offset
    await store.upsert([point(n, vectors[n], log2_weight=float(weights[n])) for n in range(250)])
    for query in unit(3, seed=11):
        truth = np.argsort(-np.maximum(vectors @ query, 0) * np.exp2(weights - offset))[:10].tolist()
        assert numbers(await store.search(HOME, query, 10, weighted=True)) == truth


async def test_bands_of_few_points_are_all_found(store: QdrantVectorStore) -> None:
    vectors = unit(90)
    await store.upsert([point(n, vectors[0], log2_weight=-50.0 * n) for n in range(90)])
    assert numbers(await store.search(HOME, vectors[0], 90, weighted=True)) == list(range(90))


async def test_what_points_away_is_never_an_answer(store: QdrantVectorStore) -> None:
    vector = unit(1)[0]
    await store.upsert([point(1, vector), point(2, -vector)])
    assert numbers(await store.search(HOME, vector, 10)) == [1]
    assert numbers(await store.search(HOME, vector, 10, weighted=True)) == [1]


async def test_newest_wins_whatever_order_writes_arrive_in(store: QdrantVectorStore) -> None:
    vectors = unit(3)
    await store.upsert([point(1, vectors[0], seq=10)])
    await store.upsert([point(1, vectors[1], seq=9), point(2, vectors[1], seq=5), point(2, vectors[2], seq=6)])
    assert await store.seqs([uuid.UUID(int=1), uuid.UUID(int=2), uuid.UUID(int=3)]) == {
        uuid.UUID(int=1): 10,
        uuid.UUID(int=2): 6,
    }
    (hit,) = await store.search(HOME, vectors[0], 1)
    assert hit.id.int == 1
    assert hit.similarity == pytest.approx(1.0, abs=1e-5)
    # between the batch's oldest and newest: the shared condition is too strict for it, its own is not
    await store.upsert([point(3, vectors[0], seq=3), point(1, vectors[2], seq=12), point(2, vectors[0], seq=7)])
    await store.upsert([point(9, vectors[0], seq=8), point(2, vectors[2], seq=11)])
    assert await store.seqs([uuid.UUID(int=1), uuid.UUID(int=2)]) == {uuid.UUID(int=1): 12, uuid.UUID(int=2): 11}


async def test_concurrent_writers_leave_the_newest(store: QdrantVectorStore) -> None:
    vectors = unit(8)
    orders = [np.random.default_rng(n).permutation(8) for n in range(3)]

    async def write(order: list[int]) -> None:
        for seq in order:
            await store.upsert([point(n, vectors[seq], seq=int(seq) + 1) for n in range(5)])

    await asyncio.gather(*(write(order.tolist()) for order in orders))
    assert set((await store.seqs([uuid.UUID(int=n) for n in range(5)])).values()) == {8}


async def test_a_removed_point_stays_away_until_something_newer(store: QdrantVectorStore) -> None:
    vector = unit(1)[0]
    await store.upsert([point(1, vector, seq=4), point(2, vector, seq=9)])
    await store.remove([VectorRemoval(uuid.UUID(int=one), 5) for one in (1, 2, 3)])
    await store.upsert([point(1, vector, seq=4), point(3, vector, seq=5)])
    assert await store.seqs([uuid.UUID(int=one) for one in (1, 2, 3)]) == {uuid.UUID(int=2): 9}
    assert numbers(await store.search(HOME, vector, 10)) == [2]
    assert await store.count() == 1
    await store.upsert([point(1, vector, seq=6)])
    assert sorted(numbers(await store.search(HOME, vector, 10, weighted=True))) == [1, 2]
    await store.purge_tombstones(below=6)
    pages = [page async for page in store.stamps()]
    assert {one.int for page in pages for one, _ in page} == {1, 2}


async def test_nothing_crosses_scopes(store: QdrantVectorStore) -> None:
    vector = unit(1)[0]
    scopes = [Scope("acme", "api_ns"), Scope("acme", "other"), Scope("zeta", "api_ns")]
    await store.upsert([point(n, vector, scope=scope) for n, scope in enumerate(scopes)])
    for n, scope in enumerate(scopes):
        assert numbers(await store.search(scope, vector, 10)) == [n]
        assert numbers(await store.search(scope, vector, 10, weighted=True)) == [n]
        assert await store.count(scope) == 1
    assert await store.search(Scope("acme", "nobody"), vector, 10, weighted=True) == []


async def test_filters_come_before_the_best_are_chosen(store: QdrantVectorStore) -> None:
    vectors = unit(60)
    await store.upsert(
        [
            point(
                n,
                vectors[n],
                memory_type="semantic" if n % 3 == 0 else "episodic",
                event_time=float(n),
                log2_weight=float(n % 7),
                expires_at=100.0 if n % 5 == 0 else None,
            )
            for n in range(60)
        ]
    )
    everyone = range(60)

    async def found(where: VectorFilter) -> set[int]:
        searches = [await store.search(HOME, sign * vectors[0], 60, where=where, weighted=True) for sign in (1, -1)]
        return {hit.id.int for hits in searches for hit in hits}

    assert await found(VectorFilter(memory_types=["semantic"])) == {n for n in everyone if n % 3 == 0}
    assert await found(VectorFilter(event_time=(10.0, 20.0))) == set(range(10, 20))
    assert await found(VectorFilter(log2_weight=(2.0, 4.0))) == {n for n in everyone if 2 <= n % 7 < 4}
    assert await found(VectorFilter(log2_weight=(-np.inf, 1.0))) == {n for n in everyone if n % 7 == 0}
    assert await found(VectorFilter(at=100.0)) == {n for n in everyone if n % 5}
    assert await found(VectorFilter(at=99.0)) == set(everyone)
    assert await found(VectorFilter(memory_types=[])) == set()


async def test_points_of_other_rules_are_not_found_and_are_replaced(store: QdrantVectorStore) -> None:
    vector = unit(1)[0]
    await store.upsert([point(1, vector, seq=4, log2_weight=3.0), point(2, vector, seq=5)])
    assert store.follow_layout("half-life 7d") is True
    assert store.follow_layout("half-life 7d") is False
    assert await store.search(HOME, vector, 10) == []
    assert await store.count() == 0
    await store.upsert([point(1, vector, seq=4, log2_weight=-9.0)])
    (hit,) = await store.search(HOME, vector, 10)
    assert (hit.id.int, hit.log2_weight, hit.seq) == (1, -9.0, 4)
    # what changed since is not made older by a slow writer of the new rules
    await store.upsert([point(2, vector, seq=3)])
    pages = [page async for page in store.stamps()]
    assert {one.int: stamp.seq for page in pages for one, stamp in page} == {1: 4, 2: 5}


async def test_stamps_come_in_order_of_id_from_anywhere(store: QdrantVectorStore) -> None:
    vector = unit(1)[0]
    ids = sorted(uuid.UUID(int=int(n) << 96 | 5) for n in np.random.default_rng(5).integers(0, 2**32, 40))
    await store.upsert([dataclasses.replace(point(0, vector, seq=n + 1), id=one) for n, one in enumerate(ids)])
    listed = [one async for page in store.stamps() for one, _ in page]
    assert listed == ids
    assert [one async for page in store.stamps(ids[17]) for one, _ in page] == ids[17:]
    await store.erase(ids[:39])
    assert [one async for page in store.stamps() for one, _ in page] == ids[39:]


async def test_bad_arguments_are_named_and_nothing_is_sent(store: QdrantVectorStore) -> None:
    with pytest.raises(InvalidArgument, match=r"points\[1\].vector: has 3 dimensions, the collection 16"):
        await store.upsert([point(1, unit(1)[0]), point(2, np.ones(3, np.float32))])
    assert await store.count() == 0
    with pytest.raises(InvalidArgument, match="limit"):
        await store.search(HOME, unit(1)[0], 0)
    with pytest.raises(InvalidArgument, match="query"):
        await store.search(HOME, np.ones(2, np.float32), 1)


async def test_a_wiped_qdrant_is_told_apart_from_one_that_is_away(store: QdrantVectorStore) -> None:
    await store.upsert([point(1, unit(1)[0])])
    await store.drop()
    for ask in (lambda: store.search(HOME, unit(1)[0], 1), store.count, lambda: store.upsert([point(1, unit(1)[0])])):
        with pytest.raises(StoreWiped):
            await ask()
    assert await store.ensure() is True
    assert await store.count() == 0


async def test_a_collection_of_another_shape_is_refused_and_left_alone(store: QdrantVectorStore) -> None:
    await store.upsert([point(1, unit(1)[0])])
    other = QdrantVectorStore(dataclasses.replace(store.options, dim=DIM + 1), client=store._client)
    with pytest.raises(SettingsError, match=r"vector_dim: the collection .* has 16, the settings say 17") as refused:
        await other.start()
    assert f"SOMA_QDRANT_COLLECTION={store.options.collection}_dim17" in str(refused.value)
    assert await store.count() == 1


async def test_a_collection_that_measures_cosine_is_refused(store: QdrantVectorStore) -> None:
    await store.drop()
    vectors = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    await store._client.create_collection(store.options.collection, vectors_config=vectors)
    with pytest.raises(SettingsError, match=r"qdrant_collection: .* has distance Cosine, .* say distance Dot"):
        await store.start()


async def test_a_closed_store_says_so(store: QdrantVectorStore) -> None:
    other = QdrantVectorStore(store.options, client=AsyncQdrantClient(":memory:"))
    await other.close()
    await other.close()
    assert await other.ping() is False
    with pytest.raises(Unavailable, match="closed"):
        await other.count()


async def test_local_mode_refuses_snapshots() -> None:
    store = QdrantVectorStore(QdrantOptions("c", DIM), client=AsyncQdrantClient(":memory:"))
    with pytest.raises(Unprocessable, match="local mode has no snapshots"):
        await store.snapshot()
    await store.close()


if SERVER:

    @pytest.mark.parametrize("store", ["server-grpc"], indirect=True)
    async def test_a_snapshot_brings_back_what_was_there(store: QdrantVectorStore, tmp_path: Path) -> None:
        vectors = unit(20)
        await store.upsert([point(n, vectors[n], seq=n + 1) for n in range(20)])
        name = await store.snapshot()
        assert await store.snapshots() == [name]
        await store.erase([uuid.UUID(int=n) for n in range(20)])
        assert await store.count() == 0
        url = f"{store.options.url}/collections/{store.options.collection}/snapshots/{name}"
        await store.recover(url)
        assert await store.count() == 20

    @pytest.mark.parametrize("store", ["server-grpc"], indirect=True)
    @pytest.mark.parametrize(
        ("change", "setting"),
        [
            ({"shards": 3}, "qdrant_shard_number"),
            ({"quantization": "int8"}, "qdrant_quantization"),
            ({"replicas": 2}, "qdrant_replication_factor"),
            ({"consistency": 2}, "qdrant_write_consistency_factor"),
        ],
    )
    async def test_what_only_a_server_has_is_checked_too(
        store: QdrantVectorStore, change: dict[str, object], setting: str
    ) -> None:
        other = QdrantVectorStore(dataclasses.replace(store.options, **change))  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match=setting):
            await other.start()
        await other.close()
        fresh = dataclasses.replace(store.options, collection=f"{store.options.collection}-2", **change)  # type: ignore[arg-type]
        made = QdrantVectorStore(fresh)
        if setting in {"qdrant_shard_number", "qdrant_quantization"}:
            await made.start()
            await made.start()
            await made.drop()
        await made.close()
