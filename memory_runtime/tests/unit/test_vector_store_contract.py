"""What `IVectorStore` promises and every store must keep, of the exact one in memory and of Qdrant's local mode.

Ranks that an approximate store may miss are in each store's own tests.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from memory_runtime.model.errors import InvalidArgument, Unavailable
from memory_runtime.model.records import Scope, Vector
from memory_runtime.scoring.formula import exact_dot
from memory_runtime.stores.interfaces import IVectorStore, VectorFilter, VectorHit, VectorPoint, VectorRemoval
from memory_runtime.stores.qdrant import QdrantOptions, QdrantVectorStore
from memory_runtime.stores.vectors import InMemoryVectorStore

DIM = 8
HOME, OTHER = Scope("acme", "notes"), Scope("rival", "notes")


def unit(*values: float) -> Vector:
    padded = np.zeros(DIM, np.float32)
    padded[: len(values)] = values
    return np.asarray(padded / np.linalg.norm(padded), np.float32)


def point(number: int, vector: Vector, *, seq: int = 1, scope: Scope = HOME, **more: object) -> VectorPoint:
    fields = {"id": uuid.UUID(int=number), "scope": scope, "memory_type": "episodic", "vector": vector, "seq": seq}
    return VectorPoint(**(fields | more))  # type: ignore[arg-type]


def removal(number: int, seq: int) -> VectorRemoval:
    return VectorRemoval(uuid.UUID(int=number), seq)


def numbers(hits: list[VectorHit]) -> list[int]:
    return [hit.id.int for hit in hits]


@pytest.fixture(params=["memory", "qdrant-local"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[IVectorStore]:
    made: IVectorStore
    if request.param == "memory":
        made = InMemoryVectorStore(DIM, exact_dot)
    else:
        options = QdrantOptions(f"contract-{uuid.uuid4().hex}", DIM)
        made = QdrantVectorStore(options, client=AsyncQdrantClient(":memory:"))
    await made.start()
    yield made
    await made.close()


EAST = unit(1)


async def test_it_answers_with_cosine_weight_and_seq(store: IVectorStore) -> None:
    assert isinstance(store, IVectorStore)
    assert await store.ping()
    await store.upsert([point(1, unit(1, 1), seq=7, log2_weight=-2.5), point(2, unit(-1))])
    (hit,) = await store.search(HOME, EAST, 10)
    assert hit.id.int == 1, "what points away is never found"
    assert hit.similarity == pytest.approx(2**-0.5, abs=1e-5)
    assert (hit.log2_weight, hit.seq) == (pytest.approx(-2.5), 7)
    assert await store.count() == 2
    assert await store.seqs([uuid.UUID(int=1), uuid.UUID(int=9)]) == {uuid.UUID(int=1): 7}


async def test_the_best_come_first_by_similarity_or_by_the_decayed_score(store: IVectorStore) -> None:
    turned = [unit(1, 0.3 * n) for n in range(4)]
    await store.upsert([point(n, turned[n], log2_weight=float(n)) for n in range(4)])
    assert numbers(await store.search(HOME, EAST, 4)) == [0, 1, 2, 3]
    scores = {n: float(EAST @ turned[n]) * 2.0**n for n in range(4)}
    assert numbers(await store.search(HOME, EAST, 3, weighted=True)) == sorted(scores, key=lambda n: -scores[n])[:3]


async def test_the_newest_sequence_wins_in_whatever_order_calls_arrive(store: IVectorStore) -> None:
    new, old = unit(1), unit(0, 1)
    await store.upsert([point(1, new, seq=5)])
    await store.upsert([point(1, old, seq=4)])
    await store.remove([removal(1, 3)])
    (hit,) = await store.search(HOME, EAST, 5)
    assert (hit.seq, hit.similarity) == (5, pytest.approx(1.0, abs=1e-5))
    await store.remove([removal(1, 6)])
    assert await store.search(HOME, EAST, 5) == []
    assert await store.count(HOME) == 0
    await store.remove([removal(1, 6), removal(2, 1)])
    await store.upsert([point(1, new, seq=9)])
    assert numbers(await store.search(HOME, EAST, 5)) == [1]


async def test_within_one_call_the_newest_wins_too(store: IVectorStore) -> None:
    await store.upsert([point(1, unit(0, 1), seq=1), point(1, EAST, seq=3), point(1, unit(0, 1), seq=2)])
    (hit,) = await store.search(HOME, EAST, 5)
    assert hit.seq == 3


async def test_nothing_crosses_scopes(store: IVectorStore) -> None:
    await store.upsert([point(1, EAST), point(2, EAST, scope=OTHER), point(3, EAST, scope=Scope("acme", "other"))])
    assert numbers(await store.search(HOME, EAST, 10)) == [1]
    assert numbers(await store.search(OTHER, EAST, 10)) == [2]
    assert await store.search(Scope("nobody", "notes"), EAST, 10) == []
    assert [await store.count(scope) for scope in (HOME, OTHER, None)] == [1, 1, 3]


async def test_filters_apply_before_the_best_are_chosen(store: IVectorStore) -> None:
    await store.upsert(
        [
            point(1, EAST, memory_type="semantic", event_time=100.0, log2_weight=1.0),
            point(2, EAST, event_time=200.0, log2_weight=2.0, expires_at=1000.0),
            point(3, unit(1, 0.5), event_time=300.0, log2_weight=3.0),
        ]
    )
    for where, expected in [
        (VectorFilter(memory_types={"episodic"}), [2, 3]),
        (VectorFilter(memory_types=()), []),
        (VectorFilter(event_time=(100.0, 300.0)), [1, 2]),
        (VectorFilter(log2_weight=(2.0, 3.0)), [2]),
        (VectorFilter(at=999.0), [1, 2, 3]),
        (VectorFilter(at=1000.0), [1, 3]),
    ]:
        assert numbers(await store.search(HOME, EAST, 3, where=where)) == expected, where
    only = VectorFilter(event_time=(300.0, 301.0))
    assert numbers(await store.search(HOME, EAST, 1, where=only)) == [3], "a limit does not cut before the filter"


async def test_a_wrong_dimension_changes_nothing(store: IVectorStore) -> None:
    wrong = np.ones(DIM + 1, np.float32)
    with pytest.raises(InvalidArgument):
        await store.upsert([point(1, EAST), point(2, wrong)])
    assert await store.count() == 0
    with pytest.raises(InvalidArgument):
        await store.search(HOME, wrong, 1)


async def test_a_closed_store_says_so(store: IVectorStore) -> None:
    await store.close()
    await store.close()
    assert not await store.ping()
    with pytest.raises(Unavailable):
        await store.search(HOME, EAST, 1)
    with pytest.raises(Unavailable):
        await store.upsert([point(1, EAST)])


async def test_the_one_in_memory_is_bounded_exact_and_refuses_what_is_no_unit_vector() -> None:
    store = InMemoryVectorStore(DIM, exact_dot, most=2)
    assert not store.approximate
    await store.upsert([point(1, EAST), point(2, EAST)])
    assert numbers(await store.search(HOME, EAST, 2)) == [1, 2], "ties by id"
    with pytest.raises(Unavailable):
        await store.upsert([point(3, EAST)])
    for bad in (EAST * 2, EAST * np.float32("nan")):
        with pytest.raises(InvalidArgument, match="unit"):
            await store.upsert([point(1, bad, seq=2)])
    await store.remove([removal(1, 9)])
    await store.upsert([point(1, EAST, seq=8)])
    assert await store.count() == 1, "an older upsert brings nothing back"
