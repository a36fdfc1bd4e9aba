"""Recall samples against the float64 oracle, the ring of recent queries, and the metrics of source document 002."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.engine import sampling as sampling_module
from memory_runtime.engine.pacing import Breaths, Interrupted
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.scoring import ExactIndex, Partition, Profile, ScoredRow, ScoringParams
from memory_runtime.scoring.census import chunks, importance, oracle, recall_at, sample
from memory_runtime.scoring.oracle import brute_force

DAY = 86400.0
NOW = 1_700_000_000.0
SMALL: dict[str, Any] = {"vector_dim": 8, "embedding_provider": "client", "half_life": "7d"}


def index_of(count: int, *, seed: int = 0) -> ExactIndex:
    rng = np.random.default_rng(seed)
    index = ExactIndex(8, ScoringParams(Profile(half_life=7 * DAY), by_type={1: Profile()}), lambda: NOW)
    ids = np.arange(2 * count, dtype=np.uint64).reshape(-1, 2)
    columns = {
        "tenant": rng.integers(0, 2, count),
        "memory_type": rng.integers(0, 2, count),
        "importance": rng.random(count),
    }
    batch = index.batch(ids, rng.standard_normal((count, 8)), event_time=NOW - rng.random(count) * 90 * DAY, **columns)
    half = count // 2
    index.upsert(batch.take(np.arange(half)))
    index.compact()
    index.upsert(batch.take(np.arange(half, count)))
    index.delete(ids[::7])
    return index


def test_chunks_hold_every_live_row_once_whatever_the_layout() -> None:
    index = index_of(1000)
    for partition in (None, Partition(0, 0), Partition(1, 0), Partition(5, 0)):
        seen = [tuple(row) for batch in chunks(index.view(), partition, 64) for row in batch.ids.tolist()]
        live = index.live_rows()
        mine = live if partition is None else live.take(live.tenant == partition.tenant)
        assert sorted(seen) == sorted(tuple(row) for row in mine.ids.tolist())


def test_the_streamed_oracle_is_the_oracle(monkeypatch: Any) -> None:
    monkeypatch.setattr("memory_runtime.scoring.census.CHUNK", 37)
    index = index_of(800)
    query = np.random.default_rng(5).standard_normal(8).astype(np.float32)
    for asked in ({}, {"types": [1]}, {"half_life": None}, {"as_of": NOW - 40 * DAY}):
        partition = Partition(1, 0)
        (whole,) = brute_force(
            index.live_rows(), query, params=index.params, k=20, partition=partition, now=NOW, **asked
        )
        streamed = oracle(index.view(), query, k=20, partition=partition, now=NOW, **asked)
        assert [one.id for one in streamed] == [one.id for one in whole]


def test_a_view_that_was_taken_does_not_see_what_came_later() -> None:
    index = index_of(200)
    view, before = index.view(), sum(len(batch) for batch in chunks(index.view()))
    index.delete(index.live_rows().ids[:50])
    index.compact()
    assert sum(len(batch) for batch in chunks(view)) == before


def test_a_sample_is_spread_over_the_index_and_bounded() -> None:
    index = index_of(3000)
    assert 80 <= len(sample(index.view(), 100) or ()) <= 110
    assert len(sample(index.view(), 10**6) or ()) == len(index)
    assert sample(ExactIndex(8, ScoringParams()).view(), 5) is None
    assert len(importance(index.view())) == len(index)


def row(number: int, log2_score: float) -> ScoredRow:
    return ScoredRow(bytes([number]) * 16, 0.0, log2_score, 0.0)


def test_recall_counts_what_is_missing_and_lets_ties_pass() -> None:
    truth = [row(1, -1.0), row(2, -2.0), row(3, -3.0)]
    assert recall_at(truth, truth) == 1.0
    assert recall_at([row(1, -1.0), row(9, -9.0), row(3, -3.0)], truth) == pytest.approx(2 / 3)
    assert recall_at([row(1, -1.0), row(2, -2.0), row(8, -3.0)], truth) == 1.0
    assert recall_at([], truth) == 0.0
    assert recall_at([], []) == 1.0


async def filled(open_engine: Any, scope: Scope, **settings: Any) -> MemoryEngine:
    engine: MemoryEngine = await open_engine(**(SMALL | settings))
    rng = np.random.default_rng(3)
    now = engine.clock()
    items = [
        StoreItem(
            (float(n),),
            {"n": n},
            vector=rng.standard_normal(8).astype(np.float32),
            importance=float(rng.lognormal()),
            timestamp=now - float(rng.random()) * 60 * DAY,
        )
        for n in range(300)
    ]
    await engine.store_bulk(scope, items)
    return engine


def ask(seed: int, **rest: Any) -> RecallRequest:
    return RecallRequest(vector=np.random.default_rng(seed).standard_normal(8).astype(np.float32), **rest)


async def measured(engine: MemoryEngine, k: int) -> float | None:
    for _ in range(200):
        value = engine.metrics.registry.get_sample_value("soma_recall_at_k", {"k": str(k)})
        if value is not None:
            return value
        await asyncio.sleep(0.02)
    return None


async def test_a_sampled_exact_answer_has_recall_one(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, recall_sample_rate=1.0)
    for k in (10, 12):
        await engine.recall(scope, ask(k, top_k=k))
    assert await measured(engine, 10) == 1.0
    assert engine.metrics.registry.get_sample_value("soma_recall_samples_total", {"route": "exact"}) >= 1


async def test_an_answer_that_misses_rows_is_seen(open_engine: Any, scope: Scope, monkeypatch: Any) -> None:
    engine = await filled(open_engine, scope, recall_sample_rate=1.0)
    search = ExactIndex.search
    monkeypatch.setattr(ExactIndex, "search", lambda *a, **k: [found[1:] for found in search(*a, **k)])
    await engine.recall(scope, ask(1, top_k=5))
    assert await measured(engine, 5) == pytest.approx(0.8)


async def test_a_rate_of_zero_compares_nothing(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, recall_sample_rate=0.0)
    await engine.recall(scope, ask(1, top_k=5))
    assert not engine.sampling._waiting
    assert len(engine.sampling.recent()) == 1


async def test_the_ring_is_bounded_and_leaves_out_what_cannot_be_asked_again(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    await engine.recall(scope, ask(1, filters={"n": 3}))
    await engine.recall(Scope("nobody", "nothing"), ask(1))
    assert engine.sampling.recent() == []
    for start in range(0, sampling_module.RING + 20, 20):
        await engine.recall_batch(scope, [ask(start + n) for n in range(20)])
    assert len(engine.sampling.recent()) == sampling_module.RING


async def test_the_vectors_of_queries_are_never_logged(open_engine: Any, scope: Scope, caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        engine = await filled(open_engine, scope, recall_sample_rate=1.0)
        asked = RecallRequest(vector=np.full(8, 0.125, np.float32), top_k=5)
        await engine.recall(scope, asked)
        await measured(engine, 5)
        await engine.close()
    assert "0.35355" not in caplog.text
    assert "array(" not in caplog.text


async def test_closing_does_not_wait_for_a_long_comparison(open_engine: Any, scope: Scope, monkeypatch: Any) -> None:
    engine = await filled(open_engine, scope, recall_sample_rate=1.0)
    monkeypatch.setattr("memory_runtime.scoring.census.chunks", lambda *_: iter([index_of(50).live_rows()] * 10_000))
    await engine.recall(scope, ask(1))
    await asyncio.sleep(0.05)
    await asyncio.wait_for(engine.close(), 10)


class Waits(threading.Event):
    """An event that notes for how long it was waited for, and waits for no time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return self.is_set()


