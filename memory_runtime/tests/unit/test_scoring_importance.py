"""Raw importance to i: bounded, monotone, deterministic, restartable, and fixed once it is given."""

from __future__ import annotations

import math
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.scoring import ExactIndex, ImportanceNormaliser, ScoringParams
from memory_runtime.scoring.importance import LOGISTIC_K_MAX, fit

raw = st.floats(-1e6, 1e6)


def test_importance_present() -> None:
    normaliser = ImportanceNormaliser()
    value, version = normaliser.observe(3.0)
    index = ExactIndex(2, ScoringParams(), clock=lambda: 0.0)
    index.upsert(index.batch([uuid.UUID(int=1)], [[1, 0]], event_time=0.0, importance=value))
    assert version == 1
    assert index.live_rows().importance.tolist() == [value]


@given(st.lists(raw, min_size=1, max_size=200))
def test_every_i_is_in_the_unit_interval(values: list[float]) -> None:
    normaliser = ImportanceNormaliser()
    assert all(0 <= normaliser.observe(value)[0] <= 1 for value in values)


@given(st.lists(raw, min_size=1, max_size=300), raw, raw)
def test_more_raw_importance_is_never_less_i(values: list[float], one: float, other: float) -> None:
    normaliser = ImportanceNormaliser()
    for value in values:
        normaliser.observe(value)
    assert normaliser.preview(min(one, other)) <= normaliser.preview(max(one, other))


@given(st.lists(raw, min_size=1, max_size=300), st.integers(0, 300))
def test_a_restart_in_the_middle_changes_nothing(values: list[float], at: int) -> None:
    straight, restarted = ImportanceNormaliser(), ImportanceNormaliser()
    for number, value in enumerate(values):
        if number == at:
            restarted = ImportanceNormaliser.loads(restarted.dumps())
        assert straight.observe(value) == restarted.observe(value)
    assert straight.dumps() == restarted.dumps()


def test_the_reservoir_stays_at_512_and_deterministic_beyond_it() -> None:
    one, other = ImportanceNormaliser(), ImportanceNormaliser()
    for value in np.random.default_rng(1).normal(size=3000):
        assert one.observe(float(value)) == other.observe(float(value))
    assert len(one.state()["reservoir"]) == 512


def test_the_tail_of_the_values_chooses_the_method() -> None:
    rng = np.random.default_rng(2)
    assert fit([float(v) for v in rng.random(63) ** 20], 1).method == "minmax"
    assert fit([float(v) for v in rng.random(400)], 1).method == "minmax"
    assert fit([*np.linspace(0, 1, 380).tolist(), *np.linspace(1, 3.5, 20).tolist()], 1).method == "winsorised"
    heavy = fit([*np.linspace(0, 1, 390).tolist(), *np.linspace(50, 90, 10).tolist()], 1)
    assert heavy.method == "logistic"
    assert heavy.k == pytest.approx(math.log(9) / (0.9 - 0.1), rel=0.05)
    assert heavy.apply(heavy.centre) == 0.5


def test_the_slope_is_capped() -> None:
    assert fit([0.0] * 300 + [1e-9] * 100, 1).k == LOGISTIC_K_MAX


def test_quantiles_are_recomputed_every_64_inserts() -> None:
    normaliser = ImportanceNormaliser()
    rng = np.random.default_rng(4)
    versions = [normaliser.observe(float(v))[1] for v in rng.random(400)]
    changes = [n + 1 for n in range(1, 400) if versions[n] != versions[n - 1] and n > 64]
    assert changes
    assert all(change % 64 == 0 for change in changes)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_raw_importance_must_be_finite(bad: float) -> None:
    with pytest.raises(InvalidArgument) as refused:
        ImportanceNormaliser().observe(bad)
    assert refused.value.field == "importance"


@pytest.mark.parametrize("text", ["", "{}", '{"format":2,"seen":1,"reservoir":[],"mapping":null}'])
def test_a_damaged_state_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        ImportanceNormaliser.loads(text)
