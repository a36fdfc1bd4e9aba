"""Links between memories: what an edge must be, and the walks over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from memory_runtime.engine.types import GraphPath, Neighbor
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import Coordinate, make_coordinate
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Edge, Scope, check_name
from memory_runtime.stores.contracts import Link, Unit
from memory_runtime.stores.sqlite import SQLiteLedger, graph

MAX_HOPS: Final = 16
MAX_LENGTH: Final = 64
MAX_NEIGHBORS: Final = 10_000


def check_edge(
    source: Coordinate, target: Coordinate, link_type: str, weight: float, metadata: Mapping[str, Any] | None
) -> Edge:
    """The edge, if it is one. Raises InvalidArgument naming the field."""
    check_name(link_type, field="link_type")
    if isinstance(weight, bool) or not math.isfinite(weight) or weight < 0:
        raise InvalidArgument("weight: must be a finite number ≥ 0", field="weight", remedy="1.0 is the default")
    canonical_json(dict(metadata or {}), field="metadata")
    return Edge(
        make_coordinate(source, field="from_coord"),
        make_coordinate(target, field="to_coord"),
        link_type,
        float(weight),
        dict(metadata or {}),
    )


async def link(ledger: SQLiteLedger, scope: Scope, edge: Edge, now: float) -> int:
    """Commits the edge and returns the change's seq."""
    committed = await ledger.commit(Unit([Link(scope, edge, now)]))
    return committed.receipts[0].seq


async def neighbors(
    ledger: SQLiteLedger, scope: Scope, coordinate: Coordinate, link_type: str | None, hops: int, limit: int
) -> list[Neighbor]:
    """The coordinates within `hops` edges."""
    start = make_coordinate(coordinate)
    _within("k_hop", hops, MAX_HOPS)
    _within("limit", limit, MAX_NEIGHBORS)
    return await ledger.read(
        lambda connection: graph.neighbors(connection, scope, start, link_type=link_type, hops=hops, limit=limit)
    )


async def shortest_path(
    ledger: SQLiteLedger, scope: Scope, start: Coordinate, goal: Coordinate, link_type: str | None, max_length: int
) -> GraphPath:
    """The path with the fewest edges."""
    first, last = make_coordinate(start, field="from_coord"), make_coordinate(goal, field="to_coord")
    _within("max_length", max_length, MAX_LENGTH)
    edges = await ledger.read(
        lambda connection: graph.shortest_path(
            connection, scope, first, last, link_type=link_type, max_length=max_length
        )
    )
    if edges is None:
        return GraphPath((), (), found=False)
    return GraphPath((first, *(edge.target for edge in edges)), tuple(edges), found=True)


def _within(field: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidArgument(f"{field}: must be from 1 to {most}", field=field, remedy="ask for less")
