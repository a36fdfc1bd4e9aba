"""What keeps a mirror equal to the ledger's graph: it takes the outbox's changes, and writes the ledger's own edges.

A change only says where to look. What is written is what the ledger holds there at that moment, so changes may come
twice, late, or in another cut, and the mirror ends where the ledger is. `GraphFeed` is a `Sink` of the events' relay
(for a mirror that all replicas share) and is driven by `Following` for one that each process has for itself.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from memory_runtime.model.coordinates import coordinate_from_canonical
from memory_runtime.model.records import Edge, Scope
from memory_runtime.stores.contracts import Change, Collection, EdgeKey, Lineage, Operation
from memory_runtime.stores.graph.mirror import Edits, GraphMirror
from memory_runtime.stores.lineages import holds
from memory_runtime.stores.resilience import in_halves
from memory_runtime.stores.sessions import Ledger, LedgerView

log = logging.getLogger(__name__)

_PAGE: Final = 2_000


@dataclass(slots=True)
class _Places:
    """Where to look in one scope: what may have lost its last memory, and links that were written."""

    deleted: set[str] = field(default_factory=set)
    linked: set[EdgeKey] = field(default_factory=set)


class GraphFeed:
    """Delivers changes to a mirror. One call at a time."""

    def __init__(self, ledger: Ledger, mirror: GraphMirror, name: str) -> None:
        """`name` is the sink's, and stays for good."""
        self.name = name
        self._ledger = ledger
        self._mirror = mirror
        self._delivered = 0
        self._started = False

    async def deliver(self, changes: Sequence[Change]) -> int:
        """Brings the mirror to the ledger's state wherever the changes were; builds it anew where it lost its own.

        Returns the seq that it holds. Raises Unavailable, or Conflict where another process feeds it too.
        """
        await self._begin()
        position = await self._mirror.position()
        least, most = await self._ledger.read(lambda view: (view.sinks().get(self.name, 0), view.head()))
        if position < max(least, self._delivered) or position > most:
            # below: wiped, or restored from before; above: of another ledger, or of this one before it was restored
            log.warning("graph %s is at %d, not where it was left: it is built anew", self.name, position)
            return await self.rebuild()
        places = _places(changes)
        if places is None:
            return await self.rebuild()
        edits = await self._ledger.read(lambda view: [_edits(view, scope, one) for scope, one in places.items()])
        reached = max(position, changes[-1].seq)
        await self._mirror.follow(edits, reached, expected=position)
        self._delivered = reached
        return reached

    async def reconcile(self, chain: Sequence[Lineage], since: str, cursor: int, position: str | None) -> None:
        """Builds the mirror anew where it has followed a future that the ledger has lost."""
        del cursor, position
        await self._begin()
        if not holds(chain, since, await self._mirror.position()):
            log.warning("graph %s has followed what the ledger has lost: it is built anew", self.name)
            await self.rebuild()

    async def rebuild(self) -> int:
        """Fills the mirror with every edge of the ledger; readers ask the ledger meanwhile. Cost: all edges."""
        await self._begin()
        # what changes from here on is delivered once more afterwards
        seq = await self._ledger.read(lambda view: view.head())
        filling = await self._mirror.wipe()
        count = 0
        async for scope, edges in self._everything():
            await in_halves(edges, partial(self._fill, scope, filling), _cannot_take)
            count += len(edges)
        await self._mirror.follow([], seq, expected=filling)
        self._delivered = seq
        log.info("graph %s was built anew: %d links", self.name, count)
        return seq

    async def _fill(self, scope: Scope, filling: int, edges: Sequence[Edge]) -> None:
        await self._mirror.follow([Edits(scope, edges=edges)], filling, expected=filling)

    async def close(self) -> None:
        """Ends the mirror's connections."""
        await self._mirror.close()

    async def _begin(self) -> None:
        if not self._started:
            await self._mirror.start()
            self._started = True

    async def _everything(self) -> AsyncIterator[tuple[Scope, list[Edge]]]:
        for scope in await self._ledger.read(lambda view: view.edge_scopes()):
            after: EdgeKey | None = None
            while edges := await self._ledger.read(
                lambda view, scope=scope, after=after: view.edges(scope, after=after, limit=_PAGE)  # type: ignore[misc]
            ):
                yield scope, edges
                after = edges[-1].source, edges[-1].link_type, edges[-1].target


def _cannot_take(edge: Edge, error: Exception) -> None:
    # a fill is not stopped by one link
    log.error("the graph cannot take a link: %s", type(error).__name__, extra={"link_type": edge.link_type})


def touches_edges(change: Change) -> bool:
    """Whether the change can have made, altered or removed a link."""
    return change.operation is Operation.LINK or (
        change.operation is Operation.DELETE and change.collection is Collection.MEMORIES
    )


def _places(changes: Sequence[Change]) -> dict[Scope, _Places] | None:
    """Where the changes were; None where one does not say (written before migration 0002)."""
    places: defaultdict[Scope, _Places] = defaultdict(_Places)
    for change in changes:
        if not touches_edges(change):
            continue
        if change.operation is Operation.DELETE:
            if not change.coordinate:
                return None
            places[change.scope].deleted.add(change.coordinate)
        else:
            body = json.loads(change.payload or "null")
            if body is None:
                return None
            ends = coordinate_from_canonical(body["from"]), coordinate_from_canonical(body["to"])
            places[change.scope].linked.add((ends[0], body["link_type"], ends[1]))
    return dict(places)


def _edits(view: LedgerView, scope: Scope, places: _Places) -> Edits:
    coordinates = [coordinate_from_canonical(one) for one in sorted(places.deleted)]
    linked = sorted(places.linked)
    standing = [*view.edges_at(scope, coordinates), *view.edges_standing(scope, linked)]
    return Edits(scope, coordinates, linked, standing)
