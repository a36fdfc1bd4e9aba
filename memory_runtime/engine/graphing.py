"""Links between memories: what an edge must be, and the walks over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from memory_runtime.engine.graphs import Graphs
from memory_runtime.engine.types import GraphPath, Neighbor
from memory_runtime.model.actor import current_actor
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import Coordinate, canonical_coordinate, make_coordinate
from memory_runtime.model.errors import InvalidArgument, NotFound
from memory_runtime.model.records import Edge, Scope, check_name
from memory_runtime.stores.contracts import AuditEntry, EdgeKey, Link, Unit
from memory_runtime.stores.sessions import Ledger

MAX_HOPS: Final = 16
MAX_LENGTH: Final = 64
MAX_NEIGHBORS: Final = 10_000


class Linked(NamedTuple):
    """What became of many links: written, and skipped for want of a memory at one of their ends."""

    linked: int
    missing: int


def check_edge(
    source: Coordinate,
    target: Coordinate,
    link_type: str,
    weight: float,
    metadata: Mapping[str, Any] | None,
    *,
    path: str = "",
) -> Edge:
    """The edge, if it is one. Raises InvalidArgument naming `path` + field."""
    check_name(link_type, field=f"{path}link_type")
    if isinstance(weight, bool) or not math.isfinite(weight) or weight < 0:
        field = f"{path}weight"
        raise InvalidArgument(f"{field}: must be a finite number ≥ 0", field=field, remedy="1.0 is the default")
    canonical_json(dict(metadata or {}), field=f"{path}metadata")
    return Edge(
        make_coordinate(source, field=f"{path}from_coord"),
        make_coordinate(target, field=f"{path}to_coord"),
        link_type,
        float(weight),
        dict(metadata or {}),
    )


async def link(ledger: Ledger, scope: Scope, edge: Edge, now: float) -> int:
    """Commits the edge and returns the change's seq."""
    committed = await ledger.commit(Unit([Link(scope, edge, now)]))
    return committed.receipts[0].seq


async def unlink(
    ledger: Ledger, scope: Scope, source: Coordinate, target: Coordinate, link_type: str | None, now: float
) -> int:
    """Takes away the edges between the two, of one type or of all, with a line in the audit chain; returns how many."""
    first, last = make_coordinate(source, field="from_coord"), make_coordinate(target, field="to_coord")
    if link_type is not None:
        check_name(link_type, field="link_type")
        found = await ledger.read(lambda view: view.edges_standing(scope, [(first, link_type, last)]))
    else:
        around = await ledger.read(lambda view: view.edges_at(scope, [first]))
        found = [one for one in around if (one.source, one.target) == (first, last)]
    if not found:
        return 0
    subject = f"{scope.namespace}/{canonical_coordinate(first)}"
    detail = {"to": canonical_coordinate(last), "types": sorted(one.link_type for one in found)}
    entry = AuditEntry(scope.tenant, current_actor(), "unlink", subject, now, detail)
    await ledger.commit(Unit([Link(scope, one, now, removed=True) for one in found], audit=[entry]))
    return len(found)


async def link_many(ledger: Ledger, scope: Scope, edges: Sequence[Edge], now: float, *, skip_missing: bool) -> Linked:
    """Commits all of them or none; with `skip_missing` each that joins two memories, and skips the others."""
    links = [Link(scope, edge, now, between_memories=skip_missing) for edge in edges]
    if not skip_missing:
        if links:
            await ledger.commit(Unit(links))
        return Linked(len(links), 0)
    fates = await ledger.commit_many([Unit([one]) for one in links])
    missing = 0
    for fate in fates:
        if isinstance(fate, NotFound):
            missing += 1
        elif isinstance(fate, Exception):
            raise fate
    return Linked(len(links) - missing, missing)


async def page(ledger: Ledger, scope: Scope, after: EdgeKey | None, limit: int) -> list[Edge]:
    """The scope's links after that one, in order of source, type and target."""
    _within("limit", limit, MAX_NEIGHBORS)
    return await ledger.read(lambda view: view.edges(scope, after=after, limit=limit))


async def neighbors(
    graphs: Graphs, scope: Scope, coordinate: Coordinate, link_type: str | None, hops: int, limit: int
) -> list[Neighbor]:
    """The coordinates within `hops` edges."""
    start = make_coordinate(coordinate)
    _within("k_hop", hops, MAX_HOPS)
    _within("limit", limit, MAX_NEIGHBORS)
    return await graphs.neighbors(scope, start, link_type=link_type, hops=hops, limit=limit)


async def shortest_path(
    graphs: Graphs, scope: Scope, start: Coordinate, goal: Coordinate, link_type: str | None, max_length: int
) -> GraphPath:
    """The path with the fewest edges."""
    first, last = make_coordinate(start, field="from_coord"), make_coordinate(goal, field="to_coord")
    _within("max_length", max_length, MAX_LENGTH)
    edges = await graphs.shortest_path(scope, first, last, link_type=link_type, max_length=max_length)
    if edges is None:
        return GraphPath((), (), found=False)
    steps: list[list[Edge]] = []
    for edge in edges:
        if steps and steps[-1][0].target == edge.target:
            steps[-1].append(edge)
        else:
            steps.append([edge])
    return GraphPath((first, *(step[0].target for step in steps)), tuple(map(tuple, steps)), found=True)


def _within(field: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidArgument(f"{field}: must be from 1 to {most}", field=field, remedy="ask for less")
