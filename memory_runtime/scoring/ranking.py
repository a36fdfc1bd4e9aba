"""The last step of every search, the oracle's included: exact keys in, the top k out, ties by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring.formula import Keys, LogWeight, keys, scores_at
from memory_runtime.scoring.rows import Floats, Ids, Ints, ScoredRow, id_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Rows of one profile with their exact similarity (float64 [n]); `half_life` is the key's, in seconds.

    `query` says of which query each row is a candidate, `segment_of` in which of `segments` it lies (int [n]); without
    them all are of the first.
    """

    ids: Ids
    similarity: Floats
    weight: LogWeight
    half_life: float | None
    beta: float
    segments: tuple[str, ...] = ("",)
    segment_of: Ints | None = None
    query: Ints | None = None

    def take(self, where: npt.NDArray[Any]) -> Candidates:
        """The rows at these positions."""
        return replace(
            self,
            ids=self.ids[where],
            similarity=self.similarity[where],
            weight=self.weight.take(where),
            segment_of=None if self.segment_of is None else self.segment_of[where],
            query=None if self.query is None else self.query[where],
        )


class _Columns(NamedTuple):
    """What candidates are ranked by and answered with, a row each."""

    mantissa: Floats
    exponent: Floats
    score: Floats
    logs: Floats
    similarity: Floats
    ids: Ids
    segment: Ints
    query: Ints


def top_k(groups: Sequence[Candidates], k: int, at: float, *, mixed: bool | None = None) -> list[ScoredRow]:
    """The k best rows at the moment `at`, best first; rows whose similarity is not positive never appear.

    Under one profile rows are compared by their keys, which no clock touches, so the order never changes with time.
    Rows of different profiles are compared by their scores at `at`. `mixed` says that rows of several profiles might
    have been found, whether they were or not; None: see what these are of.
    """
    return top_k_each(groups, 1, k, at, mixed=mixed)[0]


def top_k_each(
    groups: Sequence[Candidates], queries: int, k: int, at: float, *, mixed: bool | None = None
) -> list[list[ScoredRow]]:
    """`top_k` of each of so many queries, in one pass."""
    full = [group for group in groups if len(group.ids)]
    if not full:
        return [[] for _ in range(queries)]
    names, columns = _columns(full, at)
    order = _order(columns, _mixed(full) if mixed is None else mixed)
    owner = columns.query[order]
    first = np.searchsorted(owner, np.arange(queries + 1))
    best = np.arange(len(order)) - first[owner] < k
    order, owner = order[best], owner[best]
    values = (columns.score, columns.logs, columns.similarity, columns.segment)
    found = zip(id_bytes(columns.ids[order]), *(column[order].tolist() for column in values), strict=True)
    rows = [ScoredRow(key, score, log2, dot, names[segment]) for key, score, log2, dot, segment in found]
    bounds = np.searchsorted(owner, np.arange(queries + 1)).tolist()
    return [rows[start:end] for start, end in pairwise(bounds)]


def winners(groups: Sequence[Candidates], k: int, at: float, *, mixed: bool) -> tuple[list[Candidates], float]:
    """What of one query's candidates is among its `top_k`, and the k-th log2 score, -inf where there are fewer."""
    full = [group for group in groups if len(group.ids)]
    if not full:
        return [], -np.inf
    _, columns = _columns(full, at)
    order = _order(columns, mixed)[:k]
    least = float(columns.logs[order[-1]]) if len(order) == k else -np.inf
    places = np.sort(order)
    ends = np.cumsum([len(group.ids) for group in full])
    cuts = np.searchsorted(places, ends[:-1])
    kept = zip(full, ends, np.split(places, cuts), strict=True)
    return [group.take(at - (end - len(group.ids))) for group, end, at in kept if len(at)], least


def _mixed(groups: Sequence[Candidates]) -> bool:
    return len({(group.half_life, group.beta) for group in groups}) > 1


def _order(columns: _Columns, mixed: bool) -> npt.NDArray[np.intp]:
    """Positions of the rows that may be answered, by query, then best first, then by id."""
    order_by = (-columns.logs,) if mixed else (-columns.mantissa, -columns.exponent)
    order = np.lexsort((columns.ids[:, 1], columns.ids[:, 0], *order_by, columns.query))
    return np.asarray(order[columns.mantissa[order] > 0])


def _columns(groups: Sequence[Candidates], at: float) -> tuple[list[str], _Columns]:
    names: list[str] = []
    parts = []
    for group in groups:
        key: Keys = keys(group.similarity, group.weight)
        score, logs = scores_at(key, at, group.half_life, group.beta)
        none = np.zeros(len(group.ids), np.int64)
        segment = none if group.segment_of is None else group.segment_of
        query = none if group.query is None else group.query
        parts.append(
            _Columns(key.mantissa, key.exponent, score, logs, group.similarity, group.ids, segment + len(names), query)
        )
        names += group.segments
    if len(parts) == 1:
        return names, parts[0]
    return names, _Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))
