"""The scan without the compiled kernel: float32 products of whole blocks, bounded by their rounding error.

Same contract as kernel/scan.h, other (tighter) bounds: the ids that come out of a search are the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes
from memory_runtime.scoring.plan import Plan
from memory_runtime.scoring.rows import Floats
from memory_runtime.scoring.segment import WEIGHT_FLOOR
from memory_runtime.scoring.source import Stretch

_UNIT = 2.0**-24


def scan_block(plan: Plan, stretch: Stretch, start: int, end: int, live: list[int]) -> int:
    """Scans rows [start, end) for the queries `live`; returns `end`. Candidates and lower bounds go into the plan."""
    table = stretch.table
    weight = stretch.weight[start:end].astype(np.float64)
    visible = weight > 0
    records = table.records[start:end]
    death = codes.deaths(records)
    visible &= (codes.times(records) <= stretch.latest) & (codes.expiries(records) > plan.at)
    visible &= (death == 0) | (death > plan.epoch)
    if stretch.allow is not None:
        visible &= stretch.allow[start:end] > 0
    plan.counters[live, 3] += end - start
    rows = np.flatnonzero(visible)
    if not len(rows):
        return end
    vectors = table.vectors[start:end][rows].astype(np.float32, copy=False)
    similarity = (vectors @ plan.queries[live].T).astype(np.float64)
    dim = vectors.shape[1]
    # gamma_n of Higham for any order of summation, with |q||v| at most 1.01
    error = 1.01 * dim * _UNIT / (1 - dim * _UNIT) + 1e-9
    known = weight[rows]
    beta = stretch.profile.similarity_exponent
    for column, query in enumerate(live):
        upper = _log2(similarity[:, column] + error, known, stretch.offset + stretch.slack, beta)
        passing = np.flatnonzero((upper > -np.inf) & (upper >= plan.least(query)))
        if not len(passing):
            continue
        clamped = known[passing] <= float(WEIGHT_FLOOR) * 4
        lower = _log2(similarity[passing, column] - error, known[passing], stretch.offset - stretch.slack, beta)
        _keep(plan, query, stretch, rows[passing] + start, upper[passing], lower[~clamped])
    return end


def _log2(similarity: Floats, weight: Floats, offset: float, beta: float) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(beta * (np.log2(np.maximum(similarity * weight, 0.0)) + offset))


def _keep(plan: Plan, query: int, stretch: Stretch, rows: npt.NDArray[np.intp], upper: Floats, lower: Floats) -> None:
    held = int(plan.counters[query, 0])
    bounds = np.concatenate([plan.heap[query, :held], lower[lower > -np.inf]])
    if len(bounds) > plan.k:
        bounds = np.partition(bounds, len(bounds) - plan.k)[-plan.k :]
    # Ascending order is a min-heap, which is what the compiled kernel keeps here
    plan.heap[query, : len(bounds)] = np.sort(bounds)
    plan.counters[query, 0] = len(bounds)
    plan.keep(query, stretch, rows, upper)
