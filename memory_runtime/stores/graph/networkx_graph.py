"""A graph in this process's memory, by NetworkX: quick, gone with the process, and bounded, which it says.

About 1 KB an edge. Every edge beyond `max_edges` is refused: a graph that outgrows it belongs in SQL or Neo4j.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import networkx as nx

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import Coordinate, canonical_coordinate
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Edge, Scope
from memory_runtime.model.threads import in_thread
from memory_runtime.stores.contracts import Neighbor
from memory_runtime.stores.graph.mirror import NOWHERE, Edits, W, filling, overtaken
from memory_runtime.stores.walking import NeighborWalk, PathWalk, Step, step_of

if TYPE_CHECKING:
    Graph = nx.MultiDiGraph[str]
else:
    Graph = nx.MultiDiGraph


class NetworkXGraph:
    """`IGraphStore` in memory. Walks run on a thread of their own; a lock keeps them and writes apart."""

    def __init__(self, max_edges: int = 1_000_000) -> None:
        """`max_edges` bounds all scopes together."""
        self.max_edges = max_edges
        self._graphs: dict[Scope, Graph] = {}
        self._edges = 0
        self._position = NOWHERE
        self.ledger = ""
        self._open = False
        self._lock = threading.Lock()

    async def start(self) -> None:
        """Begins, empty."""
        self._open = True

    async def close(self) -> None:
        """Lets everything go."""
        self._open = False
        with self._lock:
            self._graphs.clear()
            self._edges, self._position = 0, NOWHERE

    async def ping(self) -> bool:
        """Whether it was started."""
        return self._open

    def _check(self) -> None:
        if not self._open:
            raise Unavailable("graph: closed", remedy="it ends with the process", retry_after=1.0)

    async def link(self, scope: Scope, edges: Iterable[Edge]) -> None:
        """Writes them, all or none. Raises Unavailable where they would pass the bound."""
        self._check()
        steps = {(one.source, one.target, one.link_type): one for one in map(step_of, edges)}
        for step in steps.values():
            canonical_json(dict(step.metadata), field="metadata")
        with self._lock:
            graph = self._graphs.get(scope)
            new = sum(graph is None or not graph.has_edge(*key) for key in steps)
            if self._edges + new > self.max_edges:
                raise Unavailable(
                    f"graph_max_edges: {self._edges} edges are held in memory, and {self.max_edges} is the bound",
                    field="graph_max_edges",
                    remedy="raise it, or set SOMA_GRAPH_BACKEND=sql or neo4j",
                )
            if new and graph is None:
                graph = self._graphs[scope] = Graph()
            for step in steps.values():
                graph.add_edge(step.source, step.target, key=step.link_type, step=step)  # type: ignore[union-attr]
            self._edges += new

    async def unlink(self, scope: Scope, source: Coordinate, target: Coordinate, link_type: str | None = None) -> int:
        """Removes the edges between the two, of one type or of all."""
        self._check()
        first, last = canonical_coordinate(source), canonical_coordinate(target)
        with self._lock:
            graph = self._graphs.get(scope)
            if graph is None or not graph.has_node(first):
                return 0
            held = graph.get_edge_data(first, last) or {}
            gone = [key for key in held if link_type in {None, key}]
            for key in gone:
                graph.remove_edge(first, last, key=key)
            self._tidy(scope, graph, (first, last))
            self._edges -= len(gone)
            return len(gone)

    async def forget(self, scope: Scope, coordinates: Iterable[Coordinate]) -> int:
        """Removes every edge to or from them."""
        self._check()
        with self._lock:
            graph = self._graphs.get(scope)
            if graph is None:
                return 0
            before = graph.number_of_edges()
            for coordinate in map(canonical_coordinate, coordinates):
                if graph.has_node(coordinate):
                    around = {*graph.successors(coordinate), *graph.predecessors(coordinate)} - {coordinate}
                    graph.remove_node(coordinate)
                    self._tidy(scope, graph, around)
            gone = before - graph.number_of_edges()
            self._edges -= gone
            return gone

    def _tidy(self, scope: Scope, graph: Graph, around: Iterable[str]) -> None:
        graph.remove_nodes_from([node for node in set(around) if graph.has_node(node) and graph.degree(node) == 0])
        if not graph:
            del self._graphs[scope]

    def _outgoing(self, scope: Scope, sources: Sequence[str], link_type: str | None) -> list[Step]:
        graph = self._graphs.get(scope)
        if graph is None:
            return []
        held = [one for one in sources if graph.has_node(one)]
        found: Iterable[Any] = graph.out_edges(held, keys=True, data="step")
        return [step for _, _, key, step in found if link_type in {None, key}]

    async def neighbors(
        self, scope: Scope, start: Coordinate, *, link_type: str | None = None, hops: int = 1, limit: int = 100
    ) -> list[Neighbor]:
        """As the protocol says; the walk sees one state of the graph."""
        walk, _ = await self.walk(lambda: NeighborWalk(start, hops, limit), scope, link_type)
        return walk.answer()

    async def shortest_path(
        self,
        scope: Scope,
        start: Coordinate,
        goal: Coordinate,
        *,
        link_type: str | None = None,
        max_length: int = 10,
    ) -> list[Edge] | None:
        """As the protocol says; the walk sees one state of the graph."""
        walk, _ = await self.walk(lambda: PathWalk(start, goal, max_length), scope, link_type)
        return walk.answer()

    async def walk(self, begin: Callable[[], W], scope: Scope, link_type: str | None) -> tuple[W, int]:
        """A walk on a thread, during which nothing is written."""
        self._check()
        return await in_thread(self._walk, begin(), scope, link_type)

    def _walk(self, walk: W, scope: Scope, link_type: str | None) -> tuple[W, int]:
        with self._lock:
            while walk.frontier:
                walk.advance(self._outgoing(scope, walk.frontier, link_type))
            return walk, self._position

    async def edges(self, scope: Scope) -> AsyncIterator[Edge]:
        """Every edge of the scope as it was when the first was asked for."""
        self._check()
        with self._lock:
            graph = self._graphs.get(scope)
            found: Iterable[Any] = () if graph is None else graph.edges(data="step")
            steps: list[Step] = [step for _, _, step in found]
        for step in steps:
            yield step.edge()

    async def count(self, scope: Scope | None = None) -> int:
        """How many edges."""
        self._check()
        with self._lock:
            if scope is None:
                return self._edges
            graph = self._graphs.get(scope)
            return 0 if graph is None else int(graph.number_of_edges())

    async def position(self) -> int:
        """How far it has followed the ledger."""
        self._check()
        return self._position

    async def follow(self, edits: Sequence[Edits], position: int, *, expected: int) -> None:
        """Makes the edits and moves on; only what `link` refuses for want of room leaves it half done, and nowhere."""
        if self._position != expected:
            raise overtaken()
        try:
            for one in edits:
                await self.forget(one.scope, one.cleared)
                for source, link_type, target in one.removed:
                    await self.unlink(one.scope, source, target, link_type)
                await self.link(one.scope, one.edges)
        except Unavailable:
            self._position = NOWHERE
            raise
        self._position = position

    async def wipe(self) -> int:
        """Forgets everything."""
        self._check()
        with self._lock:
            self._graphs.clear()
            self._edges = 0
            self._position = filling()
            return self._position
