"""R5 for Qdrant: down, slow, partitioned, wiped, refused. Stores and exact recall go on, the lag rises and drains, and
store and ledger end hash-equal.

A fault proxy stands before the transport: REST before the client's own engine, gRPC before a server where
`SOMA_TEST_QDRANT_URL` names one.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from hack.services import Authority
from hack.services.proxy import FaultProxy
from hack.services.qdrant_rest import start_qdrant_rest
from memory_runtime.engine import MemoryEngine, build_engine
from memory_runtime.events import Pipeline
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.scoring.budget import row_bytes
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.qdrant import QdrantOptions, QdrantVectorStore
from memory_runtime.stores.resilience import BreakerState
from memory_runtime.tests.samples import DAY, asked

pytestmark = pytest.mark.integration

DIM = 8
SCOPE = Scope("acme", "notes")
SERVER = os.environ.get("SOMA_TEST_QDRANT_URL")
GRPC_PORT = int(os.environ.get("SOMA_TEST_QDRANT_GRPC_PORT", "6334"))
TIMEOUT = 1.0
SOON = 2 * TIMEOUT + 1.0
"""An answer waits for one and a half attempts, and a little more."""


@pytest.fixture
def upstream(request: pytest.FixtureRequest) -> str:
    """The URL of what stands behind the proxy."""
    return SERVER or str(request.getfixturevalue("qdrant_rest"))


@pytest.fixture
def proxy(upstream: str) -> Iterator[FaultProxy]:
    host = urlsplit(upstream).hostname or "127.0.0.1"
    with FaultProxy(host, GRPC_PORT) if SERVER else FaultProxy.before(upstream) as made:
        yield made


@pytest.fixture
def options(proxy: FaultProxy, upstream: str) -> QdrantOptions:
    made = QdrantOptions(
        f"faults-{uuid.uuid4().hex}", DIM, timeout=TIMEOUT, secret=os.environ.get("SOMA_TEST_QDRANT_API_KEY")
    )
    if SERVER:
        return replace(made, url=upstream, grpc_port=proxy.port)
    return replace(made, url=proxy.url(upstream), prefer_grpc=False)


class Running:
    """An engine whose index keeps 60 rows, its relay, and the way to Qdrant."""

    def __init__(self, engine: MemoryEngine, store: QdrantVectorStore, proxy: FaultProxy) -> None:
        self.engine = engine
        self.store = store
        self.proxy = proxy
        self.stored = 0
        self.pipeline = Pipeline(
            engine.settings, engine.ledger, engine.metrics, engine.clock, also=engine.vectors.sinks
        )
        self.pipeline.start()

    @property
    def lag(self) -> float:
        return self.engine.metrics.registry.get_sample_value("soma_memory_sink_lag", {"sink": "qdrant"}) or 0.0

    def _next(self) -> StoreItem:
        vector = np.random.default_rng(self.stored).standard_normal(DIM).astype(np.float32)
        self.stored += 1
        age = (self.stored % 200) * DAY
        return StoreItem((float(self.stored),), {"n": self.stored}, timestamp=time.time() - age, vector=vector)

    async def add_at_once(self, count: int) -> None:
        await self.engine.store_bulk(SCOPE, [self._next() for _ in range(count)])

    async def add(self, count: int) -> float:
        """Stores memories one by one; the longest took so many seconds."""
        slowest = 0.0
        for _ in range(count):
            began = time.monotonic()
            await self.engine.store(SCOPE, self._next())
            slowest = max(slowest, time.monotonic() - began)
        return slowest

    async def recall(self, k: int) -> tuple[str, int, float]:
        """(route, hits, seconds)."""
        began = time.monotonic()
        vector = np.random.default_rng(3).standard_normal(DIM).tolist()
        result = await self.engine.recall(SCOPE, asked(vector, top_k=k))
        return result.route, len(result.hits), time.monotonic() - began

    async def drained(self) -> None:
        (relay,) = self.pipeline.relays
        async with asyncio.timeout(45):
            await relay.caught_up()


@pytest.fixture
async def running(tmp_path: Path, options: QdrantOptions, proxy: FaultProxy) -> AsyncIterator[Running]:
    store = QdrantVectorStore(options)
    settings = SMFSettings(
        data_dir=tmp_path / "data",
        embedding_provider="hash",
        vector_dim=DIM,
        qdrant_timeout_seconds=TIMEOUT,
        half_life="10d",
        index_budget_mb=60 * row_bytes(DIM) / 2**20 + 1e-6,
        recall_sample_rate=0,
    )
    engine = build_engine(settings, vector_store=store)
    await engine.start()
    made = Running(engine, store, proxy)
    await made.add_at_once(150)
    await made.drained()
    engine.follower.keep_within_budget()
    yield made
    proxy.heal()
    await store.drop()
    await made.pipeline.stop()
    await engine.close()


@pytest.mark.parametrize("fault", ["down", "partitioned", "slow"])
async def test_qdrant_in_trouble_costs_neither_stores_nor_exact_answers(running: Running, fault: str) -> None:
    assert (await running.recall(2))[0] == "exact"
    assert (await running.recall(60))[0] == "approximate"
    assert running.lag == 0
    if fault == "down":
        running.proxy.cut()
    elif fault == "partitioned":
        # Qdrant does the work, and nobody hears of it
        running.proxy.stall("replies")
    else:
        running.proxy.latency = TIMEOUT
    assert await running.add(20) < 3.0
    route, hits, seconds = await running.recall(2)
    assert (route, hits) == ("exact", 2)
    assert seconds < 1.0
    route, hits, seconds = await running.recall(60)
    # what is in the index is answered; the label says that more may be outside
    assert route == "approximate"
    assert hits > 10
    assert seconds < SOON
    assert running.lag >= 20
    running.proxy.heal()
    await running.drained()
    assert running.lag == 0
    async with asyncio.timeout(20):
        while running.store._guard.breaker.state is not BreakerState.CLOSED:
            await asyncio.sleep(0.1)
            await running.recall(60)
    found = await running.engine.vectors.reconcile(repair=False)
    assert found.equal
    assert found.ledger_hash == found.store_hash
    assert found.store_rows == 170


async def test_a_wiped_qdrant_is_filled_again_and_ends_hash_equal(running: Running) -> None:
    await running.store.drop()
    route, hits, _ = await running.recall(60)
    assert route == "approximate"
    assert hits > 10
    assert (await running.recall(2))[0] == "exact"
    assert await running.add(3) < 1.0
    await running.drained()
    found = await running.engine.vectors.reconcile(repair=False)
    assert found.equal
    assert found.store_rows == 153
    await running.store.drop()
    await running.engine.vectors.look()
    assert (await running.engine.vectors.reconcile(repair=False)).equal


async def test_connections_that_break_in_the_middle_leave_nothing_undone(running: Running) -> None:
    async def breaking() -> None:
        for _ in range(15):
            await asyncio.sleep(0.05)
            running.proxy.drop()

    await asyncio.gather(breaking(), running.add(60))
    await running.drained()
    assert (await running.engine.vectors.reconcile(repair=False)).equal


async def test_a_start_does_not_wait_for_a_qdrant_that_is_away(
    tmp_path: Path, options: QdrantOptions, proxy: FaultProxy
) -> None:
    proxy.stall()
    settings = SMFSettings(data_dir=tmp_path / "data", embedding_provider="hash", vector_dim=DIM)
    engine = build_engine(settings, vector_store=QdrantVectorStore(options))
    began = time.monotonic()
    await engine.start()
    assert time.monotonic() - began < 8
    (note,) = (await engine.stats(SCOPE)).notes
    assert note.startswith("the vector store is away")
    await engine.close()


async def test_a_wrong_dimension_is_refused_at_the_start_and_nothing_is_changed(
    tmp_path: Path, options: QdrantOptions
) -> None:
    there = QdrantVectorStore(replace(options, timeout=10))
    await there.start()
    settings = SMFSettings(data_dir=tmp_path / "data", embedding_provider="hash", vector_dim=DIM + 1)
    engine = build_engine(settings, vector_store=QdrantVectorStore(replace(options, dim=DIM + 1, timeout=10)))
    with pytest.raises(SettingsError, match="vector_dim: the collection"):
        await engine.start()
    await engine.close()
    assert await there.ensure() is False
    await there.drop()
    await there.close()


async def test_the_circuit_opens_and_finds_its_way_back(options: QdrantOptions, proxy: FaultProxy) -> None:
    store = QdrantVectorStore(options)
    await store.start()
    proxy.stall()
    for _ in range(5):
        with pytest.raises(Unavailable) as away:
            await store.count()
        assert away.value.retry_after
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await store.count()
    assert time.monotonic() - began < TIMEOUT
    proxy.heal()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await store.count() == 0
                break
            except Unavailable:
                await asyncio.sleep(0.2)
    await store.drop()
    await store.close()


async def test_the_key_and_the_ca_that_are_named_are_what_counts(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    pair = authority.issue("qdrant")
    trusted = (authority.certificate, pair.certificate, pair.key)
    service = start_qdrant_rest(tmp_path, key="right", certificate=trusted)
    right = QdrantOptions(
        "tls", DIM, url=service.url, prefer_grpc=False, secret="right", ca=authority.certificate, timeout=20
    )
    made: list[QdrantVectorStore] = []

    def store(**more: Any) -> QdrantVectorStore:
        made.append(QdrantVectorStore(replace(right, **more)))
        return made[-1]

    try:
        await store().start()
        assert await made[0].count() == 0
        with pytest.raises(Unavailable, match="qdrant_api_key: Qdrant refuses it") as refused:
            await store(secret="swordfish").count()
        assert "swordfish" not in str(refused.value) + repr(made[1].options)
        assert made[1]._guard.breaker.state is BreakerState.CLOSED
        with pytest.raises(Unavailable, match="Qdrant is away"):
            await store(ca=other.certificate).count()
        with pytest.raises(SettingsError, match="qdrant_tls_cert: cannot read"):
            store(ca=tmp_path / "absent.pem")
    finally:
        for one in made:
            await one.close()
        service.stop()
