"""One search: which stretches hold rows that the query may see, in what order they are scanned, when to stop, what is
exact.

Pure functions over a view of the index; no lock is held. The proof that nothing is missed is in docs/scoring.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from memory_runtime.model.errors import DeadlineExceeded, SomaError
from memory_runtime.scoring import codes, kernel
from memory_runtime.scoring.formula import effective_half_life, exact_dot, log_weight, static_log, turns
from memory_runtime.scoring.fresh import Fresh
from memory_runtime.scoring.params import UNSET, Profile, ScoringParams, Unset
from memory_runtime.scoring.plan import SCALARS, Kept, Plan
from memory_runtime.scoring.ranking import Candidates, top_k
from memory_runtime.scoring.rows import Ids, Partition, ScoredRow, Singles
from memory_runtime.scoring.scan_numpy import scan_block
from memory_runtime.scoring.segment import Segment
from memory_runtime.scoring.source import LARGEST_BLOCK, Stretch, Table, weighted_on_the_spot

_DIRECT: Final = 8192
_RESCORE_BLOCK: Final = 4096


class Cancelled(SomaError):  # noqa: N818 -- named as the taxonomy names its errors
    """The caller went away: the search stopped between two blocks."""

    code = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a reader sees: fixed segments, the first `fresh_count` fresh rows, and deaths up to `epoch`."""

    segments: tuple[Segment, ...]
    tables: tuple[Table, ...]
    fresh: Fresh
    fresh_table: Table
    fresh_count: int
    epoch: int
    params: ScoringParams


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A checked search; `at` is the moment asked about, `hide_later` is true for `as_of`."""

    queries: Singles
    k: int
    partition: Partition
    types: frozenset[int] | None
    at: float
    hide_later: bool
    half_life: float | Unset | None = UNSET
    only: Ids | None = None
    deadline: float | None = None
    cancelled: Callable[[], bool] | None = None

    def check_time(self) -> None:
        """Raises DeadlineExceeded or Cancelled: called between blocks."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineExceeded(
                "the search took too long", field="deadline", remedy="allow more time, or ask for less"
            )
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("the search was cancelled")


def search(view: View, request: Request) -> tuple[list[list[ScoredRow]], int]:
    """The exact answers, and how many rows were scanned for them (summed over queries)."""
    latest = request.at if request.hide_later else np.inf
    plan = Plan(request.queries, request.k, request.at, latest, view.epoch)
    stretches = _stretches(view, request, plan)
    _scan(plan, stretches, request)
    answers = [_answer(plan, query) for query in range(len(request.queries))]
    return answers, int(plan.counters[:, 3].sum())


# ---- what to read ----


def _stretches(view: View, request: Request, plan: Plan) -> list[Stretch]:
    found: list[Stretch | None] = []
    for segment, table in zip(view.segments, view.tables, strict=True):
        allow = None
        rows_wanted = None
        if request.only is not None:
            position = segment.find(request.only, view.epoch)
            rows_wanted = np.sort(position[position >= 0])
            if len(rows_wanted) > _DIRECT:
                allow = np.zeros(len(segment), np.uint8)
                allow[rows_wanted] = 1
        for kind, start, end, run in _runs(segment, request):
            profile = view.params.profile(request.partition.tenant, kind)
            if rows_wanted is not None and allow is None:
                inside = rows_wanted[(rows_wanted >= start) & (rows_wanted < end)]
                _direct(plan, table, profile, inside, request)
                continue
            found += _run_stretches(segment, table, run, profile, request, allow)
    found += _fresh_stretches(view, request, plan)
    return [stretch for stretch in found if stretch is not None]


def _runs(segment: Segment, request: Request) -> list[tuple[int, int, int, int]]:
    """(type, first row, end, run) of the runs that a request may read."""
    runs = segment.runs
    partition = (request.partition.tenant << 31) | request.partition.namespace
    low, high = np.searchsorted(runs.partition, [partition, partition + 1])
    return [
        (int(runs.memory_type[run]), int(runs.start[run]), int(runs.start[run + 1]), run)
        for run in range(low, high)
        if request.types is None or int(runs.memory_type[run]) in request.types
    ]


def _key_half_life(profile: Profile, request: Request) -> float | None:
    half_life = effective_half_life(profile, request.half_life)
    return None if half_life is None else half_life * profile.similarity_exponent


def _run_stretches(
    segment: Segment, table: Table, run: int, profile: Profile, request: Request, allow: npt.NDArray[np.uint8] | None
) -> list[Stretch | None]:
    half_life = _key_half_life(profile, request)
    start, end = int(segment.runs.start[run]), int(segment.runs.start[run + 1])
    if half_life != profile.key_half_life:
        rows = np.arange(start, end)
        latest = request.at if request.hide_later else np.inf
        return [_allowed(_on_the_spot(table, rows, profile, request, latest), allow)]
    found: list[Stretch | None] = []
    latest = request.at if request.hide_later else np.inf
    if half_life is not None and not request.hide_later and segment.latest[run] > request.at:
        # Rows whose time has not come count as new: their stored weight is too large, so they are weighted on the spot
        later = np.flatnonzero(codes.times(segment.records)[start:end] > request.at) + start
        found.append(_allowed(_on_the_spot(table, later, profile, request, np.inf), allow))
        latest = request.at
    found.append(_zone(segment, table, int(segment.runs.zone[run]), run, profile, request, latest, allow))
    return found


