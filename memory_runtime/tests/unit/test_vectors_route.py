"""The byte budget: an answer is exact, or goes through the vector store and says so; never silently wrong."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient

from memory_runtime.engine import MemoryEngine, RecallRequest, build_engine
from memory_runtime.engine.vectors.truth import ledger_truth
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.scoring import ExactIndex, Partition, Profile, ScoringParams
from memory_runtime.scoring.budget import SLACK, ceiling, lightest, row_bytes
from memory_runtime.scoring.gates import Gate
from memory_runtime.scoring.oracle import brute_force
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.qdrant import QdrantOptions, QdrantVectorStore
from memory_runtime.tests.samples import DAY, Clock, asked

DIM = 16
ROWS = 300
KEPT = 80
NOW = 1_700_000_000.0
Opener = Callable[..., Awaitable[MemoryEngine]]


def unit(rows: int, seed: int = 7) -> np.ndarray[Any, np.dtype[np.float32]]:
    drawn = np.random.default_rng(seed).standard_normal((rows, DIM)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


@pytest.fixture
async def budgeted(tmp_path: Path) -> AsyncIterator[Opener]:
    """An engine whose index keeps `KEPT` rows, with a store in local mode (`backed=False`: without one)."""
    opened: list[MemoryEngine] = []

    async def opener(*, backed: bool = True, kept: int = KEPT, **values: Any) -> MemoryEngine:
        store = QdrantVectorStore(QdrantOptions("notes", DIM), client=AsyncQdrantClient(":memory:"))
        given = {"data_dir": tmp_path / "data", "embedding_provider": "hash", "vector_dim": DIM} | values
        given["index_budget_mb"] = kept * row_bytes(DIM) / 2**20 + 1e-6 if kept else 0
        engine = build_engine(SMFSettings(**given), clock=Clock(NOW), vector_store=store if backed else None)
        await engine.start()
        opened.append(engine)
        return engine

    yield opener
    for engine in opened:
        await engine.close()


def items(count: int = ROWS, *, days: float = 180.0, seed: int = 7) -> list[StoreItem]:
    rng = np.random.default_rng(seed)
    times = NOW - rng.uniform(0, days * DAY, count)
    return [
        StoreItem(
            (float(n),),
            {"n": n, "even": n % 2 == 0, "rare": n % 97 == 0},
            "semantic" if n % 5 == 0 else "episodic",
            timestamp=float(times[n]),
            importance=float(rng.lognormal()),
            vector=vector,
        )
        for n, vector in enumerate(unit(count, seed))
    ]


async def filled(engine: MemoryEngine, scope: Scope, count: int = ROWS) -> None:
    await engine.store_bulk(scope, items(count))
    if engine.vectors.feed is not None:
        await engine.vectors.rebuild()
    engine.follower.keep_within_budget()


async def test_answers_are_exact_or_say_that_they_are_not(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="15d", half_life_by_type={"semantic": "20d"}, recall_sample_rate=0)
    await filled(engine, scope)
    assert len(engine.follower.index) <= KEPT * 1.05
    routes = {"exact": 0, "approximate": 0}
    for number, query in enumerate(unit(6, seed=3)):
        k = 60 if number % 2 else 2
        result = await engine.recall(scope, asked(query.tolist(), top_k=k))
        recent = engine.sampling.recent()[-1]
        truth = ledger_truth(engine.ledger, engine.follower, recent, k=k, breathe=lambda: None)
        # local mode scans, so even what is approximate by contract finds everything here
        assert [hit.record.id.bytes for hit in result.hits] == [row.id for row in truth]
        routes[result.route] += 1
    assert min(routes.values()) >= 1, routes


async def test_an_answer_within_the_budget_asks_nobody(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="1d")
    await filled(engine, scope)
    await engine.vectors.store.close()  # type: ignore[union-attr]
    newest = max(range(ROWS), key=lambda n: items()[n].timestamp or 0)
    result = await engine.recall(scope, asked(unit(ROWS)[newest].tolist(), top_k=1))
    assert result.route == "exact"
    assert result.hits[0].record.coordinate == (float(newest),)


@pytest.mark.parametrize(
    "more",
    [
        {"memory_type": "semantic"},
        {"as_of": NOW - 60 * DAY},
        {"as_of": NOW + 60 * DAY},
        {"explain": True},
        {"memory_type": "semantic", "as_of": NOW - 90 * DAY},
    ],
)
async def test_every_way_to_ask_finds_what_an_index_without_a_budget_finds(
    budgeted: Opener, scope: Scope, more: dict[str, Any], tmp_path: Path
) -> None:
    engine = await budgeted(half_life="60d")
    whole = await budgeted(half_life="60d", kept=0, backed=False, data_dir=tmp_path / "whole")
    for one in (engine, whole):
        await filled(one, scope)
    for query in unit(3, seed=5):
        request = asked(query.tolist(), top_k=8, **more)
        found, wanted = await engine.recall(scope, request), await whole.recall(scope, request)
        assert [hit.record.id for hit in found.hits] == [hit.record.id for hit in wanted.hits]
        assert [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in wanted.hits], rel=1e-12)
        if more.get("explain"):
            mine = [hit.explanation for hit in found.hits]
            assert all(one is not None and one.residual_penalty == 1.0 for one in mine)


@pytest.mark.parametrize("half_life", [None, 3 * DAY, 365 * DAY])
async def test_another_half_life_is_approximate_and_finds_most(
    budgeted: Opener, scope: Scope, half_life: float | None, tmp_path: Path
) -> None:
    engine = await budgeted(half_life="60d")
    whole = await budgeted(half_life="60d", kept=0, backed=False, data_dir=tmp_path / "whole")
    for one in (engine, whole):
        await filled(one, scope)
    shares = []
    for query in unit(5, seed=5):
        request = asked(query.tolist(), top_k=8, half_life=half_life)
        found, wanted = await engine.recall(scope, request), await whole.recall(scope, request)
        same = {hit.record.id for hit in found.hits} & {hit.record.id for hit in wanted.hits}
        shares.append(len(same) / len(wanted.hits))
        if found.route == "exact":
            assert shares[-1] == 1.0
    assert sum(shares) / len(shares) >= 0.8


async def test_filters_are_exact_whatever_is_in_memory(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="7d")
    await filled(engine, scope)
    result = await engine.recall(scope, asked(unit(1, seed=9)[0].tolist(), top_k=10, filters={"rare": True}))
    every = unit(ROWS)
    positive = [n for n in range(0, ROWS, 97) if float(every[n] @ unit(1, seed=9)[0]) > 0]
    assert sorted(int(hit.record.coordinate[0]) for hit in result.hits) == positive
    assert result.route == "exact"


async def test_many_filtered_memories_go_through_the_store(
    budgeted: Opener, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory_runtime.engine.vectors.route.SCANNED_FILTERED", 10)
    engine = await budgeted(half_life="60d")
    await filled(engine, scope)
    result = await engine.recall(scope, asked(unit(1, seed=9)[0].tolist(), top_k=10, filters={"even": True}))
    assert all(hit.record.payload["even"] for hit in result.hits)
    assert len(result.hits) == 10
    assert result.route == "approximate"


async def test_words_and_vectors_together_say_that_more_may_be_outside(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="60d")
    await filled(engine, scope)
    result = await engine.recall(scope, RecallRequest(query="anything", hybrid=True, top_k=3))
    assert result.route == "approximate"


async def test_a_store_that_is_away_costs_completeness_and_not_the_answer(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="60d")
    await filled(engine, scope)

    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("away", retry_after=1)

    engine.vectors.store.search = away  # type: ignore[union-attr, method-assign]
    results = [await engine.recall(scope, asked(query.tolist(), top_k=10)) for query in unit(10, seed=3)]
    labelled = [result for result in results if result.route == "approximate"]
    assert labelled
    assert all(result.hits for result in results)
    registry = engine.metrics.registry
    assert registry.get_sample_value("soma_memory_approximate_failures_total") == len(labelled)
    routed = registry.get_sample_value("soma_memory_recall_route_total", {"route": "approximate"})
    assert routed == len(labelled)


async def test_what_the_store_holds_wrongly_is_never_answered(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="60d")
    await filled(engine, scope)
    result = await engine.recall(scope, asked(unit(1, seed=3)[0].tolist(), top_k=60))
    outside = [hit for hit in result.hits if hit.approximate]
    assert outside
    # deleted in the ledger; no relay runs here, so the store goes on holding it
    await engine.delete(scope, outside[0].record.coordinate, outside[0].record.memory_type)
    again = await engine.recall(scope, asked(unit(1, seed=3)[0].tolist(), top_k=60))
    assert outside[0].record.id not in {hit.record.id for hit in again.hits}
    other = await engine.recall(Scope("zeta", scope.namespace), asked(unit(1, seed=3)[0].tolist(), top_k=60))
    assert other.hits == ()


async def test_without_a_store_everything_stays_exact_and_is_said(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(backed=False, half_life="7d")
    await filled(engine, scope)
    assert len(engine.follower.index) == ROWS
    result = await engine.recall(scope, asked(unit(1, seed=3)[0].tolist(), top_k=10))
    assert result.route == "exact"
    (note,) = (await engine.stats(scope)).notes
    assert note.startswith(f"index_budget_mb: {ROWS - KEPT} memories are beyond it and stay in memory")
    engine.vectors._measure()
    held = engine.metrics.registry.get_sample_value("soma_memory_index_over_budget_bytes")
    assert held == (ROWS - KEPT) * row_bytes(DIM)


async def test_a_restart_keeps_to_the_budget(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="60d")
    await filled(engine, scope)
    await engine.close()
    engine = await budgeted(half_life="7d")
    assert len(engine.follower.index) <= KEPT * 1.25
    await engine.vectors.rebuild()
    result = await engine.recall(scope, asked(unit(1, seed=3)[0].tolist(), top_k=100))
    assert (result.route, len(result.hits)) == ("approximate", 100)


async def test_what_is_written_while_rows_are_given_up_stays(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="60d")
    await filled(engine, scope)
    for n in range(5):
        await engine.store_bulk(scope, [item for item in items(ROWS) if item.coordinate[0] % 5 == n])
        engine.follower.keep_within_budget()
        for query in unit(3, seed=n):
            result = await engine.recall(scope, asked(query.tolist(), top_k=5))
            recent = engine.sampling.recent()[-1]
            truth = ledger_truth(engine.ledger, engine.follower, recent, k=5, breathe=lambda: None)
            if result.route == "exact":
                assert [hit.record.id.bytes for hit in result.hits] == [row.id for row in truth]


async def test_the_residual_penalty_is_in_score_and_explanation(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="60d", residual_penalty=0.5)
    await filled(engine, scope)
    result = await engine.recall(scope, asked(unit(1, seed=3)[0].tolist(), top_k=60, explain=True))
    kinds = {hit.approximate for hit in result.hits}
    assert kinds == {True, False}
    for hit in result.hits:
        explained = hit.explanation
        assert explained is not None
        product = explained.similarity * explained.importance * explained.decay * explained.residual_penalty
        assert hit.score == pytest.approx(product, rel=1e-9)
        assert explained.score == pytest.approx(hit.score, rel=1e-12)
        assert hit.log2_score == pytest.approx(math.log2(hit.score), abs=1e-9)
        assert explained.residual_penalty == (0.5 if hit.approximate else 1.0)
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)


async def test_gate_g5_proposes_the_measured_recall_and_changes_no_exact_score(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="60d", gates_apply_allowed=True)
    await filled(engine, scope)
    query = asked(unit(1, seed=3)[0].tolist(), top_k=60)
    before = await engine.recall(scope, query)
    (state,) = [one for one in await engine.gates.states() if one.finding.gate is Gate.G5]
    assert state.finding.tripped
    assert state.finding.change is None
    engine.metrics.vectors.recall_at_k.labels("10").set(0.8)
    (state,) = [one for one in await engine.gates.states() if one.finding.gate is Gate.G5]
    assert state.finding.change == {"residual_penalty": 0.8}
    index = engine.follower.index
    applied, effect = await engine.gates.apply("G5", actor="test")
    assert (applied.before, applied.after, effect.queries) == (1.0, 0.8, 1)
    assert effect.order < 1.0
    assert engine.follower.index is index
    after = await engine.recall(scope, query)
    scores = {hit.record.id: (hit.score, hit.approximate) for hit in before.hits}
    for hit in after.hits:
        if hit.record.id in scores:
            score, found = scores[hit.record.id]
            assert hit.score == pytest.approx(score * (0.8 if found else 1.0), rel=1e-12)
    await engine.gates.revert("G5", actor="test")
    assert engine.follower.params.residual_penalty == 1.0


async def test_approximate_answers_are_sampled_against_the_whole_ledger(budgeted: Opener, scope: Scope) -> None:
    engine = await budgeted(half_life="60d", recall_sample_rate=1)
    await filled(engine, scope)
    for query in unit(20, seed=3):
        await engine.recall(scope, asked(query.tolist(), top_k=10))
    registry = engine.metrics.registry
    for _ in range(400):
        if registry.get_sample_value("soma_recall_samples_total", {"route": "approximate"}):
            break
        await asyncio.sleep(0.05)
    assert registry.get_sample_value("soma_approximate_recall_at_k", {"k": "10"}) == 1.0


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, 60.0, DAY, 30 * DAY, 3650 * DAY]),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.floats(-400 * DAY, 400 * DAY),
)
@settings(max_examples=25, deadline=None)
def test_no_row_that_was_given_up_scores_above_its_bound(
    seed: int, half_life: float | None, beta: float, moment: float
) -> None:
    rng = np.random.default_rng(seed)
    count = 80
    params = ScoringParams(
        default=Profile(half_life=half_life, similarity_exponent=beta),
        by_type={1: Profile(0.5, half_life=7 * DAY)},
    )
    index = ExactIndex(4, params, clock=lambda: NOW)
    vectors = rng.standard_normal((count, 4))
    rows = index.batch(
        [rng.bytes(16) for _ in range(count)],
        vectors,
        event_time=NOW + rng.uniform(-300 * DAY, 30 * DAY, count),
        importance=rng.uniform(0, 1, count),
        memory_type=rng.integers(0, 2, count).astype(np.int32),
    )
    index.upsert(rows)
    leaving = lightest(index.view(), 50, NOW)
    assert len(leaving.ids) == 50
    gone = {one.tobytes() for one in leaving.ids}
    outside = rows.take(np.array([one.tobytes() in gone for one in rows.ids]))
    at = NOW + moment
    for own in (params.default.half_life, None, 5 * DAY):
        for kind in (0, 1):
            bound = leaving.bounds().get((0, 0, kind))
            queries = [*vectors[:5], *outside.vectors[:5]]
            for query in queries:
                (found,) = brute_force(
                    outside, query, params=params, k=1, partition=Partition(0, 0), now=at, types=[kind], half_life=own
                )
                if found:
                    assert bound is not None
                    top = ceiling(bound, params.profile(0, kind), own, at)
                    assert found[0].log2_score <= top + SLACK