def test_a_comparison_rests_in_proportion_within_itself_and_owes_the_remainder() -> None:
    waits = Waits()
    pace = Breaths(waits, rest=20.0, at_once=5.0)
    for _ in range(3):
        time.sleep(0.01)
        pace.breathe()
    assert all(one >= 5 * 0.01 for one in waits.seconds)
    assert pace.owed() >= 3 * sum(waits.seconds)
    waits.set()
    with pytest.raises(Interrupted):
        pace.breathe()


METRICS = {
    "total_vectors": "soma_memory_total_vectors",
    "insert_qps": "soma_memory_store_total",
    "query_qps": "soma_memory_recall_total",
    "store latency": "soma_memory_store_latency_seconds_bucket",
    "recall latency": "soma_memory_recall_latency_seconds_bucket",
    "norm_error_max": "soma_memory_norm_error_max",
    "importance quantiles": "soma_memory_importance_quantile",
    "decay_active": "soma_memory_decay_active_ratio",
    "hot_tier_hit_ratio": "soma_memory_hot_tier_hit_ratio",
    "eviction_count": "soma_memory_eviction_count_total",
    "fraction_scanned": "soma_memory_index_fraction_scanned_ratio",
    "recall@k": "soma_recall_at_k",
}


async def test_every_metric_of_section_9_is_scraped_with_a_true_value(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, recall_sample_rate=1.0)
    await engine.recall(scope, ask(1, top_k=10))
    await measured(engine, 10)
    await engine._housekeeper.measure()
    scraped: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(generate_latest(engine.metrics.registry).decode()):
        for one in family.samples:
            scraped.setdefault(one.name, []).append(one.value)
    assert {name for name in METRICS.values() if name not in scraped} == set()
    assert scraped["soma_memory_total_vectors"] == [300]
    assert scraped["soma_memory_store_total"] == [300]
    assert scraped["soma_memory_recall_total"] == [1]
    assert scraped["soma_memory_decay_active_ratio"] == [1]
    assert scraped["soma_memory_hot_tier_hit_ratio"] == [1]
    assert 0 < scraped["soma_memory_index_fraction_scanned_ratio"][0] <= 1
    assert 0 <= scraped["soma_memory_norm_error_max"][0] < 1e-5
    assert all(0 <= value <= 1 for value in scraped["soma_memory_importance_quantile"])
    assert scraped["soma_recall_at_k"] == [1.0]


async def test_a_hot_tier_too_small_for_the_scan_is_missed(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, hot_tier_mb=0.0001)
    await engine.recall(scope, ask(1, top_k=10))
    assert engine.follower.index.stats().hot_tier_hit_ratio == 0.0