def _on_the_spot(
    table: Table, rows: npt.NDArray[np.intp], profile: Profile, request: Request, latest: float
) -> Stretch | None:
    half_life = _key_half_life(profile, request)
    return weighted_on_the_spot(table, rows, profile=profile, half_life=half_life, at=request.at, latest=latest)


def _allowed(stretch: Stretch | None, allow: npt.NDArray[np.uint8] | None) -> Stretch | None:
    if stretch is not None:
        stretch.allow = allow
    return stretch


def _zone(
    segment: Segment,
    table: Table,
    zone: int,
    run: int,
    profile: Profile,
    request: Request,
    latest: float,
    allow: npt.NDArray[np.uint8] | None,
) -> Stretch:
    half_life = profile.key_half_life
    whole, rest = turns(np.array([request.at]), half_life)
    following = None
    if zone + 1 < int(segment.runs.zone[run + 1]):
        following = partial(_zone, segment, table, zone + 1, run, profile, request, latest, allow)
    return Stretch(
        table,
        profile,
        half_life,
        segment.weight,
        int(segment.zone_start[zone]),
        int(segment.zone_start[zone + 1]),
        float(segment.zone_reference[zone] - whole[0] - rest[0]),
        descending=True,
        latest=latest,
        allow=allow,
        rest=following,
    )


def _fresh_stretches(view: View, request: Request, plan: Plan) -> list[Stretch | None]:
    found: list[Stretch | None] = []
    latest = request.at if request.hide_later else np.inf
    wanted = None
    if request.only is not None:
        position = view.fresh.find(request.only, view.epoch)
        wanted = position[(position >= 0) & (position < view.fresh_count)]
    for kind, run in view.fresh.runs(*request.partition):
        if request.types is not None and kind not in request.types:
            continue
        profile = view.params.profile(request.partition.tenant, kind)
        rows = view.fresh.rows_of(run, view.fresh_count)
        if wanted is not None:
            _direct(plan, view.fresh_table, profile, np.intersect1d(rows, wanted), request)
            continue
        found.append(_on_the_spot(view.fresh_table, rows, profile, request, latest))
    return found


def _direct(plan: Plan, table: Table, profile: Profile, rows: npt.NDArray[np.intp], request: Request) -> None:
    """A short allow-list needs no scan: every row of it that is visible is a candidate."""
    records = table.records
    good = codes.expiries(records)[rows] > request.at
    good &= codes.times(records)[rows] <= plan.latest
    rows = rows[good]
    if not len(rows):
        return
    empty = np.zeros(0, np.float32)
    half_life = _key_half_life(profile, request)
    stretch = Stretch(table, profile, half_life, empty, 0, 0, 0.0, descending=True, latest=plan.latest)
    for query in range(len(plan.queries)):
        plan.keep(query, stretch, rows.astype(np.int64), np.full(len(rows), np.inf))


# ---- scanning ----


def _scan(plan: Plan, stretches: list[Stretch], request: Request) -> None:
    if len(stretches) == 1:
        # Nothing to take turns with, and the compiled scan stops by itself: small blocks would only cost calls
        stretches[0].block = LARGEST_BLOCK
    while stretches:
        request.check_time()
        ceilings = [stretch.ceiling() for stretch in stretches]
        best = max(range(len(stretches)), key=ceilings.__getitem__)
        live = [query for query in range(len(plan.queries)) if plan.least(query) <= ceilings[best]]
        if not live:
            return
        stretch = stretches[best]
        stretch.cursor = _scan_block(plan, stretch, live)
        if stretch.cursor >= stretch.end:
            if stretch.rest is None:
                del stretches[best]
            else:
                stretches[best] = stretch.rest()


def _scan_block(plan: Plan, stretch: Stretch, live: list[int]) -> int:
    start, end = stretch.cursor, stretch.next_end()
    module = kernel.load()
    if module is None:
        return scan_block(plan, stretch, start, end, live)
    table = stretch.table
    coded = plan.codes_for(table)
    plan.counters[:, 2] = 1
    plan.counters[live, 2] = 0
    beta = stretch.profile.similarity_exponent
    while start < end:
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
    return stretch.end if stretch.descending and plan.counters[live, 2].all() and _finish(stretch) else end


def _finish(stretch: Stretch) -> bool:
    stretch.rest = None
    return True


# ---- what is exact ----


def _answer(plan: Plan, query: int) -> list[ScoredRow]:
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
    answer: list[ScoredRow] = []
    for part in parts:
        if len(answer) == plan.k and part.bounds[0] < answer[-1].log2_score - 1e-6:
            break
        best += _exact(plan, query, [part])
        answer = top_k(best, plan.k, plan.at)
        wanted = {row.id for row in answer}
        best = [_only(group, wanted) for group in best]
    return answer


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
