"""The relay's sink: carries the ledger's changes to the vector store, and fills it again from a scan where it must.

What is handed over is the memory as the ledger holds it now, which may be newer than the change: the newest sequence
wins in the store, so order and repeats do not matter. A fill goes over the ledger in order of id and says how far it
has come, so that it goes on there after a failure or in another replica.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from memory_runtime.engine.vectors.backing import VectorBacking
from memory_runtime.engine.vectors.placement import Placement
from memory_runtime.stores.contracts import Change, Collection, Lineage, Operation
from memory_runtime.stores.interfaces import StoreWiped, VectorPoint, VectorRemoval
from memory_runtime.stores.lineages import lineage_of
from memory_runtime.stores.resilience import in_halves
from memory_runtime.stores.sessions import Ledger, LedgerTransaction, LedgerView

log = logging.getLogger(__name__)

SINK: Final = "qdrant"
FILLED: Final = "qdrant_filled"
"""The fact that names the layout which the store was filled under."""
FILLING: Final = "qdrant_filling"
"""The fact that says how far a fill has come: layout, last id, and the sequence that it began at."""
PAGE: Final = 1000
REMEMBER_SECONDS: Final = 2.0


class VectorFeed:
    """A `Sink` of events.sinks. The relay is one caller of it, whoever looks after the store the other."""

    def __init__(self, ledger: Ledger, store: VectorBacking, placement: Placement, dim: int) -> None:
        self._ledger = ledger
        self._store = store
        self._placement = placement
        self._dim = dim
        self._ensured = False
        self._filling = asyncio.Lock()
        self.compare: Callable[[], Awaitable[object]] = _nothing
        """Compares the store with the ledger and mends what differs: set by who looks after the store."""

    @property
    def name(self) -> str:
        """The key of its cursor and the label of its metrics."""
        return SINK

    @property
    def busy(self) -> bool:
        """Whether a fill is under way."""
        return self._filling.locked()

    async def deliver(self, changes: Sequence[Change]) -> int:
        """Brings these memories to the store as they are now; returns the seq that it holds."""
        if not await self._agrees():
            return await self.rebuild()
        try:
            points, removals = await self._ledger.read(partial(self._read, changes))
            await self._store.upsert(points)
            await self._store.remove(removals)
        except StoreWiped:
            self._ensured = False
            return await self.rebuild()
        return changes[-1].seq

    async def _agrees(self) -> bool:
        """Whether the store is there and was filled under the rules in force."""
        facts = await self._ledger.read(_facts)
        self._store.follow_layout(self._placement.layout(facts))
        if not self._ensured:
            made = await self._store.ensure()
            self._ensured = True
            if made:
                return False
        return facts.get(FILLED) == str(self._store.layout)

    def _read(self, changes: Sequence[Change], view: LedgerView) -> tuple[list[VectorPoint], list[VectorRemoval]]:
        newest = {
            change.id.bytes: change
            for change in changes
            if change.operation is not Operation.LINK and change.collection is Collection.MEMORIES
        }
        points = self.points_of(list(newest), view)
        living = {point.id for point in points}
        chain = view.lineages()
        gone = [
            VectorRemoval(change.id, change.seq, lineage_of(chain, change.seq).epoch)
            for change in newest.values()
            if change.operation is Operation.DELETE and change.id not in living
        ]
        return points, gone

    def points_of(self, ids: Sequence[bytes], view: LedgerView) -> list[VectorPoint]:
        """The points of those of these memories that are alive."""
        # sequences first: a vector that is newer than its sequence is written again with the change that made it
        seqs = {key: record.seq for key, record in view.by_ids(ids).items()}
        return self._points(seqs, view)

    def _points(self, seqs: dict[bytes, int], view: LedgerView) -> list[VectorPoint]:
        chain, rows = view.lineages(), view.some(list(seqs), self._dim)
        return [point for run in rows for point in self._placement.points(run, seqs, chain)]

    async def reconcile(self, chain: Sequence[Lineage], since: str, cursor: int, position: str | None) -> None:
        """Takes out of the store what the ledger has lost, and puts in what it holds: a comparison of both, whole.

        The store does not say how far a future that was abandoned had come, so it is done for every new line.
        """
        del chain, since, cursor, position
        if not await self._agrees():
            await self.rebuild()
        await self.compare()

    async def rebuild(self) -> int:
        """Fills the store with every live memory; returns the seq that it then holds at least."""
        async with self._filling:
            await self._store.ensure()
            self._ensured = True
            facts = await self._ledger.read(_facts)
            self._store.follow_layout(self._placement.layout(facts))
            layout = self._store.layout
            after, began = await self._progress(facts, layout)
            # before the first point: whoever comes after a crash must know that this is not finished
            await self._ledger.transact(partial(_begun, layout, after, began))
            log.info("filling the vector store", extra={"layout": layout, "from": after.hex()})
            rows = await self._fill(layout, after, began)
            await self._ledger.transact(partial(_finished, layout))
            log.info("filled the vector store: %d memories", rows, extra={"layout": layout, "seq": began})
            return began

    async def start_over(self) -> int:
        """`rebuild` from the first id, whatever was filled before."""
        await self._ledger.transact(lambda transaction: transaction.forget(FILLING))
        return await self.rebuild()

    async def _progress(self, facts: dict[str, str], layout: int) -> tuple[bytes, int]:
        """Where to go on. An interrupted fill of the same rules counts only while what it filled is still there."""
        if FILLING in facts:
            kept, after, began = json.loads(facts[FILLING])
            if kept == layout and await self._store.count():
                return bytes.fromhex(after), int(began)
        return bytes(16), int(await self._ledger.read(_head))

    async def _fill(self, layout: int, after: bytes, began: int) -> int:
        rows, told = 0, time.monotonic()
        while True:
            points, last = await self._ledger.read(partial(self._page, after))
            if last is None:
                return rows
            await in_halves(points, self._upsert, _cannot_take)
            rows, after = rows + len(points), last
            if time.monotonic() - told > REMEMBER_SECONDS:
                await self._ledger.transact(partial(_begun, layout, after, began))
                told = time.monotonic()

    async def _upsert(self, points: Sequence[VectorPoint]) -> None:
        await self._store.upsert(points)

    def _page(self, after: bytes, view: LedgerView) -> tuple[list[VectorPoint], bytes | None]:
        stamps = view.stamps(after, PAGE)
        if not stamps:
            return [], None
        seqs = dict(stamps)
        return self._points(seqs, view), stamps[-1][0]

    async def close(self) -> None:
        """Nothing to let go of: the store is its owner's."""


async def _nothing() -> None:
    """No one looks after the store."""


def _cannot_take(point: VectorPoint, error: Exception) -> None:
    # a fill is not stopped by one memory; `soma vectors reconcile` shows that it is missing
    log.error("the vector store cannot take a memory: %s", type(error).__name__, extra={"id": str(point.id)})


def _facts(view: LedgerView) -> dict[str, str]:
    return view.facts()


def _head(view: LedgerView) -> int:
    return view.head()


def _begun(layout: int, after: bytes, began: int, transaction: LedgerTransaction) -> None:
    transaction.forget(FILLED)
    transaction.remember(FILLING, json.dumps([layout, after.hex(), began]))


def _finished(layout: int, transaction: LedgerTransaction) -> None:
    transaction.remember(FILLED, str(layout))
    transaction.forget(FILLING)
