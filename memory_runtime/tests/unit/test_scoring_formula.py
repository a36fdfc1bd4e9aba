"""The formula: the test matrix of source document 002 by its names, and what holds as clocks change."""

from __future__ import annotations

import math
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.scoring import ExactIndex, Partition, Profile, ScoringParams, formula, kernel, portable
from memory_runtime.scoring.formula import turn_of, turns
from memory_runtime.scoring.portable import exp2_fraction, log2
from memory_runtime.scoring.rows import unit_rows

NOW = 1.7e9
HOME = Partition(0, 0)
DAY = 86400.0


def an_index(dim: int = 3, **profile: Any) -> ExactIndex:
    return ExactIndex(dim, ScoringParams(default=Profile(**profile)), clock=lambda: NOW)


def store(index: ExactIndex, vectors: Any, **columns: Any) -> None:
    ids = [uuid.UUID(int=number + 1) for number in range(len(vectors))]
    index.upsert(index.batch(ids, vectors, **({"event_time": NOW} | columns)))


def numbers(rows: Any) -> list[int]:
    return [row.uuid.int for row in rows]


def test_norm_invariant() -> None:
    index = an_index(8)
    store(index, np.random.default_rng(1).normal(size=(50, 8)) * 1e6)
    index.compact()
    norms = np.linalg.norm(index.live_rows().vectors.astype(np.float64), axis=1)
    assert np.abs(norms - 1).max() < 1e-6
    assert index.stats().norm_error_max < 1e-6


def test_similarity_monotonicity() -> None:
    index = an_index()
    store(index, [[1, angle, 0] for angle in (0.9, 0.1, 0.5, 0.0)])
    (answer,) = index.search([1, 0, 0], top_k=4, partition=HOME)
    assert numbers(answer) == [4, 2, 3, 1]
    assert [row.score for row in answer] == sorted((row.score for row in answer), reverse=True)


def test_zero_similarity_clamp() -> None:
    index = an_index()
    store(index, [[1, 0, 0], [-1, 0, 0], [0, 1, 0]])
    (answer,) = index.search([1, 0, 0], top_k=3, partition=HOME)
    assert numbers(answer) == [1]
    assert answer[0].score == 1.0


def test_half_life_halving() -> None:
    index = an_index(half_life=DAY)
    store(index, [[1, 0, 0]], event_time=[NOW - DAY], importance=0.7)
    (fresh,) = index.search([1, 0.5, 0], top_k=1, partition=HOME, now=NOW - DAY)[0]
    (aged,) = index.search([1, 0.5, 0], top_k=1, partition=HOME, now=NOW)[0]
    assert aged.score == fresh.score / 2
    assert aged.log2_score == fresh.log2_score - 1


def test_float16_recall() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(2000, 64))
    narrow = ExactIndex(64, ScoringParams(vector_storage="float16"), clock=lambda: NOW)
    full = an_index(64)
    for index in (narrow, full):
        store(index, vectors)
    queries = rng.normal(size=(50, 64))
    pairs = zip(
        full.search(queries, top_k=10, partition=HOME), narrow.search(queries, top_k=10, partition=HOME), strict=True
    )
    recall = np.mean([len({*numbers(a)} & {*numbers(b)}) / 10 for a, b in pairs])
    assert recall >= 0.99
    narrow.compact()
    full.compact()
    assert narrow.stats().resident_bytes < full.stats().resident_bytes


@pytest.mark.parametrize("half_life", [60.0, 3600.0, 86400.0, 30 * 86400.0, 10 * 3.15576e7, None])
@pytest.mark.parametrize("span", [1.0, 3600.0, 30 * 3.15576e7])
def test_no_range_of_ages_overflows(half_life: float | None, span: float) -> None:
    index = an_index(half_life=half_life)
    ages = np.linspace(0, span, 40)
    store(index, np.tile([1.0, 2.0, 0.0], (40, 1)), event_time=NOW - ages)
    (answer,) = index.search([1, 2, 0], top_k=40, partition=HOME)
    assert len(answer) == 40
    assert all(math.isfinite(row.log2_score) and 0 <= row.score <= 1 for row in answer)
    expected = -ages / half_life if half_life else np.zeros(40)
    assert np.allclose([row.log2_score for row in answer], expected, rtol=1e-12, atol=1e-7)


def test_zero_importance_is_last_not_lost() -> None:
    index = an_index()
    store(index, [[1, 0, 0], [1, 0, 0]], importance=[0.0, 1e-3])
    (answer,) = index.search([1, 0, 0], top_k=2, partition=HOME)
    assert numbers(answer) == [2, 1]
    assert answer[1].score == pytest.approx(2.0**-20, rel=1e-6)


