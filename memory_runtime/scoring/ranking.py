"""The last step of every search, the oracle's included: exact keys in, the top k out, ties by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring.formula import Keys, LogWeight, keys, scores_at
from memory_runtime.scoring.rows import Floats, Ids, ScoredRow, id_bytes


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Rows of one profile with their exact similarity (float64 [n]); `half_life` is the key's, in seconds."""

    ids: Ids
    similarity: Floats
    weight: LogWeight
    half_life: float | None
    beta: float
    segment: str = ""


def top_k(groups: Sequence[Candidates], k: int, at: float) -> list[ScoredRow]:
    """The k best rows at the moment `at`, best first; rows whose similarity is not positive never appear.

    Under one profile rows are compared by their keys, which no clock touches, so the order never changes with time.
    Rows of different profiles are compared by their scores at `at`.
    """
    ranked = [_scored(group, at) for group in groups if len(group.ids)]
    if not ranked:
        return []
    one_profile = len({(group.half_life, group.beta) for group in groups if len(group.ids)}) == 1
    columns: tuple[npt.NDArray[Any], ...] = ranked[0][:6]
    if len(ranked) > 1:
        columns = tuple(np.concatenate(column) for column in zip(*(entry[:6] for entry in ranked), strict=True))
    mantissa, exponent, score, logs, similarity, ids = columns
    order_by = (-mantissa, -exponent) if one_profile else (-logs,)
    order = np.lexsort((ids[:, 1], ids[:, 0], *order_by))
    order = order[mantissa[order] > 0][:k]
    names = np.repeat(np.arange(len(ranked)), [len(entry[0]) for entry in ranked])[order].tolist()
    columns = (score[order], logs[order], similarity[order])
    found = zip(id_bytes(ids[order]), *(column.tolist() for column in columns), names, strict=True)
    return [ScoredRow(key, one, log2, dot, ranked[at_][6]) for key, one, log2, dot, at_ in found]


def _scored(group: Candidates, at: float) -> tuple[Floats, Floats, Floats, Floats, Floats, Ids, str]:
    key: Keys = keys(group.similarity, group.weight)
    score, logs = scores_at(key, at, group.half_life, group.beta)
    return key.mantissa, key.exponent, score, logs, group.similarity, group.ids, group.segment
