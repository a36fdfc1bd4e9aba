"""The exact index: identical ids to the float64 oracle, whatever was done to it and whatever scans."""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hack import kernel as kernel_tool
from hack import kernel_fuzz
from memory_runtime.model.errors import DeadlineExceeded, InvalidArgument, NotFound
from memory_runtime.scoring import (
    UNSET,
    Cancelled,
    ExactIndex,
    Partition,
    Profile,
    RowBatch,
    ScoringParams,
    kernel,
    merge,
    ranking,
    search,
    view,
)
from memory_runtime.scoring.oracle import brute_force
from memory_runtime.scoring.rows import last_of_each
from memory_runtime.scoring.sharing import Helpers

NOW = 1.7e9
HOME = Partition(0, 0)
DAY = 86400.0
VARIANTS = ["numpy", "portable", "avx2", "avx512-vnni", "shared"]


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a test once with each thing that can scan on this machine."""
    if request.param == "numpy":
        monkeypatch.setattr(kernel, "load", lambda: None)
        yield request.param
        return
    try:
        kernel_tool.build()
    except kernel_tool.CannotBuild as why:
        pytest.skip(str(why))
    kernel.load.cache_clear()
    module = kernel.load()
    before = module.variant()
    if request.param == "shared":
        # every search is cut in four, as soon as its first block is done
        monkeypatch.setattr(search, "ALONE", 1)
        monkeypatch.setattr(search, "LARGEST_BLOCK", 256)
        monkeypatch.setattr(search, "HELPERS", Helpers(3))
    elif not module.force(request.param):
        pytest.skip(f"this CPU has no {request.param}")
    yield request.param
    module.force(before)


def ids_of(numbers: Any) -> Any:
    ids = np.zeros((len(numbers), 2), np.uint64)
    ids[:, 1] = numbers
    return ids


def an_index(dim: int = 16, **profile: Any) -> ExactIndex:
    return ExactIndex(dim, ScoringParams(default=Profile(**profile)), clock=lambda: NOW)


def filled(n: int, seed: int = 1, dim: int = 16, **profile: Any) -> tuple[ExactIndex, RowBatch]:
    rng = np.random.default_rng(seed)
    index = an_index(dim, **profile)
    rows = index.batch(
        ids_of(np.arange(n)),
        rng.normal(size=(20, dim))[rng.integers(20, size=n)] + 0.3 * rng.normal(size=(n, dim)),
        event_time=NOW - rng.random(n) * 90 * DAY,
        importance=rng.random(n),
    )
    index.upsert(rows)
    return index, rows


def same_as_truth(index: ExactIndex, rows: RowBatch, queries: Any, k: int = 10, **asked: Any) -> bool:
    asked = {"partition": HOME, "now": NOW} | asked
    mine = index.search(queries, top_k=k, **asked)
    true = brute_force(rows, queries, params=index.params, k=k, **asked)
    return [[(r.id, r.log2_score) for r in a] for a in mine] == [[(r.id, r.log2_score) for r in a] for a in true]


@pytest.mark.parametrize("seed", range(20261, 20269))
def test_random_stores_and_operations_agree_with_the_oracle(variant: str, seed: int) -> None:
    assert kernel_fuzz.run(seed, steps=4, most_rows=3000) > 0


@pytest.mark.parametrize("half_life", [60.0, 3600.0, DAY, 30 * DAY, 3650 * DAY, None])
def test_a_large_segment_agrees_with_the_oracle_at_every_half_life(variant: str, half_life: float | None) -> None:
    index, rows = filled(12_000, half_life=half_life, dim=48)
    index.compact()
    index.maintain()
    queries = np.random.default_rng(7).normal(size=(6, 48))
    assert same_as_truth(index, rows, queries)
    assert same_as_truth(index, rows, queries, half_life=7 * DAY)
    assert same_as_truth(index, rows, queries, as_of=NOW - 20 * DAY)


def test_ties_are_broken_by_id_among_thousands(variant: str) -> None:
    index = an_index(4, half_life=DAY)
    rng = np.random.default_rng(3)
    order = rng.permutation(9000)
    rows = index.batch(ids_of(order), np.tile([1.0, 1, 0, 0], (9000, 1)), event_time=NOW - DAY)
    index.upsert(rows)
    (answer,) = index.search([1, 1, 0, 0], top_k=25, partition=HOME)
    assert [row.uuid.int for row in answer] == list(range(25))


def of_many_types(types: int, *, compacted: bool, **columns: Any) -> tuple[ExactIndex, RowBatch]:
    """One memory of each type, all with one vector: every one of them ties with all others."""
    index = an_index(4, half_life=DAY)
    rows = index.batch(
        ids_of(np.arange(types)),
        np.ones((types, 4)),
        event_time=columns.get("event_time", NOW - DAY),
        memory_type=np.arange(types, dtype=np.int32),
    )
    index.upsert(rows)
    if compacted:
        index.compact()
    return index, rows


def calls_of(work: Callable[[], Any]) -> int:
    """How many functions, Python's and C's, `work` calls: its work, whatever the machine is busy with."""
    count = 0

    def heard(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(heard)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(("compacted", "half_life"), [(True, UNSET), (False, UNSET), (True, 3 * DAY)])
def test_work_grows_with_the_number_of_types_and_not_with_its_square(
    variant: str, compacted: bool, half_life: Any
) -> None:
    counted = []
    for types in (1000, 4000):  # both fit the fresh rows
        index, rows = of_many_types(types, compacted=compacted)
        assert same_as_truth(index, rows, np.ones((2, 4)), half_life=half_life)
        counted.append(calls_of(lambda: index.search(np.ones((2, 4)), top_k=10, partition=HOME, half_life=half_life)))  # noqa: B023
    assert counted[1] < 6 * counted[0], f"four times the types, {counted[1] / counted[0]:.1f} times the calls"


def test_rows_that_tie_by_the_thousand_are_each_sorted_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    lexsort, sorted_rows = np.lexsort, []
    monkeypatch.setattr(ranking.np, "lexsort", lambda keys: sorted_rows.append(len(keys[0])) or lexsort(keys))
    index, _ = of_many_types(40_000, compacted=True)
    sorted_rows.clear()
    (answer,) = index.search(np.ones(4), top_k=1000, partition=HOME)
    assert [row.uuid.int for row in answer] == list(range(1000))
    assert sum(sorted_rows) < 2 * 40_000


@pytest.mark.parametrize("compacted", [True, False])
@pytest.mark.parametrize("listed", [False, True])
def test_every_step_of_a_search_looks_at_the_clock(
    variant: str, compacted: bool, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, rows = of_many_types(9000, compacted=compacted)
    now, steps = 0.0, []

    def heard(frame: Any, event: str, argument: Any) -> None:
        steps.append(event in {"call", "c_call"})

    def clock() -> float:
        nonlocal now
        now += 1.0
        steps.append(None)
        return now

    monkeypatch.setattr(view, "time", SimpleNamespace(monotonic=clock))
    asked: dict[str, Any] = {"top_k": 10, "partition": HOME, "only": rows.ids if listed else None}
    index.search(np.ones((2, 4)), deadline=np.inf, **asked)  # what is imported at the first use is
    now, steps = 0.0, []
    sys.setprofile(heard)
    try:
        index.search(np.ones((2, 4)), deadline=np.inf, **asked)
    finally:
        sys.setprofile(None)
    looks = int(now)
    between = max(sum(run) for looked, run in itertools.groupby(steps, lambda step: step is None) if not looked)
    assert looks > 4
    assert between < 9000, "one stretch of work calls a function for each type and does not look"
    for at in {0, 1, looks // 2, looks - 1}:
        now = 0.0
        with pytest.raises(DeadlineExceeded):
            index.search(np.ones((2, 4)), deadline=at + 0.5, **asked)
        assert now == at + 1, "it went on after its deadline"


def test_early_termination_reads_a_fraction(variant: str) -> None:
    index, _ = filled(40_000, half_life=DAY)
    index.compact()
    index.search(np.random.default_rng(2).normal(size=(20, 16)), top_k=10, partition=HOME)
    assert index.stats().fraction_scanned < 0.2


def test_a_thousand_small_tenants_share_a_segment_and_never_see_each_other(variant: str) -> None:
    rng = np.random.default_rng(4)
    n = 6000
    index = an_index(8, half_life=DAY)
    rows = index.batch(
        ids_of(np.arange(n)),
        rng.normal(size=(n, 8)),
        event_time=NOW - rng.random(n) * DAY,
        tenant=rng.integers(0, 1000, n),
        namespace=rng.integers(0, 2, n),
    )
    index.upsert(rows)
    assert index.stats().segments == 1
    owner = {
        int(number): (int(t), int(s)) for number, t, s in zip(rows.ids[:, 1], rows.tenant, rows.namespace, strict=True)
    }
    for tenant in (0, 7, 500, 999, 1000):
        partition = Partition(tenant, 1)
        (answer,) = index.search(rng.normal(size=8), top_k=50, partition=partition)
        assert all(owner[row.uuid.int] == (tenant, 1) for row in answer)
        assert same_as_truth(index, rows, rng.normal(size=8), partition=partition)


def test_a_small_tenant_does_not_pay_for_a_large_one() -> None:
    index, _ = filled(20_000)
    small = index.batch(ids_of([10**6]), [np.ones(16)], event_time=NOW, tenant=5)
    index.upsert(small)
    index.compact()
    index.search(np.ones(16), top_k=5, partition=Partition(5, 0))
    assert index.stats().rows_scanned == 1


def test_filters_come_before_the_top_k(variant: str) -> None:
    index, rows = filled(9000, half_life=30 * DAY)
    wanted = ids_of(np.random.default_rng(1).choice(9000, 40, replace=False))
    assert same_as_truth(index, rows, np.ones(16), only=wanted, k=30)
    every = ids_of(np.arange(8900))
    assert same_as_truth(index, rows, np.ones(16), only=every, k=30)
    assert index.search(np.ones(16), top_k=5, partition=HOME, only=ids_of([77_777])) == [[]]


@pytest.mark.parametrize("count", [3, 900, 20_000])
def test_an_allow_list_of_any_length_finds_fresh_rows_too(variant: str, count: int) -> None:
    index, rows = filled(6000)
    more = index.batch(ids_of(np.arange(5900, 6400)), np.ones((500, 16)) + rows.vectors[:500], event_time=NOW)
    index.upsert(more)
    index.delete(ids_of([6000, 6001, 6000]))
    kept = last_of_each(RowBatch.concatenate([rows, more]))
    kept = kept.take(~np.isin(kept.ids[:, 1], [6000, 6001]))
    assert len(index) == len(kept)
    wanted = ids_of(np.concatenate([np.arange(6390 - count, 6500), [6100, 6100]]).astype(np.uint64))
    assert same_as_truth(index, kept, np.ones(16), only=wanted, k=40)


def test_a_short_allow_list_over_fewer_fresh_rows(variant: str) -> None:
    index, rows = filled(9)
    wanted = ids_of(np.random.default_rng(2).permutation(40))
    assert same_as_truth(index, rows, np.ones(16), only=wanted, k=9)


def test_a_deleted_row_never_returns(variant: str, tmp_path: Path) -> None:
    index, rows = filled(9000)
    gone = ids_of(np.arange(0, 9000, 2))
    assert index.delete(gone) == 4500
    left = rows.take(rows.ids[:, 1] % 2 == 1)
    assert same_as_truth(index, left, np.ones(16), k=200)
    index.maintain()
    assert same_as_truth(index, left, np.ones(16), k=200)
    index.save(tmp_path, 1)
    again, _ = ExactIndex.load(tmp_path, 16, index.params, clock=lambda: NOW)
    assert same_as_truth(again, left, np.ones(16), k=200)
    assert again.delete(gone) == 0


def test_the_layout_of_segments_does_not_matter() -> None:
    index, rows = filled(9000, half_life=DAY)
    pieces = an_index(half_life=DAY)
    order = np.random.default_rng(8).permutation(9000)
    for start in range(0, 9000, 700):
        pieces.upsert(rows.take(order[start : start + 700]))
    query = np.random.default_rng(9).normal(size=(5, 16))
    one, other = (made.search(query, top_k=20, partition=HOME) for made in (index, pieces))
    assert [[(r.id, r.score) for r in a] for a in one] == [[(r.id, r.score) for r in a] for a in other]


def in_segments(rows: RowBatch, params: ScoringParams) -> ExactIndex:
    """The rows in segments that writes alone would not merge further."""
    index = ExactIndex(rows.vectors.shape[1], params, clock=lambda: NOW)
    for start in range(0, len(rows), 500):
        index.upsert(rows.take(np.arange(start, min(start + 500, len(rows)))))
        index.checkpoint()
        while index.maintain():
            pass
    return index


def test_in_quiet_times_segments_are_folded_until_each_is_larger_than_all_smaller_ones() -> None:
    whole, rows = filled(15_000, half_life=DAY, dim=8)
    index = in_segments(rows, whole.params)
    before = len(index.view().segments)
    while index.maintain(quiet=True):
        pass
    sizes = sorted(map(len, index.view().segments))
    assert len(sizes) < before
    assert all(sum(sizes[:at]) < size for at, size in enumerate(sizes) if at)
    assert same_as_truth(index, rows, np.random.default_rng(9).normal(size=(5, 8)))


def test_no_merge_of_quiet_times_makes_a_segment_too_large_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rows = filled(15_000, half_life=DAY, dim=8)
    index = in_segments(rows, whole.params)
    monkeypatch.setattr(merge, "QUIET_BYTES", max(one.stored_bytes() for one in index.view().segments))
    largest = max(map(len, index.view().segments))
    while index.maintain(quiet=True):
        pass
    assert max(map(len, index.view().segments)) == largest


@pytest.mark.parametrize("half_lives", [(DAY, DAY), (DAY, 30 * DAY), (DAY, None)])
def test_queries_that_are_answered_together_are_answered_as_each_alone(
    variant: str, half_lives: tuple[float | None, float | None]
) -> None:
    profiles = {kind: Profile(half_life=half_life) for kind, half_life in enumerate(half_lives)}
    _, rows = filled(9000, dim=8)
    kinds = np.arange(len(rows)) % 2
    rows = replace(rows, memory_type=kinds.astype(np.int32))
    index = in_segments(rows, ScoringParams(default=Profile(), by_type=profiles))
    queries = np.random.default_rng(12).normal(size=(7, 8))
    assert same_as_truth(index, rows, queries, k=15)
    together = index.search(queries, top_k=15, partition=HOME)
    assert together == [index.search(query, top_k=15, partition=HOME)[0] for query in queries]
    assert len({row.segment for answer in together for row in answer}) > 1


def test_new_parameters_are_swapped_in_and_can_be_taken_back() -> None:
    index, rows = filled(6000, half_life=DAY)
    before = index.search(np.ones(16), top_k=10, partition=HOME)
    index.set_params(ScoringParams(default=Profile(importance_exponent=2.0, half_life=None)))
    assert same_as_truth(index, rows, np.ones(16))
    index.set_params(ScoringParams(default=Profile(half_life=DAY)))
    after = index.search(np.ones(16), top_k=10, partition=HOME)
    assert [r.id for r in before[0]] == [r.id for r in after[0]]


def test_searches_go_on_while_rows_are_written_and_merged() -> None:
    index, rows = filled(6000, half_life=DAY)
    stop, wrong = threading.Event(), []

    def reader() -> None:
        while not stop.is_set():
            (answer,) = index.search(np.ones(16), top_k=50, partition=HOME)
            seen = [row.id for row in answer]
            if len(seen) != 50 or len(set(seen)) != 50:
                wrong.append(seen)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for start in range(0, 6000, 300):
        index.upsert(rows.take(np.arange(start, start + 300)))
        index.maintain()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert same_as_truth(index, rows, np.ones(16))


def test_a_deadline_and_a_cancellation_stop_the_scan() -> None:
    index, _ = filled(9000)
    with pytest.raises(DeadlineExceeded):
        index.search(np.ones(16), top_k=5, partition=HOME, deadline=time.monotonic() - 1)
    with pytest.raises(Cancelled):
        index.search(np.ones(16), top_k=5, partition=HOME, cancelled=lambda: True)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"top_k": 0}, "top_k"),
        ({"half_life": 0.0}, "half_life"),
        ({"as_of": float("nan")}, "as_of"),
        ({"queries": [0.0] * 16}, "query"),
        ({"queries": [1.0] * 3}, "query"),
        ({"only": [b"short"]}, "ids"),
    ],
)
def test_a_bad_question_is_refused_by_name(asked: dict[str, Any], field: str) -> None:
    index, _ = filled(10)
    asked = {"queries": np.ones(16), "top_k": 5, "partition": HOME} | asked
    with pytest.raises(InvalidArgument) as refused:
        index.search(asked.pop("queries"), **asked)
    assert refused.value.field == field


def test_explaining_an_absent_row_says_so() -> None:
    index, _ = filled(10)
    with pytest.raises(NotFound):
        index.explain(uuid.UUID(int=4242), np.ones(16))


class AnyOrderOfOperations(RuleBasedStateMachine):
    """Inserts, updates, deletes, merges, snapshots and restarts in any order, against a plain list of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(0)
        self.index = an_index(8, half_life=DAY)
        self.rows: RowBatch | None = None

    @rule(numbers=st.lists(st.integers(0, 60), min_size=1, max_size=40), seed=st.integers(0, 2**16))
    def upsert(self, numbers: list[int], seed: int) -> None:
        rng = np.random.default_rng(seed)
        n = len(numbers)
        times = NOW - rng.integers(-2, 5, n) * DAY
        vectors = rng.integers(-2, 3, (n, 8)) + 0.01
        rows = self.index.batch(ids_of(numbers), vectors, event_time=times, importance=rng.integers(0, 3, n) / 2)
        self.index.upsert(rows)
        self.rows = last_of_each(rows if self.rows is None else RowBatch.concatenate([self.rows, rows]))

    @precondition(lambda self: self.rows is not None)
    @rule(numbers=st.lists(st.integers(0, 60), min_size=1, max_size=20))
    def delete(self, numbers: list[int]) -> None:
        gone = np.isin(self.rows.ids[:, 1], numbers)
        assert self.index.delete(ids_of(numbers)) == int(gone.sum())
        self.rows = self.rows.take(~gone)

    @rule()
    def merge(self) -> None:
        self.index.compact()

    @rule(seq=st.integers(0, 99))
    def restart(self, seq: int) -> None:
        with tempfile.TemporaryDirectory() as directory:
            self.index.save(Path(directory), seq)
            self.index, found = ExactIndex.load(Path(directory), 8, self.index.params, clock=lambda: NOW)
        assert found == seq

    @invariant()
    def agrees_with_the_oracle(self) -> None:
        if self.rows is None:
            return
        assert len(self.index) == len(self.rows)
        query = self.rng.normal(size=8)
        assert same_as_truth(self.index, self.rows, query, k=7)
        assert same_as_truth(self.index, self.rows, query, k=7, as_of=NOW - DAY)


TestAnyOrderOfOperations = AnyOrderOfOperations.TestCase
TestAnyOrderOfOperations.settings = settings(
    max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
