"""Everything about the vector store that one engine has: made with it, begun and ended with it."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from typing import Final

from memory_runtime.engine.following import Follower
from memory_runtime.engine.vectors.backing import VectorBacking
from memory_runtime.engine.vectors.feed import SINK, VectorFeed
from memory_runtime.engine.vectors.placement import Placement
from memory_runtime.engine.vectors.reconcile import Reconciler, Reconciliation
from memory_runtime.engine.vectors.route import ApproximateRoute
from memory_runtime.model.errors import SomaError, Unprocessable
from memory_runtime.model.threads import in_thread
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.contracts import Collection
from memory_runtime.stores.interfaces import StoreWiped
from memory_runtime.stores.sessions import Ledger, LedgerTransaction
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.supervision import Supervised

log = logging.getLogger(__name__)

ROUND_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 10.0
RENEW_EVERY: Final = 20
START_SECONDS: Final = 5.0
"""The longest that a start waits for the store: memories are served without it."""
PATIENCE: Final = 1.5
"""Times qdrant_timeout_seconds: an answer waits for one attempt, not for all that the policy allows."""
TURN: Final = "qdrant_keeper"
"""The fact that says who looks after the store: of several replicas only one fills and compares it."""
TURN_SECONDS: Final = 60.0


class VectorKeeper:
    """The vector store of one engine: its route, its feed, and a task that looks after it; `store` may be None."""

    def __init__(
        self,
        ledger: Ledger,
        follower: Follower,
        settings: SMFSettings,
        metrics: Metrics,
        clock: Callable[[], float],
        store: VectorBacking | None,
    ) -> None:
        self.store = store
        self._ledger = ledger
        self._follower = follower
        self._settings = settings
        self._metrics = metrics.vectors
        self._supervisor = metrics.tasks
        self._clock = clock
        if store is not None:
            follower.residency.enforce()
        placement = Placement(follower)
        self.route = ApproximateRoute(
            ledger,
            follower,
            placement,
            store,
            metrics.vectors,
            hybrid_default=settings.hybrid_recall_default,
            patience=PATIENCE * settings.qdrant_timeout_seconds,
        )
        self.feed = None if store is None else VectorFeed(ledger, store, placement, settings.vector_dim)
        if self.feed is not None:
            self.feed.compare = lambda: self.reconcile(repair=True)
        self._holder = uuid.uuid4().hex
        self._tasks: list[Supervised] = []
        self._has_turn = False
        self._rebuilding: Supervised | None = None
        self._passed: int | None = None
        self._due = 0.0
        self.note: str | None = None

    @property
    def sinks(self) -> tuple[VectorFeed, ...]:
        """What the relay has to feed."""
        return () if self.feed is None else (self.feed,)

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads /stats should know."""
        over = self._follower.residency.over(self._follower.index)
        budget = None
        if over and not self._follower.residency.enforced:
            budget = (
                f"index_budget_mb: {over} memories are beyond it and stay in memory, so that every answer is exact; "
                "name a Qdrant with SOMA_QDRANT_URL, or raise the budget"
            )
        return tuple(filter(None, (budget, self.note)))

    async def start(self) -> None:
        """Makes and checks the collection, and begins to look after it. A store that is away is waited for.

        Raises SettingsError where the collection contradicts the settings.
        """
        if self.store is not None:
            try:
                async with asyncio.timeout(START_SECONDS):
                    await self.store.ensure()
            except (SomaError, TimeoutError) as error:
                self.note = f"the vector store is away: {error}"
                log.warning("%s", self.note)
        self._due = self._clock() + self._settings.qdrant_reconcile_seconds
        self._tasks = [self._supervisor.start("index-budget", self._rounds)]
        if self.store is not None:
            self._tasks.append(self._supervisor.start("vector-store", self._looks))

    async def stop(self) -> None:
        """Ends what is under way; a fill goes on where it was."""
        for task in (*self._tasks, self._rebuilding):
            if task is not None:
                await task.stop()
        if self.store is not None:
            await self.store.close()

    async def _rounds(self) -> None:
        """Holds the index to its budget, and the turn while the store is filled or compared: that may take long."""
        turn = 0
        while True:
            try:
                given_up = await in_thread(self._follower.keep_within_budget)
                if given_up:
                    log.info("the index gave up %d rows beyond its budget", given_up)
                self._measure()
                if self._has_turn and turn % RENEW_EVERY == 0:
                    self._has_turn = await self._ledger.transact(self._takes_turn)
            except SomaError as error:
                log.warning("looking after the index's budget was put off: %s", error.message)
            turn += 1
            await asyncio.sleep(ROUND_SECONDS)

    async def _looks(self) -> None:
        while True:
            try:
                await self.look()
            except SomaError as error:
                log.warning("looking after the vector store was put off: %s", error.message)
            finally:
                self._has_turn = False
            await asyncio.sleep(LOOK_SECONDS)

    def _measure(self) -> None:
        follower, residency = self._follower, self._follower.residency
        held = 0 if residency.enforced else residency.over(follower.index) * residency.row_bytes
        self._metrics.beyond.set(max(0, self._memories() - len(follower.index)))
        self._metrics.over_budget.set(held)

    def _memories(self) -> int:
        return sum(n for key, n in dict(self._follower.counts).items() if key[3] == Collection.MEMORIES)

    async def look(self) -> None:
        """Sees how the store is; fills it where it was wiped, compares it with the ledger where that is due."""
        store, feed = self.store, self.feed
        if store is None or feed is None:
            return
        try:
            status = await store.status()
        except StoreWiped:
            self._metrics.reachable.set(1)
            self._metrics.points.set(0)
            self._metrics.behind.set(self._memories())
            if not feed.busy and await self._ledger.transact(self._takes_turn):
                await feed.start_over()
            return
        except (SomaError, SettingsError) as error:
            self._metrics.reachable.set(0)
            self.note = f"the vector store is away: {error}"
            return
        self.note = None
        self._metrics.reachable.set(1)
        self._metrics.points.set(status.points)
        self._metrics.indexed.set(status.indexed)
        self._metrics.queued.set(status.queued)
        self._metrics.behind.set(max(0, self._memories() - await store.count()))
        due = self._settings.qdrant_reconcile_seconds
        if due and self._clock() >= self._due and await self._ledger.transact(self._takes_turn):
            self._due = self._clock() + due
            await self.reconcile(repair=True)

    def _takes_turn(self, transaction: LedgerTransaction) -> bool:
        kept = transaction.view.facts().get(TURN)
        if kept is not None:
            holder, until = json.loads(kept)
            if holder != self._holder and until > self._clock():
                return False
        transaction.remember(TURN, json.dumps([self._holder, self._clock() + TURN_SECONDS]))
        self._has_turn = True
        return True

    async def reconcile(self, *, repair: bool) -> Reconciliation:
        """Compares store and ledger by range hashes, and mends what differs where `repair`.

        Raises Unprocessable where no store is named, Unavailable where it is away.
        """
        store, feed = self._wanted()
        reconciler = Reconciler(self._ledger, store, feed)
        try:
            found = await reconciler.run(repair=repair)
        except StoreWiped:
            if not repair:
                raise
            await feed.start_over()
            found = await reconciler.run(repair=True)
        for kind in ("missing", "stale", "foreign"):
            self._metrics.differences.labels(kind).inc(getattr(found, kind))
        self._metrics.reconciled.set(found.equal)
        level = logging.INFO if found.equal and not found.repaired else logging.WARNING
        log.log(
            level, "vector store compared with the ledger", extra={"equal": found.equal, "repaired": found.repaired}
        )
        if repair and found.equal:
            await self._forget_tombstones(store)
        return found

    async def _forget_tombstones(self, store: VectorBacking) -> None:
        """Those that the relay had passed at the comparison before this one: no write in flight is as old."""
        delivered = (await self._ledger.read(lambda view: view.sinks())).get(SINK, 0)
        if self._passed is not None:
            await store.purge_tombstones(below=self._passed + 1)
        self._passed = delivered

    async def rebuild(self) -> int:
        """Fills the store again from the first memory; returns the sequence that it holds. Raises as `reconcile`."""
        _, feed = self._wanted()
        return await feed.start_over()

    def begin_rebuild(self) -> bool:
        """`rebuild` in the background; False where one is under way. Raises Unprocessable where no store is named."""
        self._wanted()
        if self._rebuilding is not None and not self._rebuilding.done:
            return False
        self._rebuilding = self._supervisor.start("vector-store-rebuild", self._rebuild)
        return True

    async def _rebuild(self) -> None:
        try:
            await self.rebuild()
        except (SomaError, SettingsError) as error:
            # what is begun stays begun: the relay goes on with it
            log.warning("the rebuild of the vector store was put off: %s", error)

    def _wanted(self) -> tuple[VectorBacking, VectorFeed]:
        if self.store is None or self.feed is None:
            raise Unprocessable(
                "qdrant_url: no vector store is named", field="qdrant_url", remedy="set SOMA_QDRANT_URL"
            )
        return self.store, self.feed
