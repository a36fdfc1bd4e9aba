"""The graph in SQL: directed, typed, weighted edges between a scope's coordinates, walked breadth first with limits."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate
from memory_runtime.model.records import Edge, Scope
from memory_runtime.stores.contracts import EdgeKey, Neighbor
from memory_runtime.stores.walking import NeighborWalk, PathWalk, Step

_MAX_VARIABLES = 400
_STEP = "source, target, link_type, weight, metadata"


def _steps(rows: Iterable[tuple[str, str, str, float, str]]) -> Iterator[Step]:
    for source, target, link_type, weight, metadata in rows:
        yield Step(source, target, link_type, weight, json.loads(metadata))


def _outgoing(
    connection: sqlite3.Connection, scope: Scope, sources: Sequence[str], link_type: str | None
) -> Iterator[Step]:
    for start in range(0, len(sources), _MAX_VARIABLES):
        part = sources[start : start + _MAX_VARIABLES]
        sql = (
            f"SELECT {_STEP} FROM edges WHERE tenant = ? AND namespace = ?"  # noqa: S608 -- only marks
            f" AND source IN ({','.join('?' * len(part))})"
        )
        values: list[object] = [scope.tenant, scope.namespace, *part]
        if link_type is not None:
            sql += " AND link_type = ?"
            values.append(link_type)
        yield from _steps(connection.execute(sql, values))


def neighbors(
    connection: sqlite3.Connection, scope: Scope, start: Coordinate, *, link_type: str | None, hops: int, limit: int
) -> list[Neighbor]:
    """The coordinates within `hops` edges of `start`, nearest first, then by weight; each once.

    Raises Unprocessable when the walk passes 100,000 coordinates.
    """
    walk = NeighborWalk(start, hops, limit)
    while walk.frontier:
        walk.advance(_outgoing(connection, scope, walk.frontier, link_type))
    return walk.answer()


def shortest_path(
    connection: sqlite3.Connection,
    scope: Scope,
    start: Coordinate,
    goal: Coordinate,
    *,
    link_type: str | None,
    max_length: int,
) -> list[Edge] | None:
    """The edges of a path with the fewest hops, at most `max_length`; empty for a start that is the goal; else None.

    Raises Unprocessable when the walk passes 100,000 coordinates.
    """
    walk = PathWalk(start, goal, max_length)
    while walk.frontier:
        walk.advance(_outgoing(connection, scope, walk.frontier, link_type))
    return walk.answer()


def page(connection: sqlite3.Connection, scope: Scope, after: EdgeKey | None, limit: int) -> list[Edge]:
    """Up to `limit` edges of the scope after that key, in order of source, link type and target."""
    key = ("", "", "") if after is None else (canonical_coordinate(after[0]), after[1], canonical_coordinate(after[2]))
    rows = connection.execute(
        f"SELECT {_STEP} FROM edges WHERE tenant = ? AND namespace = ? AND (source, link_type, target) > (?, ?, ?)"  # noqa: S608
        " ORDER BY source, link_type, target LIMIT ?",
        (scope.tenant, scope.namespace, *key, limit),
    )
    return [step.edge() for step in _steps(rows)]


def touching(connection: sqlite3.Connection, scope: Scope, coordinates: Sequence[Coordinate]) -> list[Edge]:
    """Every edge to or from these coordinates, each once."""
    found: dict[tuple[str, str, str], Edge] = {}
    for coordinate in coordinates:
        for end in ("source", "target"):
            rows = connection.execute(
                f"SELECT {_STEP} FROM edges WHERE tenant = ? AND namespace = ? AND {end} = ?",  # noqa: S608
                (scope.tenant, scope.namespace, canonical_coordinate(coordinate)),
            )
            found.update(((step.source, step.link_type, step.target), step.edge()) for step in _steps(rows))
    return list(found.values())


def standing(connection: sqlite3.Connection, scope: Scope, keys: Sequence[EdgeKey]) -> list[Edge]:
    """Those of the edges that are there, as they are now."""
    found = []
    for source, link_type, target in keys:
        rows = connection.execute(
            f"SELECT {_STEP} FROM edges WHERE tenant = ? AND namespace = ? AND source = ? AND link_type = ?"  # noqa: S608
            " AND target = ?",
            (scope.tenant, scope.namespace, canonical_coordinate(source), link_type, canonical_coordinate(target)),
        )
        found += [step.edge() for step in _steps(rows)]
    return found


def scopes(connection: sqlite3.Connection) -> list[Scope]:
    """The scopes that have edges: a search of the key for each, not a pass over the edges."""
    found: list[Scope] = []
    after = ("", "")
    while True:
        row = connection.execute(
            "SELECT tenant, namespace FROM edges WHERE (tenant, namespace) > (?, ?) ORDER BY tenant, namespace LIMIT 1",
            after,
        ).fetchone()
        if row is None:
            return found
        found.append(Scope(*row))
        after = tuple(row)
