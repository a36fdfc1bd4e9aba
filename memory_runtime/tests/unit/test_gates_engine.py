"""The advisor on a running engine: findings, dry runs, apply and revert, restarts, audit."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.engine.measuring import memory, p95
from memory_runtime.model.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, Unprocessable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.scoring.gates import Gate
from memory_runtime.scoring.params import ScoringParams

DAY = 86400.0
NOW = 1_700_000_000.0
SMALL: dict[str, Any] = {"vector_dim": 8, "embedding_provider": "client", "recall_sample_rate": 0.0}
ALLOWED = SMALL | {"gates_apply_allowed": True}


async def filled(open_engine: Any, scope: Scope, **settings: Any) -> MemoryEngine:
    engine: MemoryEngine = await open_engine(**(SMALL | {"clock": lambda: NOW} | settings))
    rng = np.random.default_rng(3)
    await engine.store_bulk(
        scope,
        [
            StoreItem(
                (float(n),),
                {"n": n},
                vector=rng.standard_normal(8).astype(np.float32),
                importance=float(rng.lognormal(0, 2)),
                timestamp=NOW - float(rng.random()) * 60 * DAY,
            )
            for n in range(300)
        ],
    )
    for seed in range(12):
        await engine.recall(scope, asked(seed))
    return engine


def asked(seed: int, **rest: Any) -> RecallRequest:
    return RecallRequest(vector=np.random.default_rng(seed).standard_normal(8).astype(np.float32), top_k=10, **rest)


async def order(engine: MemoryEngine, scope: Scope, seed: int = 99) -> list[tuple[float, ...]]:
    return [hit.record.coordinate for hit in (await engine.recall(scope, asked(seed))).hits]


async def audit(engine: MemoryEngine) -> list[tuple[str, str, str, dict[str, Any]]]:
    rows = await engine.ledger.read(
        lambda view: view.connection.execute("SELECT action, actor, subject, detail FROM audit").fetchall()
    )
    return [(action, actor, subject, json.loads(detail)) for action, actor, subject, detail in rows]


async def test_every_gate_reports_what_was_measured(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    states = await engine.gates.states()
    assert [one.finding.gate for one in states] == list(Gate)
    found = {one.finding.gate: one.finding.measured for one in states}
    assert found[Gate.G1]["rows"] == 300
    assert found[Gate.G1]["p95_ms"] == pytest.approx(1000 * (p95(engine.metrics) or 0))
    assert found[Gate.G2]["log2_q90_over_q10"] > 0  # type: ignore[operator]
    assert found[Gate.G4]["memory_used"] > 10**6  # type: ignore[operator]
    assert found[Gate.G5]["route"] == "exact"
    assert await audit(engine) == []


async def test_recalls_that_ask_for_a_half_life_trip_g6_with_their_median(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    for seed in range(9):
        await engine.recall(scope, asked(seed, half_life=(5.0 + seed) * DAY))
    finding = (await engine.gates.states())[5].finding
    assert (finding.tripped, finding.change) == (True, {"half_life": 9 * DAY})


async def test_a_dry_run_tells_the_effect_changes_nothing_and_is_audited(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    before = await order(engine, scope)
    change, effect = await engine.gates.dry_run("g6", value="1d", actor="ann")
    assert change == {"half_life": DAY}
    assert effect.queries == 13
    assert effect.rows == 300
    assert effect.worst_overlap <= effect.overlap < 1.0
    assert -1.0 <= effect.order < 1.0
    assert effect.p95_ms[0] > 0 < effect.p95_ms[1]
    assert await order(engine, scope) == before
    ((action, actor, subject, detail),) = await audit(engine)
    assert (action, actor, subject, detail["change"]) == ("gate.dry_run", "ann", "G6", {"half_life": DAY})


async def test_the_dry_run_foretells_what_applying_does(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, **ALLOWED)
    ring = engine.sampling.recent()
    before = [await order(engine, scope, seed) for seed in range(12)]
    _, effect = await engine.gates.dry_run("G2", value=0.0)
    await engine.gates.apply("G2", value=0.0)
    after = [await order(engine, scope, seed) for seed in range(12)]
    assert len(ring) == 12
    overlap = sum(len(set(old) & set(new)) / 10 for old, new in zip(before, after, strict=True)) / 12
    assert effect.overlap == pytest.approx(sum([overlap * 12], 0.0) / 12)
    assert effect.unchanged == sum(old == new for old, new in zip(before, after, strict=True)) / 12


async def test_nothing_is_applied_where_it_is_not_allowed(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    with pytest.raises(PermissionDenied) as refused:
        await engine.gates.apply("G6", value="1d")
    assert refused.value.field == "gates_apply_allowed"
    assert refused.value.remedy
    assert engine.follower.params == engine.follower.index.params == ScoringParams()


@pytest.mark.parametrize(("gate", "value"), [("G2", 0.25), ("G3", 2.0), ("G4", "float16"), ("G6", "2d")])
async def test_a_change_holds_after_a_restart_and_is_taken_back_whole(
    open_engine: Any, scope: Scope, gate: str, value: Any
) -> None:
    engine = await filled(open_engine, scope, **ALLOWED)
    plain, at_first = engine.follower.params, await order(engine, scope)
    applied, _ = await engine.gates.apply(gate, value=value, actor="ann")
    params, changed = engine.follower.params, await order(engine, scope)
    assert params != plain
    assert engine.follower.index.params == params
    assert len(engine.follower.index) == 300
    await engine.store(scope, StoreItem((1000.0,), {}, vector=np.ones(8, np.float32)))
    await engine.delete(scope, (1000.0,))
    await engine.close()
    engine = await open_engine(**ALLOWED, clock=lambda: NOW)
    assert engine.follower.index.params == params
    assert await order(engine, scope) == changed
    assert any(gate in note for note in (await engine.stats()).notes)
    assert (await engine.gates.states())[int(gate[1]) - 1].applied == applied
    with pytest.raises(Conflict):
        await engine.gates.apply(gate, value=value)
    await engine.gates.revert(gate, actor="bob")
    assert engine.follower.index.params == engine.follower.params == plain
    assert await order(engine, scope) == at_first
    assert [(action, actor) for action, actor, *_ in await audit(engine) if action.startswith("gate")] == [
        ("gate.apply", "ann"),
        ("gate.revert", "bob"),
    ]
    with pytest.raises(Conflict):
        await engine.gates.revert(gate)


async def test_float16_halves_what_the_vectors_take(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, **ALLOWED)
    _, effect = await engine.gates.apply("G4", value="float16")
    assert effect.overlap > 0.95
    assert {segment.vectors.dtype for segment in engine.follower.index.view().segments} <= {np.dtype(np.float16)}


async def test_g1_enables_the_configured_retention_and_tells_what_would_leave_answers(
    open_engine: Any, scope: Scope
) -> None:
    engine = await filled(open_engine, scope, **ALLOWED, retention_max_rows=20)
    _, effect = await engine.gates.dry_run("G1")
    assert 0.0 < effect.overlap < 0.95
    assert not engine.retention.enabled
    await engine.gates.apply("G1")
    assert (await engine.retention.sweep()).evicted == 280
    await engine.gates.revert("G1")
    assert not engine.retention.enabled


async def test_a_change_gives_way_to_the_operator(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, **ALLOWED)
    await engine.gates.apply("G6", value="2d")
    await engine.close()
    for settings, half_life in (({"gates_apply_allowed": False}, None), ({"half_life": "9d"}, 9 * DAY)):
        engine = await open_engine(**(ALLOWED | settings))
        assert engine.follower.index.params.default.half_life == half_life
        assert (await engine.stats()).half_life == half_life
        assert engine.gates.notes
        await engine.close()


async def test_gates_that_have_nothing_to_change_say_so(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, **ALLOWED)
    for gate in ("G1", "G5"):
        with pytest.raises(Unprocessable) as refused:
            await engine.gates.apply(gate)
        assert (refused.value.field, bool(refused.value.remedy)) == ("gate", True)


@pytest.mark.parametrize(
    ("gate", "value", "field"),
    [
        ("G2", -1.0, "value"),
        ("G2", "much", "value"),
        ("G3", 0.0, "value"),
        ("G3", True, "value"),
        ("G4", "float8", "value"),
        ("G5", 1.5, "value"),
        ("G6", "soon", "value"),
        ("G6", "0d", "value"),
        ("G6", float("nan"), "value"),
        ("G6", [1], "value"),
        ("G1", 3, "value"),
    ],
)
async def test_a_value_that_cannot_be_is_refused_by_name(
    open_engine: Any, scope: Scope, gate: str, value: Any, field: str
) -> None:
    engine: MemoryEngine = await open_engine(**ALLOWED)
    with pytest.raises(InvalidArgument) as refused:
        await engine.gates.apply(gate, value=value)
    assert (refused.value.field, bool(refused.value.remedy)) == (field, True)


async def test_a_gate_that_is_none_is_not_found(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(**ALLOWED)
    with pytest.raises(NotFound):
        await engine.gates.dry_run("G7")


async def test_an_empty_memory_has_no_effect_to_show(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(**ALLOWED)
    _, effect = await engine.gates.dry_run("G6", value="1d")
    assert (effect.queries, effect.rows) == (0, 0)


async def test_no_vector_of_a_query_is_logged_or_audited(open_engine: Any, scope: Scope, caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        engine = await filled(open_engine, scope, **ALLOWED)
        await engine.gates.apply("G6", value="1d")
    # one alone may be the first digits of a measured time
    components = [f"{float(one):.4f}" for one in asked(0).vector[:4]]  # type: ignore[index]
    for text in (caplog.text, json.dumps(await audit(engine))):
        assert not all(component in text for component in components)


def test_memory_is_measured_against_a_limit() -> None:
    used, limit = memory()
    assert 10**6 < used < (limit or 0)
