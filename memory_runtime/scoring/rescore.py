"""The end of a search: exact float64 scores of the rows that no bound could rule out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes, kernel
from memory_runtime.scoring.formula import exact_dot, log_weight, static_log
from memory_runtime.scoring.plan import Kept, Plan
from memory_runtime.scoring.ranking import Candidates, top_k, top_k_each, winners
from memory_runtime.scoring.rows import Floats, Ids, Ints, ScoredRow, Singles
from memory_runtime.scoring.source import Table

_RESCORE_BLOCK: Final = 4096
_PASS: Final = 65_536
"""Rows that are scored between two looks at the clock."""


def answers(plan: Plan, check_time: Callable[[], None]) -> list[list[ScoredRow]]:
    """The exact top k of every query from what the scan has kept; n log n in the rows kept.

    `check_time` is called between passes, and raises where there is no time left.
    """
    kept = [_able(plan, query, check_time) for query in range(len(plan.queries))]
    sizes = [sum(len(group.rows) for group in groups) for groups in kept]
    found: list[list[ScoredRow]] = [[] for _ in kept]
    small = [query for query, size in enumerate(sizes) if size <= _RESCORE_BLOCK]
    for together in _passes(small, sizes):
        check_time()
        wanted = [(place, group) for place, query in enumerate(together) for group in kept[query]]
        parts = top_k_each(_exact(plan, together, wanted), len(together), plan.k, plan.at, mixed=plan.mixed)
        for query, rows in zip(together, parts, strict=True):
            found[query] = rows
    for query, size in enumerate(sizes):
        if size > _RESCORE_BLOCK:
            found[query] = _answer_in_blocks(plan, query, kept[query], check_time)
    return found


def _passes(queries: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """The queries in order, as many at a time as have about `_PASS` rows together."""
    together: list[int] = []
    rows = 0
    for query in queries:
        if together and rows + sizes[query] > _PASS:
            yield together
            together, rows = [], 0
        together.append(query)
        rows += sizes[query]
    if together:
        yield together


def _able(plan: Plan, query: int, check_time: Callable[[], None]) -> list[Kept]:
    """What may still be in the answer, now that the least of it is known."""
    least = plan.least(query)
    groups = []
    for kept in plan.kept[query]:
        check_time()
        good = kept.bounds >= least
        if good.any():
            groups.append(Kept(kept.stretch, kept.rows[good], kept.bounds[good]))
    return groups


def _answer_in_blocks(
    plan: Plan, query: int, groups: Sequence[Kept], check_time: Callable[[], None]
) -> list[ScoredRow]:
    """Many candidates (near ties by the thousand): best bounds first, until no bound reaches the k-th exact score.

    All groups are sorted together, once. A group for each memory type would otherwise be a pass of its own.
    """
    check_time()
    kinds, kind_of = _kinds(groups)
    rows = np.concatenate([group.rows for group in groups])
    bounds = np.concatenate([group.bounds for group in groups])
    owner = np.repeat(kind_of, [len(group.rows) for group in groups])
    order = np.argsort(-bounds, kind="stable")
    # a block is no smaller than what is kept from one to the next, so that keeping it costs no more than the rows do
    size = max(_RESCORE_BLOCK, plan.k)
    best: list[Candidates] = []
    least = -np.inf
    for start in range(0, len(order), size):
        check_time()
        chosen = order[start : start + size]
        if bounds[chosen[0]] < least - 1e-6:
            break
        by_kind = [(kind, chosen[owner[chosen] == number]) for number, kind in enumerate(kinds)]
        wanted = [(0, Kept(kind.stretch, rows[at], bounds[at])) for kind, at in by_kind if len(at)]
        best, least = winners([*best, *_exact(plan, [query], wanted)], plan.k, plan.at, mixed=plan.mixed)
    return top_k(best, plan.k, plan.at, mixed=plan.mixed)


def _kinds(groups: Sequence[Kept]) -> tuple[list[Kept], Ints]:
    """A group of each table and profile, few however many groups there are, and which of them each group is like."""
    numbers: dict[tuple[int, int, float | None], int] = {}
    kinds: list[Kept] = []
    kind_of = np.empty(len(groups), np.int64)
    for place, group in enumerate(groups):
        stretch = group.stretch
        number = numbers.setdefault((id(stretch.table), id(stretch.profile), stretch.half_life), len(kinds))
        if number == len(kinds):
            kinds.append(group)
        kind_of[place] = number
    return kinds, kind_of


def _exact(plan: Plan, queries: Sequence[int], wanted: Sequence[tuple[int, Kept]]) -> list[Candidates]:
    """Exact similarity and weight of the rows wanted for queries (given by their places in `queries`), one group a
    profile.
    """
    by_profile: dict[tuple[int, float | None], list[tuple[int, Kept]]] = {}
    for query, kept in wanted:
        by_profile.setdefault((id(kept.stretch.profile), kept.stretch.half_life), []).append((query, kept))
    vectors = plan.queries[list(queries)]
    return [_of_profile(plan, vectors, members) for members in by_profile.values()]


def _of_profile(plan: Plan, queries: Singles, members: Sequence[tuple[int, Kept]]) -> Candidates:
    by_table: dict[int, list[tuple[int, Kept]]] = {}
    for query, kept in members:
        by_table.setdefault(id(kept.stretch.table), []).append((query, kept))
    gathered = [_gather(queries, parts) for parts in by_table.values()]
    # one pass of the formula over all tables: a pass over a few rows costs as much as one over a thousand
    columns = _Rows(
        *(np.concatenate(column) if len(gathered) > 1 else column[0] for column in zip(*gathered, strict=True))
    )
    first = members[0][1].stretch
    static = static_log(columns.importance, columns.features, first.profile)
    weight = log_weight(static, np.minimum(columns.time, plan.at), first.half_life)
    tables = [parts[0][1].stretch.table.name for parts in by_table.values()]
    return Candidates(
        columns.ids,
        columns.similarity,
        weight,
        first.half_life,
        first.profile.similarity_exponent,
        tuple(tables),
        np.repeat(np.arange(len(tables)), [len(one.ids) for one in gathered]),
        columns.query,
    )


class _Rows(NamedTuple):
    """Rows of tables as the formula needs them; float64 [n], features float64 [n, m]."""

    ids: Ids
    importance: Floats
    features: Floats
    time: Floats
    similarity: Floats
    query: Ints


def _gather(queries: Singles, parts: Sequence[tuple[int, Kept]]) -> _Rows:
    """The rows of one table."""
    table = parts[0][1].stretch.table
    rows = np.concatenate([kept.rows for _, kept in parts]) if len(parts) > 1 else parts[0][1].rows
    if table.check is not None:
        table.check(rows)
    similarity = np.empty(len(rows))
    start = 0
    for query, kept in parts:
        end = start + len(kept.rows)
        similarity[start:end] = _dots(table, rows[start:end], queries[query])
        start = end
    query_of = np.repeat([query for query, _ in parts], [len(kept.rows) for _, kept in parts])
    return _Rows(
        table.ids[rows],
        table.importance[rows],
        table.features[rows],
        codes.times(table.records)[rows],
        similarity,
        query_of,
    )


def _dots(table: Table, rows: npt.NDArray[np.int64], query: Singles) -> npt.NDArray[np.float64]:
    module = kernel.load()
    if module is None or table.vectors.dtype != np.float32:
        return exact_dot(table.vectors[rows], query)
    dots = np.empty(len(rows))
    module.exact_dots(table.vectors, np.ascontiguousarray(rows), query, dots)
    return dots
