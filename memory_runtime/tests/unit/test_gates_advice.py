"""The gates' conditions, proposals and measures, as values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.scoring import Profile, ScoredRow, ScoringParams
from memory_runtime.scoring.gates import Finding, Gate, Measured, advise, changed, compare, kendall, quantile_of, ties

DAY = 86400.0
CALM = Measured(
    rows=1000,
    p95=0.001,
    importance=np.linspace(0.4, 0.6, 100),
    ties=0.0,
    equal=0.0,
    memory_used=10,
    memory_limit=100,
    approximate=False,
    recall=1.0,
    asks=0.0,
    asked_half_life=None,
    params=ScoringParams(),
    retention_enabled=False,
    retention_bounded=True,
)


def finding(gate: Gate, **measured: Any) -> Finding:
    return next(one for one in advise(replace(CALM, **measured)) if one.gate is gate)


def test_a_calm_service_trips_no_gate() -> None:
    assert [one.gate for one in advise(CALM)] == list(Gate)
    assert not any(one.tripped for one in advise(CALM))


@pytest.mark.parametrize(
    ("rows", "p95", "tripped"),
    [(200_000, 0.1, False), (200_001, 0.025, False), (200_001, 0.0251, True), (10**6, None, False)],
)
def test_g1_needs_many_rows_and_a_slow_tail(rows: int, p95: float | None, tripped: bool) -> None:
    found = finding(Gate.G1, rows=rows, p95=p95)
    assert found.tripped is tripped
    assert found.change == {"retention_enabled": True}


def test_g1_without_bounds_has_nothing_to_enable_and_says_what_to_set() -> None:
    found = finding(Gate.G1, rows=10**6, p95=1.0, retention_bounded=False)
    assert found.change is None
    assert "retention_max_rows" in found.remark


def test_g2_aims_at_a_fourfold_spread() -> None:
    found = finding(Gate.G2, importance=np.geomspace(2.0**-10, 1.0, 1001))
    assert found.tripped
    alpha = found.change["importance_exponent"]  # type: ignore[index]
    assert alpha == pytest.approx(2 / 8, rel=0.02)
    calmed = replace(CALM, importance=np.geomspace(2.0**-10, 1.0, 1001), params=ScoringParams(Profile(alpha)))
    assert not advise(calmed)[1].tripped


def test_g2_survives_importances_of_zero_and_none_at_all() -> None:
    assert math.isfinite(float(finding(Gate.G2, importance=np.zeros(9)).measured["log2_q90_over_q10"]))  # type: ignore[arg-type]
    assert not finding(Gate.G2, importance=np.zeros(0)).tripped


def test_g3_doubles_beta_up_to_its_bound() -> None:
    assert finding(Gate.G3, ties=0.3).change == {"similarity_exponent": 2.0}
    most = finding(Gate.G3, ties=0.3, params=ScoringParams(Profile(similarity_exponent=8.0)))
    assert (most.tripped, most.change) == (True, None)


def test_g4_halves_the_vectors_once() -> None:
    assert finding(Gate.G4, memory_used=81).tripped
    assert not finding(Gate.G4, memory_used=81, memory_limit=None).tripped
    assert finding(Gate.G4, memory_used=81).change == {"vector_storage": "float16"}
    again = finding(Gate.G4, memory_used=81, params=ScoringParams(vector_storage="float16"))
    assert (again.tripped, again.change) == (True, None)


def test_g5_trips_only_behind_an_approximate_back_end() -> None:
    assert not finding(Gate.G5).tripped
    assert finding(Gate.G5, approximate=True, recall=0.9).tripped


def test_g6_takes_the_half_life_that_is_asked_for() -> None:
    assert finding(Gate.G6, asks=0.11, asked_half_life=7 * DAY).change == {"half_life": 7 * DAY}
    aging = finding(Gate.G6, asks=0.9, params=ScoringParams(Profile(half_life=DAY)))
    assert (aging.tripped, aging.change) == (False, None)


def test_a_change_holds_for_exponents_everywhere_and_spares_a_types_own_half_life() -> None:
    params = ScoringParams(Profile(), by_type={3: Profile(half_life=DAY)}, by_tenant={1: Profile(2.0)})
    made = changed(params, {"importance_exponent": 0.5, "half_life": 9 * DAY})
    assert made.default == Profile(0.5, half_life=9 * DAY)
    assert made.by_type[3] == Profile(0.5, half_life=DAY)
    assert made.by_tenant[1] == Profile(0.5)


def test_a_change_to_an_impossible_value_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument) as refused:
        changed(ScoringParams(), {"half_life": -1.0})
    assert refused.value.field == "half_life"


def answer(*ids: int) -> list[ScoredRow]:
    return [ScoredRow(bytes([one]) * 16, 0.0, -float(at), 0.0) for at, one in enumerate(ids)]


def test_compare_tells_what_left_and_what_moved() -> None:
    effect = compare([answer(1, 2, 3, 4), answer(5, 6)], [answer(2, 1, 3, 9), answer(5, 6)], rows=99)
    assert (effect.queries, effect.rows) == (2, 99)
    assert effect.overlap == pytest.approx((0.75 + 1) / 2)
    assert effect.worst_overlap == 0.75
    assert effect.unchanged == 0.5
    assert effect.order == pytest.approx((1 / 3 + 1) / 2)


def test_kendall_is_one_for_the_same_order_and_minus_one_for_the_reverse() -> None:
    ids = [bytes([n]) for n in range(6)]
    assert kendall(ids, ids) == 1.0
    assert kendall(ids, ids[::-1]) == -1.0
    assert kendall(ids, []) == 1.0


def test_ties_tell_near_ones_from_equal_ones() -> None:
    rows = [ScoredRow(bytes([n]) * 16, 0.0, log2, 0.0) for n, log2 in enumerate([0.0, -0.0001, -0.0001, -1.0])]
    assert ties([rows]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert ties([]) == (0.0, 0.0)


def test_a_quantile_lies_inside_its_bucket() -> None:
    buckets = [(0.01, 90.0), (0.1, 100.0), (math.inf, 100.0)]
    assert quantile_of(buckets, 0.5) == pytest.approx(0.01 * 50 / 90)
    assert quantile_of(buckets, 0.95) == pytest.approx(0.01 + 0.09 * 0.5)
    assert quantile_of([(0.01, 0.0), (math.inf, 5.0)], 0.5) == 0.01
    assert quantile_of([], 0.5) is None