def test_every_factor_enters_the_score() -> None:
    params = ScoringParams(
        default=Profile(2.0, 0.5, 3 * DAY, (0.25, 0.5)),
        feature_names=("trust", "place"),
    )
    index = ExactIndex(3, params, clock=lambda: NOW)
    store(index, [[3, 4, 0]], event_time=[NOW - DAY], importance=0.8, features=[[0.5, 0.25]])
    (row,) = index.search([1, 0, 0], top_k=1, partition=HOME)[0]
    expected = 0.6**0.5 * 0.8**2 * 2 ** (-1 / 3) * 0.5**0.25 * 0.25**0.5
    assert row.score == pytest.approx(expected, rel=1e-7)
    told = index.explain(row.id, [1, 0, 0])
    assert (told.score, told.log2_score, told.similarity) == (row.score, row.log2_score, row.similarity)
    assert told.features == {"trust": (0.5, 0.25), "place": (0.25, 0.5)}
    product = told.similarity**0.5 * told.importance**2 * told.decay * 0.5**0.25 * 0.25**0.5
    assert told.score == pytest.approx(product, rel=1e-12)
    assert told.suppressed == pytest.approx(1 - 2 ** (-1 / 3))


def test_a_future_memory_counts_as_new_until_its_time_comes() -> None:
    index = an_index(half_life=DAY)
    store(index, [[1, 0, 0], [1, 0, 0]], event_time=[NOW + 10 * DAY, NOW])
    (answer,) = index.search([1, 0, 0], top_k=2, partition=HOME)
    assert [row.score for row in answer] == [1.0, 1.0]
    assert numbers(answer) == [1, 2]
    (later,) = index.search([1, 0, 0], top_k=2, partition=HOME, now=NOW + 11 * DAY)
    assert [row.score for row in later] == [0.5, 2.0**-11]


def test_as_of_hides_what_came_later() -> None:
    index = an_index(half_life=DAY)
    store(index, [[1, 0, 0], [1, 1, 0]], event_time=[NOW, NOW - 5 * DAY])
    (answer,) = index.search([1, 0, 0], top_k=2, partition=HOME, as_of=NOW - DAY)
    assert numbers(answer) == [2]


def test_a_clock_that_steps_back_keeps_the_order() -> None:
    index = an_index(half_life=3600.0)
    rng = np.random.default_rng(5)
    store(index, rng.normal(size=(200, 3)), event_time=NOW - 7200 - rng.random(200) * DAY)
    orders = [
        numbers(index.search([1, 1, 1], top_k=20, partition=HOME, now=NOW + step)[0]) for step in (0, -3600, 3600)
    ]
    assert orders[0] == orders[1] == orders[2]


@given(st.integers(-1000, 1000), st.integers(0, 2**32))
def test_shifting_every_clock_by_whole_half_lives_changes_nothing(shift: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, times, importance = rng.normal(size=(30, 3)), NOW - rng.integers(0, 10**6, 30), rng.random(30)
    answers = []
    for moved in (0, shift * 4096):
        index = an_index(half_life=4096.0)
        store(index, vectors, event_time=times + moved, importance=importance)
        answers.append(index.search([1, 2, 3], top_k=10, partition=HOME, now=NOW + moved)[0])
    assert [(r.id, r.score, r.log2_score) for r in answers[0]] == [(r.id, r.score, r.log2_score) for r in answers[1]]


@given(st.integers(0, 2**32))
def test_the_order_of_insertion_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, times, importance = rng.integers(-1, 2, (40, 3)) + 0.1, NOW - rng.random(40) * 1e6, rng.random(40)
    ids = np.zeros((40, 2), np.uint64)
    ids[:, 1] = np.arange(40)
    answers = []
    for order in (np.arange(40), rng.permutation(40)):
        index = an_index(half_life=3 * DAY)
        for part in np.split(order, sorted(rng.integers(0, 41, 3))):
            if len(part):
                columns = {"event_time": times[part], "importance": importance[part]}
                index.upsert(index.batch(ids[part], vectors[part], **columns))
            if rng.random() < 0.5:
                index.compact()
        answers.append(index.search([1, 2, 3], top_k=15, partition=HOME)[0])
    assert [(r.id, r.log2_score) for r in answers[0]] == [(r.id, r.log2_score) for r in answers[1]]


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32))
def test_raising_similarity_never_lowers_a_rank(one: float, other: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, times, query = rng.normal(size=(20, 3)), NOW - rng.random(20) * 1e6, np.array([1.0, 0, 0])
    ranks = []
    for cosine in (min(one, other), max(one, other)):
        index = an_index(half_life=5 * DAY)
        mine = [[cosine, np.sqrt(1 - cosine**2), 0]]
        store(index, np.concatenate([mine, vectors[1:]]), event_time=times)
        found = numbers(index.search(query, top_k=20, partition=HOME)[0])
        ranks.append(found.index(1) if 1 in found else len(found))
    assert ranks[1] <= ranks[0]


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**32))
def test_raising_importance_never_lowers_a_rank(low: float, high: float, seed: int) -> None:
    low, high = min(low, high), max(low, high)
    rng = np.random.default_rng(seed)
    vectors, importance = rng.normal(size=(20, 3)), rng.random(20)
    ranks = []
    for mine in (low, high):
        index = an_index()
        store(index, vectors, importance=np.concatenate([[mine], importance[1:]]))
        found = numbers(index.search(vectors[0] + vectors[1], top_k=20, partition=HOME)[0])
        ranks.append(found.index(1) if 1 in found else len(found))
    assert ranks[1] <= ranks[0]


