"""What hybrid recall reads beside words: rows, neighbours in time, linked memories, vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from memory_runtime.model.records import Vector
from memory_runtime.stores.postgres.filters import visible as visible_to
from memory_runtime.stores.postgres.following import named
from memory_runtime.stores.postgres.reading import as_uuids
from memory_runtime.stores.postgres.session import Bound, Session
from memory_runtime.stores.rows import FUSED, fused
from memory_runtime.stores.values import Row, Visible

_ROW: Final = named(FUSED)
_MOST_PLACES: Final = 400


def rows(session: Session, visible: Visible, ids: Sequence[bytes]) -> list[Row]:
    """Those of the ids that are visible, in no order."""
    if not ids:
        return []
    bound = Bound()
    sql = f"SELECT {_ROW} FROM memories m WHERE m.id = ANY({bound(as_uuids(ids))}::uuid[]) AND {visible_to(bound, visible)}"  # noqa: S608,E501
    return [fused(found) for found in session.rows(sql, *bound.values)]


def around(session: Session, visible: Visible, row: Row, *, reach: int, gap: float) -> tuple[list[Row], list[Row]]:
    """Up to `reach` memories of the same type before and after, nearest first, no more than `gap` seconds from one to
    the next. Memories of one time stand in the order in which they were stored.
    """
    sides: list[list[Row]] = []
    for sign, order in (("<", "DESC"), (">", "ASC")):
        bound = Bound()
        where = visible_to(bound, visible)
        low, high = row.event_time - reach * gap, row.event_time + reach * gap
        sql = (
            f"SELECT {_ROW} FROM memories m WHERE {where} AND m.memory_type = {bound(row.memory_type)}"  # noqa: S608
            f" AND (m.event_time, m.row) {sign} ({bound(row.event_time)}, {bound(row.row)})"
            f" AND m.event_time BETWEEN {bound(low)} AND {bound(high)}"
            f" ORDER BY m.event_time {order}, m.row {order} LIMIT {bound(reach)}"
        )
        side: list[Row] = []
        last = row.event_time
        for found in map(fused, session.rows(sql, *bound.values)):
            if abs(found.event_time - last) > gap:
                break
            side.append(found)
            last = found.event_time
        sides.append(side)
    return sides[0], sides[1]


def linked(session: Session, visible: Visible, seeds: Sequence[Row], *, limit: int) -> list[tuple[bytes, Row, float]]:
    """Memories that the seeds' coordinates are linked with, either way: (seed's id, the other, the edge's weight)."""
    by_coordinate: dict[str, list[bytes]] = {}
    for seed in seeds:
        by_coordinate.setdefault(seed.coordinate, []).append(seed.id)
    names = list(by_coordinate)[:_MOST_PLACES]
    if not names:
        return []
    edges: list[Any] = []
    for near, far in (("source", "target"), ("target", "source")):
        sql = (
            f"SELECT {near}, {far}, weight FROM edges WHERE tenant = $1 AND namespace = $2 AND {near} = ANY($3::text[])"  # noqa: S608
            f" ORDER BY weight DESC, {far} LIMIT $4"
        )
        edges += session.rows(sql, visible.scope.tenant, visible.scope.namespace, names, limit)
    there = _at(session, visible, list(dict.fromkeys(edge[1] for edge in edges)))
    return [
        (seed, row, weight)
        for name, other, weight in edges
        for row in there.get(other, ())
        for seed in by_coordinate[name]
        if seed != row.id
    ]


def _at(session: Session, visible: Visible, places: Sequence[str]) -> dict[str, list[Row]]:
    if not places:
        return {}
    bound = Bound()
    where = visible_to(bound, visible)
    firsts = [float(place.partition(",")[0]) for place in places]
    sql = (
        f"SELECT {_ROW} FROM memories m WHERE {where} AND m.coordinate_first = ANY({bound(firsts)}::float8[])"  # noqa: S608
        f" AND m.coordinate = ANY({bound(list(places))}::text[])"
    )
    found: dict[str, list[Row]] = {}
    for row in map(fused, session.rows(sql, *bound.values)):
        found.setdefault(row.coordinate, []).append(row)
    return found


def vectors(session: Session, numbers: Sequence[int]) -> dict[int, Vector]:
    """The vectors of these rows, by row; a row without one is absent."""
    found = session.rows("SELECT row, vector FROM vectors WHERE row = ANY($1::bigint[])", list(numbers))
    return {one[0]: np.frombuffer(one[1], np.float32) for one in found}
