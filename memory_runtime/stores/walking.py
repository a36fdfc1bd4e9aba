"""Walks over a graph, whoever keeps it: breadth first, a fixed order among equals, bounded. They ask, and are given.

A walk says which coordinates it wants the outgoing edges of (`frontier`) and takes them all at once (`advance`): so
SQL, a driver's transaction and a graph in memory are walked alike, and give one answer. Coordinates are canonical text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate, coordinate_from_canonical
from memory_runtime.model.errors import Unprocessable
from memory_runtime.model.records import Edge
from memory_runtime.stores.contracts import Neighbor

MAX_VISITED = 100_000


class Step(NamedTuple):
    """One edge as a store keeps it: coordinates as canonical text."""

    source: str
    target: str
    link_type: str
    weight: float
    metadata: Mapping[str, Any]

    def edge(self) -> Edge:
        """The edge that it is."""
        ends = coordinate_from_canonical(self.source), coordinate_from_canonical(self.target)
        return Edge(*ends, self.link_type, self.weight, dict(self.metadata))


def step_of(edge: Edge) -> Step:
    """The edge as a store keeps it."""
    ends = canonical_coordinate(edge.source), canonical_coordinate(edge.target)
    return Step(*ends, edge.link_type, edge.weight, edge.metadata)


def _rank(step: Step) -> tuple[float, str, str, str]:
    # heavier edges first, and a fixed order among equals: a limit must not cut at random
    return (-step.weight, step.target, step.link_type, step.source)


class _Walk:
    def __init__(self, start: Coordinate) -> None:
        self.first = canonical_coordinate(start)
        self.frontier = [self.first]
        """The coordinates whose outgoing edges are wanted next; empty when the walk is over."""
        self.seen = {self.first}

    def _fresh(self, steps: Iterable[Step]) -> dict[str, list[Step]]:
        """The steps to each coordinate that was not seen before; coordinates and steps stand best first."""
        found: dict[str, list[Step]] = {}
        for step in sorted(steps, key=_rank):
            if step.target not in self.seen:
                found.setdefault(step.target, []).append(step)
        self.seen.update(found)
        return found

    def _bound(self) -> None:
        if len(self.seen) > MAX_VISITED:
            raise Unprocessable(
                f"the walk passed {MAX_VISITED} coordinates",
                field="link_type",
                remedy="name a link_type, or fewer hops",
            )


class NeighborWalk(_Walk):
    """The coordinates within `hops` edges of `start`, nearest first, then by weight; `limit` at most.

    Each is there once for every type of link that reaches it in the fewest hops, by the heaviest of that type.
    """

    def __init__(self, start: Coordinate, hops: int, limit: int) -> None:
        super().__init__(start)
        self._hops = hops
        self._limit = limit
        self._hop = 0
        self._found: list[Neighbor] = []
        if hops < 1 or limit < 1:
            self.frontier = []

    def advance(self, steps: Iterable[Step]) -> None:
        """Takes every outgoing edge of the frontier. Raises Unprocessable once 100,000 coordinates are passed."""
        self._hop += 1
        fresh = self._fresh(steps)
        kinds: dict[tuple[str, str], Step] = {}
        for one in sorted((step for steps in fresh.values() for step in steps), key=_rank):
            kinds.setdefault((one.target, one.link_type), one)
        self._found += [
            Neighbor(coordinate_from_canonical(one.target), self._hop, one.edge()) for one in kinds.values()
        ]
        self._bound()
        over = self._hop >= self._hops or len(self._found) >= self._limit
        self.frontier = [] if over else list(fresh)

    def answer(self) -> list[Neighbor]:
        """What was found."""
        return self._found[: self._limit]


class PathWalk(_Walk):
    """A path with the fewest edges from `start` to `goal`, at most `longest` of them."""

    def __init__(self, start: Coordinate, goal: Coordinate, longest: int) -> None:
        super().__init__(start)
        self._last = canonical_coordinate(goal)
        self._left = longest
        self._came_by: dict[str, list[Step]] = {}
        if self.first == self._last or longest < 1:
            self.frontier = []

    def advance(self, steps: Iterable[Step]) -> None:
        """Takes every outgoing edge of the frontier. Raises Unprocessable once 100,000 coordinates are passed."""
        self._left -= 1
        fresh = self._fresh(steps)
        for target, ways in fresh.items():
            # the best step says from where; those of other types between the same two stand beside it
            self._came_by[target] = [one for one in ways if one.source == ways[0].source]
        arrived = self._last in self.seen
        if not arrived:
            self._bound()
        self.frontier = [] if arrived or self._left <= 0 else list(fresh)

    def answer(self) -> list[Edge] | None:
        """The path's edges; none where start is goal, None where there is no path.

        Edges of several types between the same two follow one another, the heaviest first.
        """
        edges: list[Edge] = []
        at = self._last
        while at != self.first:
            if at not in self._came_by:
                return None
            ways = self._came_by[at]
            edges += [one.edge() for one in reversed(ways)]
            at = ways[0].source
        return edges[::-1]
