"""Which rows of an index weigh least, and what is known of rows that are not in it: for an index held to a byte budget.

A row's score at the moment T is at most its weight then. So of rows that were given up it is enough to know, for each
tenant, namespace and type, the largest weight, the largest part of it that no clock touches, and the newest time: from
these follows a bound for any T and any half-life. Bounds are only ever raised, so they hold whatever is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring.formula import effective_half_life, static_log
from memory_runtime.scoring.merge import living
from memory_runtime.scoring.params import Profile, ScoringParams, Unset
from memory_runtime.scoring.rows import Floats, Ids, RowBatch
from memory_runtime.scoring.segment import log_weights
from memory_runtime.scoring.view import View

SLACK: Final = 1e-5
"""In log2: what norms and rounding may add to a bound."""
COLUMNS: Final = 128
"""Bytes of a row beside its vector and its codes: docs/scoring.md, "Memory", with room for a fresh row's look-up."""

Place = tuple[int, int, int]
"""Tenant, namespace and memory type, as codes."""


class Bound(NamedTuple):
    """Of rows that are not in the index: the largest L, the largest static part of L, the newest event time."""

    log2_weight: float
    static: float
    latest: float

    def joined(self, other: Bound) -> Bound:
        """What holds for the rows of both."""
        return Bound(*(max(pair) for pair in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class Leaving:
    """Rows to give up: ids uint64 [n, 2], and of each its place (int32 [n, 3]), L, static part and event time."""

    ids: Ids
    places: npt.NDArray[np.int32]
    log2_weight: Floats
    static: Floats
    event_time: Floats

    def without(self, ids: Ids) -> Leaving:
        """All but these."""
        kept = ~np.isin(_joined(self.ids), _joined(ids))
        return Leaving(*(getattr(self, name)[kept] for name in self.__slots__))

    def bounds(self) -> dict[Place, Bound]:
        """What is to be known of them."""
        if not len(self.ids):
            return {}
        places, which = np.unique(self.places, axis=0, return_inverse=True)
        columns = []
        for column in (self.log2_weight, self.static, self.event_time):
            most = np.full(len(places), -np.inf)
            np.maximum.at(most, which.ravel(), column)
            columns.append(most.tolist())
        return {
            (int(place[0]), int(place[1]), int(place[2])): Bound(*found)
            for place, found in zip(places, zip(*columns, strict=True), strict=True)
        }


def row_bytes(dim: int, itemsize: int = 4) -> int:
    """What a row of the index holds in memory, about: vector, second codes, first codes, columns."""
    return dim * (itemsize + 1) + dim // 3 + COLUMNS


def lightest(view: View, count: int, at: float) -> Leaving:
    """The `count` rows whose weight at the moment `at` is least. Cost: a pass over every row's columns."""
    parts = [_standing(rows, view.params, at) for rows in _columns(view)]
    if not parts:
        nothing = np.zeros(0)
        return Leaving(np.zeros((0, 2), np.uint64), np.zeros((0, 3), np.int32), nothing, nothing, nothing)
    weight_now = np.concatenate([part[0] for part in parts])
    rest = [part[1] for part in parts]
    every = Leaving(*(np.concatenate([getattr(one, name) for one in rest]) for name in Leaving.__slots__))
    count = min(count, len(weight_now))
    picked = np.argpartition(weight_now, count - 1)[:count] if count else np.zeros(0, np.intp)
    return Leaving(*(getattr(every, name)[picked] for name in Leaving.__slots__))


def _columns(view: View) -> list[RowBatch]:
    found = []
    for segment in view.segments:
        rows = np.flatnonzero(living(segment, view.epoch))
        if len(rows):
            found.append(segment.batch(rows, with_vectors=False))
    fresh = np.flatnonzero(living(view.fresh, view.epoch)[: view.fresh_count])
    if len(fresh):
        found.append(view.fresh.batch(fresh, with_vectors=False))
    return found


def _standing(rows: RowBatch, params: ScoringParams, at: float) -> tuple[Floats, Leaving]:
    """(log2 of each row's weight at `at`, what is to be known of it)."""
    weight = log_weights(rows, params)
    total = weight.whole + weight.fraction
    static, now = np.zeros(len(rows)), np.zeros(len(rows))
    pairs, which = np.unique(np.stack([rows.tenant, rows.memory_type]), axis=1, return_inverse=True)
    for number, (tenant, kind) in enumerate(pairs.T):
        mine = np.flatnonzero(which.ravel() == number)
        profile = params.profile(int(tenant), int(kind))
        static[mine] = static_log(rows.importance[mine], rows.features[mine], profile)
        now[mine] = _at(static[mine], rows.event_time[mine], profile, profile.half_life, at)
    places = np.stack([rows.tenant, rows.namespace, rows.memory_type], axis=1)
    return now, Leaving(rows.ids, places, total, static, rows.event_time)


def _at(static: Floats, time: Floats, profile: Profile, half_life: float | None, at: float) -> npt.NDArray[np.float64]:
    """log2 of the most that rows score at the moment `at`."""
    fade = 0.0 if half_life is None else (np.minimum(time, at) - at) / half_life
    return np.asarray(static * profile.similarity_exponent + fade)


def ceiling(bound: Bound, profile: Profile, half_life: float | Unset | None, at: float) -> float:
    """log2 of what no row under this bound scores at `at`, with the request's own half-life if it has one."""
    seconds = effective_half_life(profile, half_life)
    beta = profile.similarity_exponent
    apart = float(_at(np.array([bound.static]), np.array([bound.latest]), profile, seconds, at)[0])
    if seconds != profile.half_life or seconds is None:
        return min(0.0, apart + SLACK)
    together = beta * bound.log2_weight - at / seconds
    return min(0.0, apart + SLACK, together + SLACK)


def joined(known: Mapping[Place, Bound], more: Mapping[Place, Bound]) -> dict[Place, Bound]:
    """What holds for the rows of both."""
    return {**known, **{place: bound.joined(known.get(place, bound)) for place, bound in more.items()}}


def _joined(ids: Ids) -> npt.NDArray[np.void]:
    return np.ascontiguousarray(ids).view(np.dtype((np.void, 16))).ravel()
