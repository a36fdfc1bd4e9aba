"""A pin stands against decay: whatever half-life holds, and in every way of recalling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine
from memory_runtime.engine.types import RecallRequest
from memory_runtime.model.records import Scope, StoreItem

DAY = 86400.0
NOW = 1_000_000_000.0
QUERY = np.array([1, 0, 0], np.float32)


def item(number: float, days_old: float, *, pinned: bool, memory_type: str = "episodic") -> StoreItem:
    return StoreItem(
        (number,),
        {"text": f"tea number {number:g}"},
        memory_type,
        timestamp=NOW - days_old * DAY,
        vector=QUERY,
        pinned=pinned,
    )


async def filled(open_engine: Any, scope: Scope, **settings: Any) -> MemoryEngine:
    engine: MemoryEngine = await open_engine(
        vector_dim=3, embedding_provider="client", half_life="1d", clock=lambda: NOW, **settings
    )
    await engine.store_bulk(scope, [item(1, 300, pinned=True), item(2, 1, pinned=False), item(3, 10, pinned=False)])
    return engine


async def ranked(engine: MemoryEngine, scope: Scope, **asked: Any) -> list[tuple[float, float]]:
    found = await engine.recall(scope, RecallRequest(vector=QUERY, **asked))
    return [(hit.record.coordinate[0], hit.score) for hit in found.hits]


@pytest.mark.parametrize("asked", [{}, {"half_life": 3600.0}, {"memory_type": "episodic"}, {"as_of": NOW + DAY}])
async def test_a_pinned_memory_keeps_its_score_while_others_fade(
    open_engine: Any, scope: Scope, asked: dict[str, Any]
) -> None:
    engine = await filled(open_engine, scope)
    found = await ranked(engine, scope, **asked)
    assert found[0] == (1.0, 1.0)
    assert [score for _, score in found[1:]] == sorted((score for _, score in found[1:]), reverse=True)
    assert found[1][1] <= 0.5


async def test_the_pin_survives_a_restart_and_its_explanation_says_that_nothing_decays(
    open_engine: Any, scope: Scope
) -> None:
    await (await filled(open_engine, scope)).close()
    engine = await open_engine(vector_dim=3, embedding_provider="client", half_life="1d", clock=lambda: NOW)
    found = await engine.recall(scope, RecallRequest(vector=QUERY, explain=True))
    assert [hit.record.coordinate for hit in found.hits] == [(1.0,), (2.0,), (3.0,)]
    assert found.hits[0].explanation is not None
    assert found.hits[0].explanation.half_life_seconds is None
    assert found.hits[1].explanation is not None
    assert found.hits[1].explanation.half_life_seconds == DAY


async def test_a_memory_stored_again_without_the_pin_decays_again(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    await engine.store(scope, item(1, 300, pinned=False))
    assert [number for number, _ in await ranked(engine, scope)] == [2.0, 3.0, 1.0]


async def test_hybrid_recall_spares_a_pinned_memory_too(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=64, half_life="1d", clock=lambda: NOW)
    for number, days, pinned in ((1.0, 300.0, True), (2.0, 5.0, False)):
        stored = item(number, days, pinned=pinned)
        await engine.store(
            scope, StoreItem(stored.coordinate, stored.payload, timestamp=stored.timestamp, pinned=pinned)
        )
    found = await engine.recall(scope, RecallRequest(query="tea number", hybrid=True))
    assert [hit.record.coordinate for hit in found.hits] == [(1.0,), (2.0,)]
