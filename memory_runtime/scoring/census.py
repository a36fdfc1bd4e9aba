"""The rows of a view of the index, run by run: for what compares, previews or measures rather than searches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring.merge import living
from memory_runtime.scoring.oracle import brute_force
from memory_runtime.scoring.params import UNSET, Unset
from memory_runtime.scoring.rows import Floats, Partition, RowBatch, ScoredRow, Singles
from memory_runtime.scoring.search import View

CHUNK: Final = 16_384

Rows = npt.NDArray[np.intp]


def chunks(view: View, partition: Partition | None = None, size: int = CHUNK) -> Iterator[RowBatch]:
    """The live rows of a partition (None: of all), at most `size` at a time; each a copy."""
    for segment in view.segments:
        spans = [(0, len(segment))]
        if partition is not None:
            number = (partition.tenant << 31) | partition.namespace
            low, high = np.searchsorted(segment.runs.partition, [number, number + 1])
            spans = [(int(segment.runs.start[run]), int(segment.runs.start[run + 1])) for run in range(low, high)]
        alive = living(segment, view.epoch)
        for start, end in spans:
            for at in range(start, end, size):
                rows = at + np.flatnonzero(alive[at : min(at + size, end)])
                if len(rows):
                    if segment.check is not None:
                        segment.check(rows)
                    yield segment.batch(rows)
    fresh = np.flatnonzero(living(view.fresh, view.epoch)[: view.fresh_count])
    for at in range(0, len(fresh), size):
        batch = view.fresh.batch(fresh[at : at + size])
        if partition is not None:
            batch = batch.take((batch.tenant == partition.tenant) & (batch.namespace == partition.namespace))
        if len(batch):
            yield batch


def sample(view: View, most: int) -> RowBatch | None:
    """At most about `most` live rows, evenly spread over the index; None where it is empty."""
    held = sum(len(segment) for segment in view.segments) + view.fresh_count
    stride = max(1, -(-held // max(1, most)))
    picked: list[RowBatch] = []
    for segment in view.segments:
        rows = np.flatnonzero(living(segment, view.epoch))[::stride]
        if len(rows):
            if segment.check is not None:
                segment.check(rows)
            picked.append(segment.batch(rows))
    fresh = np.flatnonzero(living(view.fresh, view.epoch)[: view.fresh_count])[::stride]
    if len(fresh):
        picked.append(view.fresh.batch(fresh))
    return RowBatch.concatenate(picked) if picked else None


def importance(view: View, most: int = 20_000) -> Floats:
    """The i of at most about `most` rows, evenly spread."""
    held = sum(len(segment) for segment in view.segments)
    stride = max(1, -(-held // most))
    columns = [segment.importance[living(segment, view.epoch)][::stride] for segment in view.segments]
    fresh = np.flatnonzero(living(view.fresh, view.epoch)[: view.fresh_count])[::stride]
    columns.append(view.fresh.batch(fresh).importance if len(fresh) else np.zeros(0))
    return np.concatenate(columns)


def oracle(
    view: View,
    query: Singles,
    *,
    k: int,
    partition: Partition,
    now: float,
    as_of: float | None = None,
    types: Collection[int] | None = None,
    half_life: float | Unset | None = UNSET,
    breathe: Callable[[], None] = lambda: None,
) -> list[ScoredRow]:
    """The float64 truth over a view, in memory that does not grow with it; `breathe` is called between runs of rows.

    The arguments are those of `brute_force`. Rows whose scores agree to the last bit stand in order of id.
    """
    asked = partial(brute_force, params=view.params, k=k, partition=partition, now=now)
    best: list[ScoredRow] = []
    for rows in chunks(view, partition):
        (found,) = asked(rows, query, as_of=as_of, types=types, half_life=half_life)
        best = sorted([*best, *found], key=lambda one: (-one.log2_score, one.id))[:k]
        breathe()
    return best


def recall_at(answered: list[ScoredRow], truth: list[ScoredRow]) -> float:
    """The share of the truth that was answered; a row that ties with the last one of the truth is as good as it."""
    if not truth:
        return 1.0
    wanted = {one.id for one in truth}
    last = truth[-1].log2_score
    return min(1.0, sum(one.id in wanted or one.log2_score >= last for one in answered) / len(truth))
