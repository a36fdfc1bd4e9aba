"""Importance never hides a memory: whatever was stored before, its own text finds it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import load_settings

FLOOR = 0.8
WORDS = [
    *("amber", "brook", "cedar", "dune", "ember", "fjord", "glade", "heron"),
    *("iris", "juniper", "kelp", "lichen", "moss", "nettle", "otter", "pine"),
]


def note(n: int) -> str:
    return " ".join(random.Random(n).sample(WORDS, 4)) + f" entry {n}"


async def store(engine: MemoryEngine, scope: Scope, raw: list[float]) -> None:
    for n, value in enumerate(raw):
        await engine.store(scope, StoreItem((float(n),), {"text": note(n)}, importance=value))


@pytest.mark.parametrize(
    "raw",
    [
        [5.0, 4.0],
        [1.0, 1.8e12, *[float(n % 5) for n in range(30)]],
        [*[0.1 * (n % 10) for n in range(20)], 1.8e12, *[0.1 * (n % 10) for n in range(80)]],
        [1e308, -1e308, 0.0, -5.0, 1e-300, 7.0],
        [3.0] * 10 + [2.0] * 3,
        [float(-n) for n in range(70)],
        [float(n) for n in range(70)],
    ],
    ids=["4 after 5", "early outlier", "late outlier", "extremes", "equal", "falling", "rising"],
)
async def test_a_memory_is_first_for_its_own_text_whatever_its_importance(
    open_engine: Any, scope: Scope, raw: list[float]
) -> None:
    engine = await open_engine()
    await store(engine, scope, raw)
    for n in range(len(raw)):
        for hybrid in (False, True):
            found = await engine.recall(scope, RecallRequest(query=note(n), top_k=1, hybrid=hybrid))
            assert found.hits[0].record.payload["text"] == note(n), (n, hybrid)
        assert found.hits[0].record.importance_norm >= FLOOR
        exact = await engine.recall(scope, RecallRequest(query=note(n), top_k=1, hybrid=False))
        assert exact.hits[0].score >= FLOOR * 0.999


async def test_the_old_services_own_benchmark_finds_every_exact_match(open_engine: Any, scope: Scope) -> None:
    """Its generator: topics whose notes differ in one token, importance of 0 to 5; the token is the query."""
    engine = await open_engine()
    draw = random.Random(42)
    tokens = [(topic, f"TOK{topic * 23 + n:04d}") for topic in range(4) for n in range(23)]
    items = [
        StoreItem(
            (float(n),),
            {"text": f"topic-{topic} base note with token {token}"},
            importance=float(draw.choice([0, 1, 2, 3, 5])),
        )
        for n, (topic, token) in enumerate(tokens)
    ]
    await engine.store_bulk(scope, items)
    for hybrid in (False, True):
        for _, token in tokens:
            found = await engine.recall(scope, RecallRequest(query=token, top_k=5, hybrid=hybrid))
            assert any(token in hit.record.payload["text"] for hit in found.hits), token


async def test_a_rebuild_cures_what_a_release_without_a_floor_stored(open_engine: Any, scope: Scope) -> None:
    engine = await open_engine()
    await store(engine, scope, [0.1 * (n % 10) for n in range(40)])

    def as_it_was(transaction: Any) -> None:
        transaction.connection.execute("UPDATE memories SET importance_norm = 0, normaliser_version = 3")
        state = {"version": 3, "method": "minmax", "low": 0.0, "high": 1.8e12, "k": 1.0, "centre": 0.5}
        transaction.replace_normaliser(scope.tenant, _dumped(state))

    await engine.ledger.transact(as_it_was)
    await engine.close()
    engine = await open_engine()
    found = await engine.recall(scope, RecallRequest(query=note(7), top_k=1))
    assert found.hits[0].score < 1e-5
    done = await engine.importance.rebuild(scope.tenant)
    assert done.memories == 40
    for n in range(40):
        (hit,) = (await engine.recall(scope, RecallRequest(query=note(n), top_k=1))).hits
        assert hit.record.payload["text"] == note(n)
        assert hit.score >= FLOOR * 0.999
    after = await engine.store(scope, StoreItem((99.0,), {"text": "late"}, importance=-3.0))
    assert (await engine.get(scope, (99.0,))).importance_norm >= FLOOR, after
    await engine.importance.undo(scope.tenant)
    assert (await engine.get(scope, (7.0,))).importance_norm == 0.0


def _dumped(mapping: dict[str, Any]) -> str:
    return json.dumps({"format": 1, "seen": 40, "reservoir": [0.5] * 40, "mapping": mapping})


async def test_the_compat_profile_does_not_multiply_by_importance(open_engine: Any, scope: Scope) -> None:
    told = load_settings(environ={"SOMA_COMPAT_PROFILE": "true"}).settings
    assert told.importance_exponent == 0.0
    said = load_settings(environ={"SOMA_COMPAT_PROFILE": "true", "SOMA_IMPORTANCE_EXPONENT": "1"}).settings
    assert said.importance_exponent == 1.0
    engine = await open_engine(importance_exponent=told.importance_exponent)
    await store(engine, scope, [5.0, 4.0, 0.0])
    for n in range(3):
        found = await engine.recall(scope, RecallRequest(query=note(n), top_k=1))
        assert found.hits[0].score == pytest.approx(1.0)


async def test_the_floor_is_a_setting(open_engine: Any, scope: Scope) -> None:
    engine = await open_engine(importance_floor=0.25)
    await store(engine, scope, [5.0, 4.0])
    assert [(await engine.get(scope, (n,))).importance_norm for n in (0.0, 1.0)] == [1.0, 0.25]
    await engine.close()
    engine = await open_engine(importance_floor=1.0)
    await store(engine, Scope(scope.tenant, "other"), [5.0, 4.0])
    assert [(await engine.get(Scope(scope.tenant, "other"), (n,))).importance_norm for n in (0.0, 1.0)] == [1.0, 1.0]
