"""The end of a search: exact float64 scores of the rows that no bound could rule out."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes, kernel
from memory_runtime.scoring.formula import exact_dot, log_weight, static_log
from memory_runtime.scoring.params import Profile
from memory_runtime.scoring.plan import Kept, Plan
from memory_runtime.scoring.ranking import Candidates, top_k
from memory_runtime.scoring.rows import ScoredRow, Singles
from memory_runtime.scoring.source import Table

_RESCORE_BLOCK: Final = 4096


def answer(plan: Plan, query: int) -> list[ScoredRow]:
    """The exact top k of one query from what the scan has kept."""
    least = plan.least(query)
    groups = []
    for kept in plan.kept[query]:
        good = kept.bounds >= least
        if good.any():
            groups.append(Kept(kept.stretch, kept.rows[good], kept.bounds[good]))
    total = sum(len(group.rows) for group in groups)
    if total <= _RESCORE_BLOCK:
        return top_k(_exact(plan, query, groups), plan.k, plan.at)
    return _answer_in_blocks(plan, query, groups)


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
        best += _exact(plan, query, [part])
        found = top_k(best, plan.k, plan.at)
        wanted = {row.id for row in found}
        best = [_only(group, wanted) for group in best]
    return found


def _only(group: Candidates, wanted: set[bytes]) -> Candidates:
    raw = group.ids.astype(">u8").tobytes()
    keep = np.array([raw[at : at + 16] in wanted for at in range(0, len(raw), 16)], bool)
    where = np.flatnonzero(keep)
    return Candidates(
        group.ids[where], group.similarity[where], group.weight.take(where), group.half_life, group.beta, group.segment
    )


def _exact(plan: Plan, query: int, groups: list[Kept]) -> list[Candidates]:
    """Exact similarity and weight of the kept rows, one group a table and profile."""
    merged: dict[tuple[int, Profile, float | None], list[Kept]] = {}
    for group in groups:
        merged.setdefault((id(group.stretch.table), group.stretch.profile, group.stretch.half_life), []).append(group)
    result = []
    for (_, profile, half_life), members in merged.items():
        table = members[0].stretch.table
        rows = np.concatenate([member.rows for member in members])
        if table.check is not None:
            table.check(rows)
        static = static_log(table.importance[rows], table.features[rows], profile)
        moment = np.minimum(codes.times(table.records)[rows], plan.at)
        weight = log_weight(static, moment, half_life)
        similarity = _dots(table, rows, plan.queries[query])
        ids = table.ids[rows]
        result.append(Candidates(ids, similarity, weight, half_life, profile.similarity_exponent, table.name))
    return result


def _dots(table: Table, rows: npt.NDArray[np.int64], query: Singles) -> npt.NDArray[np.float64]:
    module = kernel.load()
    if module is None or table.vectors.dtype != np.float32:
        return exact_dot(table.vectors[rows], query)
    dots = np.empty(len(rows))
    module.exact_dots(table.vectors, np.ascontiguousarray(rows), query, dots)
    return dots
