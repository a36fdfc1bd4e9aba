"""Which rows of a view a search may see, as stretches to scan: every filter comes before the top k."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

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
_SHORT: Final = 64
"""Rows of a run that are not worth a stretch of their own where there are more such runs than `_FEW`."""
_FEW: Final = 16


def stretches_of(view: View, request: Request, plan: Plan) -> list[Stretch]:
    """The stretches of all segments and of the fresh rows; rows of a short allow-list go to the plan at once."""
    found: list[Stretch | None] = []
    for segment, table in zip(view.segments, view.tables, strict=True):
        request.check_time()
        runs = _readable(segment, view, request, plan)
        if request.only is None:
            found += _segment_stretches(segment, table, runs, request, None)
            continue
        position = segment.find(request.only, view.epoch)
        wanted = np.unique(position[position >= 0])
        if len(wanted) > _DIRECT:
            allow = np.zeros(len(segment), np.uint8)
            allow[wanted] = 1
            found += _segment_stretches(segment, table, runs, request, allow)
        else:
            _direct_rows(segment, table, wanted, runs, request, plan)
    found += _fresh_stretches(view, request, plan)
    return [stretch for stretch in found if stretch is not None]


class _Run(NamedTuple):
    """A run that a request may read: its number, its rows [start, end), and how they are scored."""

    number: int
    start: int
    end: int
    profile: Profile


def _readable(segment: Segment, view: View, request: Request, plan: Plan) -> list[_Run]:
    """The runs that a request may read, in order."""
    runs = segment.runs
    partition = (request.partition.tenant << 31) | request.partition.namespace
    low, high = (int(place) for place in np.searchsorted(runs.partition, [partition, partition + 1]))
    kinds, bounds = runs.memory_type[low:high].tolist(), runs.start[low : high + 1].tolist()
    found = []
    for offset, kind in enumerate(kinds):
        request.check_time()
        if request.types is None or kind in request.types:
            profile = _profile(view, request, plan, kind)
            found.append(_Run(low + offset, bounds[offset], bounds[offset + 1], profile))
    return found


def _profile(view: View, request: Request, plan: Plan, kind: int) -> Profile:
    """The profile of a type, of which the plan takes note: rows of it may meet the others'."""
    profile = view.params.profile(request.partition.tenant, kind)
    plan.profiles.add((_key_half_life(profile, request), profile.similarity_exponent))
    return profile


def _segment_stretches(
    segment: Segment, table: Table, runs: Sequence[_Run], request: Request, allow: npt.NDArray[np.uint8] | None
) -> list[Stretch | None]:
    """Each run by itself; short ones that stand side by side together, so that many types cost what their rows do."""
    found: list[Stretch | None] = []
    many = len([run for run in runs if run.end - run.start <= _SHORT]) > _FEW
    latest = request.at if request.hide_later else np.inf
    short: dict[Profile, list[_Run]] = {}

    def flush() -> None:
        for profile, members in short.items():
            rows = _rows(members)
            found.append(_allowed(_on_the_spot(table, rows, profile, request, latest), allow))
        short.clear()

    for run in runs:
        request.check_time()
        if many and run.end - run.start <= _SHORT:
            short.setdefault(run.profile, []).append(run)
            continue
        flush()
        found += _run_stretches(segment, table, run, request, allow)
    flush()
    return found


def _rows(runs: Sequence[_Run]) -> npt.NDArray[np.intp]:
    """The rows of runs that stand in order."""
    starts, ends = np.array([(run.start, run.end) for run in runs], np.intp).T
    lengths = ends - starts
    found: npt.NDArray[np.intp] = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    return found + np.arange(len(found))


def _direct_rows(
    segment: Segment, table: Table, rows: npt.NDArray[np.intp], runs: Sequence[_Run], request: Request, plan: Plan
) -> None:
    """Those of a short allow-list's rows (ascending) that lie in readable runs become candidates, a profile at a
    time.
    """
    run_of = np.searchsorted(segment.runs.start, rows, side="right") - 1
    profiles = {run.number: run.profile for run in runs}
    members: dict[Profile, list[npt.NDArray[np.intp]]] = {}
    numbers, firsts, counts = np.unique(run_of, return_index=True, return_counts=True)
    for number, first, count in zip(numbers.tolist(), firsts.tolist(), counts.tolist(), strict=True):
        request.check_time()
        if number in profiles:
            members.setdefault(profiles[number], []).append(rows[first : first + count])
    for profile, chosen in members.items():
        _direct(plan, table, profile, np.concatenate(chosen), request)


def _key_half_life(profile: Profile, request: Request) -> float | None:
    half_life = effective_half_life(profile, request.half_life)
    return None if half_life is None else half_life * profile.similarity_exponent


def _run_stretches(
    segment: Segment, table: Table, run: _Run, request: Request, allow: npt.NDArray[np.uint8] | None
) -> list[Stretch | None]:
    number, start, end, profile = run
    half_life = _key_half_life(profile, request)
    if half_life != profile.key_half_life:
        rows = np.arange(start, end)
        latest = request.at if request.hide_later else np.inf
        return [_allowed(_on_the_spot(table, rows, profile, request, latest), allow)]
    found: list[Stretch | None] = []
    latest = request.at if request.hide_later else np.inf
    if half_life is not None and not request.hide_later and segment.latest[number] > request.at:
        # Rows whose time has not come count as new: their stored weight is too large, so they are weighted on the spot
        later = np.flatnonzero(codes.times(segment.records)[start:end] > request.at) + start
        found.append(_allowed(_on_the_spot(table, later, profile, request, np.inf), allow))
        latest = request.at
    found.append(_zone(segment, table, int(segment.runs.zone[number]), number, profile, request, latest, allow))
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
    # by profile, not by type: a pass over all fresh rows for each type would be quadratic
    runs: dict[Profile, list[int]] = {}
    for kind, run in view.fresh.runs(*request.partition):
        request.check_time()
        if request.types is None or kind in request.types:
            runs.setdefault(_profile(view, request, plan, kind), []).append(run)
    for profile, members in runs.items():
        request.check_time()
        rows = view.fresh.rows_of(members, view.fresh_count)
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