@given(st.floats(1e-300, 1e300))
def test_portable_log2_is_close_to_the_library_and_exact_for_powers_of_two(value: float) -> None:
    assert float(log2(np.array([value]))[0]) == pytest.approx(math.log2(value), rel=4e-16, abs=4e-16)
    power = 2.0 ** math.floor(math.log2(value))
    assert float(log2(np.array([power]))[0]) == math.log2(power)


@given(st.floats(0, 1, exclude_max=True))
def test_portable_exp2_is_close_to_the_library(fraction: float) -> None:
    value = float(exp2_fraction(np.array([fraction]))[0])
    assert 1 <= value < 2
    assert value == pytest.approx(2.0**fraction, rel=5e-16)


def test_the_compiled_log2_and_exp2_give_the_bits_of_numpy() -> None:
    if kernel.load() is None:
        pytest.skip("no compiled kernel: make kernel")
    rng = np.random.default_rng(6)
    values = np.concatenate(
        [np.exp(rng.normal(size=20_000) * 50), 2.0 ** rng.integers(-60, 60, 500), rng.random(20_000)]
    )
    fractions = np.concatenate([rng.random(40_000), np.arange(512) / 512, [np.nextafter(1.0, 0.0)]])
    assert (log2(values) == portable._log2(values)).all()
    assert (exp2_fraction(fractions) == portable._exp2_fraction(fractions)).all()


def test_the_fixed_order_of_summation_does_not_depend_on_the_other_rows() -> None:
    rng = np.random.default_rng(9)
    rows, query = unit_rows(rng.normal(size=(257, 100)), 100), unit_rows(rng.normal(size=100), 100)[0]
    together = formula.exact_dot(rows, query)
    assert together.tolist() == [float(formula.exact_dot(rows[at : at + 1], query)[0]) for at in range(257)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"half_life": 0.0}, "half_life"),
        ({"half_life": -1.0}, "half_life"),
        ({"half_life": math.nan}, "half_life"),
        ({"similarity_exponent": 0.0}, "similarity_exponent"),
        ({"importance_exponent": -1.0}, "importance_exponent"),
        ({"feature_weights": (0.7, 0.7)}, "feature_weights"),
    ],
)
def test_bad_parameters_are_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Profile(**change)
    assert refused.value.field == field
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("vector", "columns", "field"),
    [
        ([math.nan, 0, 1], {}, "vector"),
        ([math.inf, 0, 1], {}, "vector"),
        ([0, 0, 0], {}, "vector"),
        ([1, 0], {}, "vector"),
        ([1, 0, 0], {"importance": 1.5}, "importance"),
        ([1, 0, 0], {"importance": math.nan}, "importance"),
        ([1, 0, 0], {"event_time": math.inf}, "event_time"),
        ([1, 0, 0], {"tenant": -1}, "tenant"),
    ],
)
def test_a_bad_row_is_refused_by_name_and_nothing_is_stored(vector: Any, columns: dict[str, Any], field: str) -> None:
    index = an_index()
    with pytest.raises(InvalidArgument) as refused:
        store(index, [vector], **columns)
    assert refused.value.field == field
    assert len(index) == 0


@given(st.floats(-1e11, 1e11), st.floats(1e-3, 1e10))
def test_one_moment_turns_like_many(time: float, half_life: float) -> None:
    whole, rest = turns(np.array([time]), half_life)
    assert turn_of(time, half_life) == (whole[0], rest[0])


def test_a_penalty_leaves_a_score_that_is_not_zero() -> None:
    assert formula.penalised_score(formula.LEAST_SCORE, 0.01) == formula.LEAST_SCORE
    assert formula.penalised_score(0.5, 0.5) == 0.25
