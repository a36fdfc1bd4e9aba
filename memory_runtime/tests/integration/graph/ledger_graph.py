"""Graphs for tests: the stores beside the ledger, and the ledger itself seen as one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import numpy as np

from memory_runtime.model.coordinates import Coordinate, canonical_coordinate, memory_id
from memory_runtime.model.records import Edge, Scope
from memory_runtime.stores.contracts import Delete, Link, Neighbor, Put, Unit
from memory_runtime.stores.sessions import Ledger


class LedgerGraph:
    """The ledger's graph with the verbs of a graph store: a coordinate is forgotten by deleting its memory."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def link(self, scope: Scope, edges: Iterable[Edge]) -> None:
        edges = list(edges)
        ends = dict.fromkeys(end for edge in edges for end in (edge.source, edge.target))
        await self.ledger.commit(Unit([_put(scope, end) for end in ends]))
        await self.ledger.commit(Unit([Link(scope, edge, 1.0) for edge in edges]))

    async def forget(self, scope: Scope, coordinates: Iterable[Coordinate]) -> int:
        before = await self.count(scope)
        await self.ledger.commit(Unit([Delete(_id(scope, one), scope, "episodic", 2.0) for one in coordinates]))
        return before - await self.count(scope)

    async def neighbors(
        self, scope: Scope, start: Coordinate, *, link_type: str | None = None, hops: int = 1, limit: int = 100
    ) -> list[Neighbor]:
        return await self.ledger.read(
            lambda view: view.neighbors(scope, start, link_type=link_type, hops=hops, limit=limit)
        )

    async def shortest_path(
        self, scope: Scope, start: Coordinate, goal: Coordinate, *, link_type: str | None = None, max_length: int = 10
    ) -> list[Edge] | None:
        return await self.ledger.read(
            lambda view: view.shortest_path(scope, start, goal, link_type=link_type, max_length=max_length)
        )

    async def edges(self, scope: Scope) -> AsyncIterator[Edge]:
        after = None
        while page := await self.ledger.read(lambda view, after=after: view.edges(scope, after=after, limit=2)):
            for edge in page:
                yield edge
            after = (page[-1].source, page[-1].link_type, page[-1].target)

    async def count(self, scope: Scope | None = None) -> int:
        scopes = await self.ledger.read(lambda view: view.edge_scopes()) if scope is None else [scope]
        return sum([1 for one in scopes async for _ in self.edges(one)])


def _id(scope: Scope, coordinate: Coordinate):
    return memory_id(scope.tenant, scope.namespace, "episodic", canonical_coordinate(coordinate))


def _put(scope: Scope, coordinate: Coordinate) -> Put:
    return Put(
        id=_id(scope, coordinate),
        scope=scope,
        memory_type="episodic",
        coordinate=canonical_coordinate(coordinate),
        payload="{}",
        search_text="",
        event_time=0.0,
        ingest_time=0.0,
        vector=np.array([1, 0, 0], np.float32),
    )
