"""One search: in what order stretches are scanned, and when to stop (the proof: docs/scoring.md)."""

from __future__ import annotations

import heapq
from functools import partial
from typing import Final

import numpy as np

from memory_runtime.scoring import kernel
from memory_runtime.scoring.plan import SCALARS, Plan
from memory_runtime.scoring.rescore import answers
from memory_runtime.scoring.rows import ScoredRow
from memory_runtime.scoring.scan_numpy import scan_block
from memory_runtime.scoring.sharing import HELPER_COUNT, Helpers, cut
from memory_runtime.scoring.source import LARGEST_BLOCK, Stretch
from memory_runtime.scoring.stretches import stretches_of
from memory_runtime.scoring.view import Cancelled, Request, View

__all__ = ["Cancelled", "Request", "View", "search"]

ALONE: Final = 131_072
"""Rows times queries that are scanned before help is asked for: about the time that waking a thread takes."""
HELPERS = Helpers(HELPER_COUNT)


def search(view: View, request: Request) -> tuple[list[list[ScoredRow]], int]:
    """The exact answers, and how many rows were scanned for them (summed over queries)."""
    latest = request.at if request.hide_later else np.inf
    plan = Plan(request.queries, request.k, request.at, latest, view.epoch)
    stretches = stretches_of(view, request, plan)
    if kernel.load() is None:
        _scan(plan, stretches, request)
    elif not _scan(plan, stretches, request, ALONE):
        _scan_together(plan, stretches, request)
    return answers(plan, request.check_time), int(plan.counters[:, 3].sum())


def _scan_together(plan: Plan, stretches: list[Stretch], request: Request) -> None:
    """Goes on with a scan that turned out to be long, on as many processors as are idle."""
    taken = HELPERS.take()
    parts = cut(stretches, taken + 1)
    plans = [plan, *(plan.fork() for _ in parts[1:])]
    HELPERS.run(taken, [partial(_scan_part, one, part, request) for one, part in zip(plans, parts, strict=True)])
    for other in plans[1:]:
        plan.join(other)


def _scan_part(plan: Plan, stretches: list[Stretch], request: Request) -> None:
    _scan(plan, stretches, request)


def _scan(plan: Plan, stretches: list[Stretch], request: Request, most: float = np.inf) -> bool:
    """Scans until no row that is left can matter, or about `most` rows times queries are done: then False."""
    if len(stretches) == 1 and kernel.load() is not None:
        # Nothing to take turns with, and the compiled scan stops by itself: small blocks would only cost calls
        stretches[0].block = LARGEST_BLOCK
    done, count = 0, len(plan.queries)
    # The largest ceiling first; the number keeps stretches from being compared
    line = [(-stretch.ceiling(), number, stretch) for number, stretch in enumerate(stretches)]
    heapq.heapify(line)
    while line:
        request.check_time()
        ceiling, number, stretch = line[0]
        live = [query for query in range(count) if plan.least(query) <= -ceiling]
        if not live:
            return True
        if done >= most:
            stretches[:] = [stretch for _, _, stretch in line]
            return False
        start = stretch.cursor
        stretch.cursor = _scan_block(plan, stretch, live, request)
        done += (stretch.cursor - start) * len(live)
        if stretch.cursor >= stretch.end:
            if stretch.rest is None:
                heapq.heappop(line)
                continue
            stretch = stretch.rest()
        heapq.heapreplace(line, (-stretch.ceiling(), number, stretch))
    return True


def _scan_block(plan: Plan, stretch: Stretch, live: list[int], request: Request) -> int:
    start, end = stretch.cursor, stretch.next_end()
    module = kernel.load()
    if module is None:
        return scan_block(plan, stretch, start, end, live)
    table = stretch.table
    coded = plan.codes_for(table)
    whole = len(live) == len(plan.queries)
    plan.counters[:, 2] = not whole
    if not whole:
        plan.counters[live, 2] = 0
    beta = stretch.profile.similarity_exponent
    while start < end:
        request.check_time()
        scalars = SCALARS.pack(
            start, end, plan.queries.shape[1], table.prefix.shape[1], table.records.shape[1], stretch.descending,
            len(plan.queries), plan.k, plan.capacity, plan.epoch, plan.at, stretch.latest, stretch.offset, beta,
            stretch.slack,
        )  # fmt: skip
        start = module.scan(
            table.prefix, table.head, stretch.weight, table.records, stretch.allow, coded.narrow, coded.wide,
            coded.constants, coded.zero, scalars, plan.heap, plan.counters, plan.positions, plan.bounds,
        )  # fmt: skip
        plan.drain(stretch)
    # Where every live query has proved that no later row matters, the rest of this run is behind us
    return stretch.end if stretch.descending and plan.counters[:, 2].all() and _finish(stretch) else end


def _finish(stretch: Stretch) -> bool:
    stretch.rest = None
    return True
