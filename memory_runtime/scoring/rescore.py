"""The end of a search: exact float64 scores of the rows that no bound could rule out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes, kernel
from memory_runtime.scoring.formula import exact_dot, log_weight, static_log
from memory_runtime.scoring.plan import Kept, Plan
from memory_runtime.scoring.ranking import Candidates, top_k, top_k_each
from memory_runtime.scoring.rows import Floats, Ids, Ints, ScoredRow, Singles
from memory_runtime.scoring.source import Table

_RESCORE_BLOCK: Final = 4096


def answers(plan: Plan) -> list[list[ScoredRow]]:
    """The exact top k of every query from what the scan has kept."""
    kept = [_able(plan, query) for query in range(len(plan.queries))]
    large = {query for query, groups in enumerate(kept) if sum(len(group.rows) for group in groups) > _RESCORE_BLOCK}
    small = [(query, group) for query, groups in enumerate(kept) if query not in large for group in groups]
    found = top_k_each(_exact(plan, small), len(kept), plan.k, plan.at)
    for query in large:
        found[query] = _answer_in_blocks(plan, query, kept[query])
    return found


def _able(plan: Plan, query: int) -> list[Kept]:
    """What may still be in the answer, now that the least of it is known."""
    least = plan.least(query)
    groups = []
    for kept in plan.kept[query]:
        good = kept.bounds >= least
        if good.any():
            groups.append(Kept(kept.stretch, kept.rows[good], kept.bounds[good]))
    return groups


def _answer_in_blocks(plan: Plan, query: int, groups: list[Kept]) -> list[ScoredRow]:
    """Many candidates (near ties by the thousand): best bounds first, until no bound reaches the k-th exact score."""
    parts = []
    for group in groups:
        order = np.argsort(-group.bounds, kind="stable")
        for start in range(0, len(order), _RESCORE_BLOCK):
            chosen = order[start : start + _RESCORE_BLOCK]
            parts.append(Kept(group.stretch, group.rows[chosen], group.bounds[chosen]))
    parts.sort(key=lambda part: -float(part.bounds[0]))
    best: list[Candidates] = []
    found: list[ScoredRow] = []
    for part in parts:
        if len(found) == plan.k and part.bounds[0] < found[-1].log2_score - 1e-6:
            break
        best += [replace(one, query=None) for one in _exact(plan, [(query, part)])]
        found = top_k(best, plan.k, plan.at)
        wanted = {row.id for row in found}
        best = [_only(group, wanted) for group in best]
    return found


def _only(group: Candidates, wanted: set[bytes]) -> Candidates:
    raw = group.ids.astype(">u8").tobytes()
    keep = np.array([raw[at : at + 16] in wanted for at in range(0, len(raw), 16)], bool)
    return group.take(np.flatnonzero(keep))


def _exact(plan: Plan, wanted: Sequence[tuple[int, Kept]]) -> list[Candidates]:
    """Exact similarity and weight of the rows kept for queries, one group a profile."""
    by_profile: dict[tuple[int, float | None], list[tuple[int, Kept]]] = {}
    for query, kept in wanted:
        by_profile.setdefault((id(kept.stretch.profile), kept.stretch.half_life), []).append((query, kept))
    return [_of_profile(plan, members) for members in by_profile.values()]


def _of_profile(plan: Plan, members: Sequence[tuple[int, Kept]]) -> Candidates:
    by_table: dict[int, list[tuple[int, Kept]]] = {}
    for query, kept in members:
        by_table.setdefault(id(kept.stretch.table), []).append((query, kept))
    gathered = [_gather(plan, parts) for parts in by_table.values()]
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


def _gather(plan: Plan, parts: Sequence[tuple[int, Kept]]) -> _Rows:
    """The rows of one table."""
    table = parts[0][1].stretch.table
    rows = np.concatenate([kept.rows for _, kept in parts]) if len(parts) > 1 else parts[0][1].rows
    if table.check is not None:
        table.check(rows)
    similarity = np.empty(len(rows))
    start = 0
    for query, kept in parts:
        end = start + len(kept.rows)
        similarity[start:end] = _dots(table, rows[start:end], plan.queries[query])
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
