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


def top_k(groups: Sequence[Candidates], k: int, at: float) -> list[ScoredRow]:
    """The k best rows at the moment `at`, best first; rows whose similarity is not positive never appear.

    Under one profile rows are compared by their keys, which no clock touches, so the order never changes with time.
    Rows of different profiles are compared by their scores at `at`.
    """
    return top_k_each(groups, 1, k, at)[0]


def top_k_each(groups: Sequence[Candidates], queries: int, k: int, at: float) -> list[list[ScoredRow]]:
    """`top_k` of each of so many queries, in one pass."""
    full = [group for group in groups if len(group.ids)]
    if not full:
        return [[] for _ in range(queries)]
    one_profile = len({(group.half_life, group.beta) for group in full}) == 1
    if not one_profile and queries > 1:
        # which profiles meet, and so what is compared, is each query's own
        return [top_k([_of(group, query) for group in full], k, at) for query in range(queries)]
    names, columns = _columns(full, at)
    order_by = (-columns.mantissa, -columns.exponent) if one_profile else (-columns.logs,)
    order = np.lexsort((columns.ids[:, 1], columns.ids[:, 0], *order_by, columns.query))
    order = order[columns.mantissa[order] > 0]
    owner = columns.query[order]
    first = np.searchsorted(owner, np.arange(queries + 1))
    best = np.arange(len(order)) - first[owner] < k
    order, owner = order[best], owner[best]
    values = (columns.score, columns.logs, columns.similarity, columns.segment)
    found = zip(id_bytes(columns.ids[order]), *(column[order].tolist() for column in values), strict=True)
    rows = [ScoredRow(key, score, log2, dot, names[segment]) for key, score, log2, dot, segment in found]
    bounds = np.searchsorted(owner, np.arange(queries + 1)).tolist()
    return [rows[start:end] for start, end in pairwise(bounds)]


def _of(group: Candidates, query: int) -> Candidates:
    if group.query is None:
        return group if query == 0 else group.take(np.zeros(0, np.intp))
    return replace(group.take(np.flatnonzero(group.query == query)), query=None)


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
