"""The graph in SQL: directed, typed, weighted edges between a scope's coordinates, walked breadth first with limits."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate, coordinate_from_canonical
from memory_runtime.model.errors import Unprocessable
from memory_runtime.model.records import Edge, Scope
from memory_runtime.stores.contracts import Neighbor

MAX_VISITED = 100_000
_MAX_VARIABLES = 400


def _outgoing(
    connection: sqlite3.Connection, scope: Scope, sources: Sequence[str], link_type: str | None
) -> list[tuple[str, str, str, float, str]]:
    edges: list[tuple[str, str, str, float, str]] = []
    for start in range(0, len(sources), _MAX_VARIABLES):
        part = sources[start : start + _MAX_VARIABLES]
        sql = (
            "SELECT source, target, link_type, weight, metadata FROM edges WHERE tenant = ? AND namespace = ?"  # noqa: S608 -- only marks
            f" AND source IN ({','.join('?' * len(part))})"
        )
        values: list[object] = [scope.tenant, scope.namespace, *part]
        if link_type is not None:
            sql += " AND link_type = ?"
            values.append(link_type)
        edges.extend(connection.execute(sql, values).fetchall())
    # heavier edges first, and a fixed order among equals: a limit must not cut at random
    edges.sort(key=lambda edge: (-edge[3], edge[1], edge[2], edge[0]))
    return edges


def _edge(found: tuple[str, str, str, float, str]) -> Edge:
    return Edge(
        coordinate_from_canonical(found[0]),
        coordinate_from_canonical(found[1]),
        found[2],
        found[3],
        json.loads(found[4]),
    )


def neighbors(
    connection: sqlite3.Connection, scope: Scope, start: Coordinate, *, link_type: str | None, hops: int, limit: int
) -> list[Neighbor]:
    """The coordinates within `hops` edges of `start`, nearest first, then by weight; each once.

    Raises Unprocessable when the walk passes 100,000 coordinates.
    """
    seen = {canonical_coordinate(start)}
    frontier = list(seen)
    steps: list[Neighbor] = []
    for hop in range(1, hops + 1):
        reached: list[str] = []
        for found in _outgoing(connection, scope, frontier, link_type):
            if found[1] not in seen:
                seen.add(found[1])
                reached.append(found[1])
                steps.append(Neighbor(coordinate_from_canonical(found[1]), hop, _edge(found)))
        _bound(seen)
        frontier = reached
        if not frontier or len(steps) >= limit:
            break
    return steps[:limit]


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
    first, last = canonical_coordinate(start), canonical_coordinate(goal)
    if first == last:
        return []
    came_by: dict[str, tuple[str, str, str, float, str]] = {}
    seen = {first}
    frontier = [first]
    for _ in range(max_length):
        reached: list[str] = []
        for found in _outgoing(connection, scope, frontier, link_type):
            if found[1] not in seen:
                seen.add(found[1])
                came_by[found[1]] = found
                reached.append(found[1])
        if last in seen:
            return _unwind(came_by, first, last)
        _bound(seen)
        frontier = reached
        if not frontier:
            break
    return None


def _unwind(came_by: dict[str, tuple[str, str, str, float, str]], first: str, last: str) -> list[Edge]:
    edges: list[Edge] = []
    at = last
    while at != first:
        edges.append(_edge(came_by[at]))
        at = came_by[at][0]
    return edges[::-1]


def _bound(seen: set[str]) -> None:
    if len(seen) > MAX_VISITED:
        raise Unprocessable(
            f"the walk passed {MAX_VISITED} coordinates", field="link_type", remedy="name a link_type, or fewer hops"
        )
