"""R and the choice of what goes, as values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.scoring.retention import (
    BYTES,
    ROWS,
    TTL,
    Extent,
    Lowest,
    RetentionWeights,
    retention_scores,
    rows_of,
)

NOW = 1_700_000_000.0
DAY = 86400.0
NEVER = -math.inf


def row(number: int, i: float = 0.5, *, idle: float = 0.0, c: int = 0, size: int = 100, **flags: float) -> tuple:
    stored = flags.get("stored", NOW - DAY)
    exempt, own = int(flags.get("exempt", 0)), int(flags.get("own_ttl", 0))
    return (number, i, NOW - idle, c, size, stored, exempt, own)


def chosen(rows: list[tuple], max_rows: int = 0, max_bytes: int = 0, before: float = NEVER, most: int = 100) -> list:
    table = rows_of(rows)
    extent = Extent().with_rows(table, stored_before=before)
    lowest = Lowest(RetentionWeights(), extent, NOW, before, most)
    for start in range(0, len(rows), 3):
        lowest.add(table.take(np.arange(start, min(start + 3, len(rows)))))
    return lowest.chosen(max_rows, max_bytes)


def test_retention_score_is_the_formula_of_section_4() -> None:
    rows = rows_of([row(1, 0.25, idle=2 * DAY, c=3, size=50), row(2, 1.0, c=15, size=200)])
    weights = RetentionWeights(0.4, 0.3, 0.2, 0.1, access_half_life=DAY, importance_exponent=2.0)
    extent = Extent().with_rows(rows, stored_before=NEVER)
    first, second = retention_scores(rows, weights, extent, NOW)
    assert first == pytest.approx(0.4 * 0.0625 + 0.3 * 0.25 + 0.2 * math.log(4) / math.log(16) - 0.1 * 0.25, abs=1e-12)
    assert second == pytest.approx(0.4 + 0.3 + 0.2 - 0.1, abs=1e-12)


def test_retention_ordering() -> None:
    better = {"i": [row(1, 0.2), row(2, 0.9)], "recency": [row(1, idle=9 * DAY), row(2, idle=1.0)]}
    better |= {"frequency": [row(1, c=1), row(2, c=50)], "cost": [row(1, size=9000), row(2, size=10)]}
    for why, pair in better.items():
        assert [one.row for one in chosen(pair, max_rows=1)] == [1], why
        assert [one.row for one in chosen(pair[::-1], max_rows=1)] == [1], why


def test_no_access_anywhere_leaves_the_frequency_term_out() -> None:
    rows = rows_of([row(1), row(2)])
    scores = retention_scores(rows, RetentionWeights(), Extent().with_rows(rows, stored_before=NEVER), NOW)
    assert np.isfinite(scores).all()


def test_nothing_goes_without_a_bound() -> None:
    assert chosen([row(n, 0.0, idle=9999 * DAY) for n in range(9)]) == []


def test_pinned_and_held_memories_count_and_never_go() -> None:
    rows = [row(n, 0.0, exempt=1, stored=0.0) for n in range(5)] + [row(n, 1.0) for n in range(5, 8)]
    assert {one.row for one in chosen(rows, max_rows=6)} <= {5, 6, 7}
    assert len(chosen(rows, max_rows=6)) == 2
    assert len(chosen(rows, max_rows=1)) == 3
    assert chosen(rows, before=NOW)
    assert all(one.row >= 5 for one in chosen(rows, before=NOW))


def test_what_is_over_its_time_goes_first_and_counts_towards_the_bounds() -> None:
    rows = [row(1, 1.0, stored=NOW - 9 * DAY), row(2, 0.1), row(3, 0.2), row(4, 0.9)]
    gone = chosen(rows, max_rows=2, before=NOW - 5 * DAY)
    assert [(one.row, one.reason) for one in gone] == [(1, TTL), (2, ROWS)]


def test_a_ttl_of_its_own_is_the_one_that_counts() -> None:
    assert chosen([row(1, stored=0.0, own_ttl=1)], before=NOW) == []


def test_the_byte_budget_frees_just_enough() -> None:
    rows = [row(n, n / 10, size=100) for n in range(1, 8)]
    gone = chosen(rows, max_bytes=450)
    assert [one.row for one in gone] == [1, 2, 3]
    assert {one.reason for one in gone} == {BYTES}


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), st.integers(1, 9)), max_size=40), st.integers(1, 9))
def test_the_run_by_run_choice_is_that_of_a_full_sort(values: list[tuple[float, int, int]], keep: int) -> None:
    rows = [row(n, i, c=c, size=size) for n, (i, c, size) in enumerate(values)]
    table = rows_of(rows)
    scores = retention_scores(table, RetentionWeights(), Extent().with_rows(table, stored_before=NEVER), NOW)
    expected = sorted(range(len(rows)), key=lambda n: (scores[n], n))[: max(0, len(rows) - keep)]
    assert [one.row for one in chosen(rows, max_rows=keep)] == expected


def test_a_bounded_choice_takes_the_worst() -> None:
    rows = [row(n, n / 100) for n in range(50)]
    assert [one.row for one in chosen(rows, max_rows=10, most=4)] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["importance", "recency", "frequency", "cost", "importance_exponent"])
def test_a_negative_weight_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        RetentionWeights(**{name: -0.1})
    assert refused.value.field == name
    assert refused.value.remedy


def test_a_half_life_of_zero_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="access_half_life"):
        RetentionWeights(access_half_life=0.0)
