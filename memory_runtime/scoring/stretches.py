"""Which rows of a view a search may see, as stretches to scan: every filter comes before the top k."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes
from memory_runtime.scoring.formula import effective_half_life, turn_of
from memory_runtime.scoring.params import Profile
from memory_runtime.scoring.plan import Plan
from memory_runtime.scoring.segment import Segment
from memory_runtime.scoring.source import Stretch, Table, weighted_on_the_spot
from memory_runtime.scoring.view import Request, View

_DIRECT: Final = 8192


def stretches_of(view: View, request: Request, plan: Plan) -> list[Stretch]:
    """The stretches of all segments and of the fresh rows; rows of a short allow-list go to the plan at once."""
    found: list[Stretch | None] = []
    for segment, table in zip(view.segments, view.tables, strict=True):
        allow = None
        rows_wanted = None
        if request.only is not None:
            position = segment.find(request.only, view.epoch)
            rows_wanted = np.unique(position[position >= 0])
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
    whole, rest = turn_of(request.at, half_life)
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
        float(segment.zone_reference[zone]) - whole - rest,
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
        wanted = view.fresh.among(request.only, view.fresh_count, view.epoch)
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
