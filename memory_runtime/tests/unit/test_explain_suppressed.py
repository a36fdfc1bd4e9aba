"""Explain says what decay kept out of the top k: all of it, nothing else, and at the price of one more search."""

from __future__ import annotations

from typing import Any

import numpy as np

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.scoring import ExactIndex

DAY = 86400.0
NOW = 1_700_000_000.0


async def filled(open_engine: Any, scope: Scope, **settings: Any) -> MemoryEngine:
    engine: MemoryEngine = await open_engine(
        vector_dim=8, embedding_provider="client", recall_sample_rate=0.0, clock=lambda: NOW, **settings
    )
    rng = np.random.default_rng(3)
    await engine.store_bulk(
        scope,
        [
            StoreItem((float(n),), {"n": n}, vector=rng.standard_normal(8).astype(np.float32), timestamp=NOW - n * DAY)
            for n in range(200)
        ],
    )
    return engine


def asked(**rest: Any) -> RecallRequest:
    return RecallRequest(vector=np.arange(1, 9, dtype=np.float32), top_k=10, **rest)


def counted(monkeypatch: Any) -> list[int]:
    searches: list[int] = []
    search = ExactIndex.search

    def counting(self: ExactIndex, *arguments: Any, **more: Any) -> Any:
        searches.append(more["top_k"])
        return search(self, *arguments, **more)

    monkeypatch.setattr(ExactIndex, "search", counting)
    return searches


async def test_what_is_suppressed_is_the_undecayed_top_k_without_the_answer(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, half_life="7d")
    told = await engine.recall(scope, asked(explain=True))
    undecayed = await engine.recall(scope, asked(half_life=None))
    answered = {hit.record.id for hit in told.hits}
    expected = [(hit.record.id, hit.score) for hit in undecayed.hits if hit.record.id not in answered]
    assert [(one.id, one.score_without_decay) for one in told.suppressed] == expected
    assert expected


async def test_it_costs_one_more_search_of_the_same_size(open_engine: Any, scope: Scope, monkeypatch: Any) -> None:
    engine = await filled(open_engine, scope, half_life="7d")
    searches = counted(monkeypatch)
    await engine.recall(scope, asked(explain=True))
    assert searches == [10, 10]


async def test_nothing_is_searched_for_where_nothing_decays_or_nobody_asked(
    open_engine: Any, scope: Scope, monkeypatch: Any
) -> None:
    engine = await filled(open_engine, scope)
    searches = counted(monkeypatch)
    for request in (asked(), asked(explain=True), asked(explain=True, half_life=None)):
        assert (await engine.recall(scope, request)).suppressed == ()
    assert searches == [10, 10, 10]


async def test_a_types_own_half_life_counts(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, half_life_by_type={"episodic": "7d"})
    assert (await engine.recall(scope, asked(explain=True))).suppressed
