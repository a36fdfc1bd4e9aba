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
wild = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 4.0, 5.0, 1.8e12, 1e308, -1e308, 5e-324]),
    st.integers(-(2**60), 2**60).map(float),
)


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


@given(st.lists(wild, min_size=1, max_size=200), st.sampled_from([0.05, 0.5, 0.8, 1.0]))
def test_no_value_is_ever_mapped_below_the_floor(values: list[float], floor: float) -> None:
    normaliser = ImportanceNormaliser(floor)
    assert all(floor <= normaliser.observe(value)[0] <= 1 for value in values)
    assert all(floor <= normaliser.preview(value) <= 1 for value in (-1e308, 0.0, 1e308))


@given(st.lists(wild, min_size=1, max_size=150), wild, wild)
def test_the_map_is_monotone_for_any_finite_values(values: list[float], one: float, other: float) -> None:
    for floor in (0.0, 0.8):
        mapping = fit(values, 1, floor=floor)
        assert mapping.apply(min(one, other)) <= mapping.apply(max(one, other))


@given(st.integers(4, 400), st.floats(0, 1), st.sampled_from([1.8e12, -1.8e12, 1e308]))
def test_one_outlier_does_not_flatten_the_others(count: int, at: float, outlier: float) -> None:
    usual = np.random.default_rng(count).random(count).tolist()
    place = int(at * count)
    normaliser = ImportanceNormaliser(0.0)
    for value in [*usual[:place], outlier, *usual[place:]]:
        normaliser.observe(value)
    # once the map was fitted with enough beside it, it tells the usual values apart
    mapping = fit([*usual, outlier], 1)
    assert mapping.apply(max(usual)) - mapping.apply(min(usual)) > 0.15
    if count >= 64:
        assert normaliser.preview(1.0) - normaliser.preview(0.0) > 0.15


def test_a_state_of_a_release_without_a_floor_gives_what_it_gave_and_is_left_behind() -> None:
    old = {
        "format": 1,
        "seen": 2,
        "reservoir": [5.0, 4.0],
        "mapping": {"version": 2, "method": "minmax", "low": 4.0, "high": 5.0, "k": 2.7, "centre": 4.5},
    }
    normaliser = ImportanceNormaliser.from_state(old, 0.8)
    assert [normaliser.preview(value) for value in (4.0, 4.25, 5.0)] == [0.0, 0.25, 1.0]
    assert normaliser.state() == old | {"floor": 0.0}
    assert normaliser.observe(4.0) == (0.9, 3)  # two of three: the middle
    # such a release reads the mapping's own fields only
    assert set(normaliser.state()["mapping"]) == set(old["mapping"])
    assert ImportanceNormaliser.loads(normaliser.dumps(), 0.8).preview(4.0) == 0.9


@given(st.lists(raw, min_size=1, max_size=300), raw, raw)
def test_more_raw_importance_is_never_less_i(values: list[float], one: float, other: float) -> None:
    normaliser = ImportanceNormaliser()
    for value in values:
        normaliser.observe(value)
    assert normaliser.preview(min(one, other)) <= normaliser.preview(max(one, other))


@given(st.lists(wild, min_size=1, max_size=300), st.integers(0, 300))
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


def test_it_is_minmax_at_first_and_logistic_once_there_are_data() -> None:
    rng = np.random.default_rng(2)
    assert fit([3.0], 1).method == "minmax"
    assert fit([float(v) for v in rng.random(63)], 1).method == "minmax"
    assert fit([*np.linspace(0, 1, 40).tolist(), 1.8e12], 1).method == "winsorised"
    for samples in (rng.random(64), rng.random(400), rng.lognormal(size=400)):
        found = fit([float(v) for v in samples], 1)
        spread = float(np.quantile(samples, 0.9) - np.quantile(samples, 0.1))
        assert found.method == "logistic"
        assert found.k == pytest.approx(math.log(9) / spread)
        assert found.centre == pytest.approx(float(np.median(samples)))
        assert found.apply(found.centre) == 0.5
        low, high = (found.apply(float(np.quantile(samples, q))) for q in (0.1, 0.9))
        assert high / (1 - high) == pytest.approx(9 * low / (1 - low))  # ln 9 between their logits


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
