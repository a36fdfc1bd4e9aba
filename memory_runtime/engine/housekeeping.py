"""What is done beside requests: index merges, access counts flushed in batches, expired memories deleted, trims."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import numpy as np

from memory_runtime.engine.following import Follower
from memory_runtime.engine.reembed import Reembedder
from memory_runtime.model.errors import SomaError
from memory_runtime.model.threads import in_thread
from memory_runtime.stores.contracts import Delete, Unit
from memory_runtime.stores.sessions import Ledger, LedgerView, Loaded
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.supervision import Supervised

log = logging.getLogger(__name__)

ROUND_SECONDS: Final = 1.0
QUIET_ROUNDS: Final = 30
"""Rounds without a write after which segments are merged further than writes alone would merge them."""
FLUSH_EVERY: Final = 5
SWEEP_EVERY: Final = 60
QUANTILES: Final = (0.1, 0.5, 0.9, 0.99)
EXPIRE_BATCH: Final = 500
REFOLD_BATCH: Final = 500
REFOLD_SECONDS: Final = 0.25
"""How long a round indexes texts of an older release by their words; a start does so for `REFOLD_AT_START_SECONDS`."""
REFOLD_AT_START_SECONDS: Final = 2.0
KEEP_IDEMPOTENCY_SECONDS: Final = 7 * 86400.0
KEEP_OUTBOX_ROWS: Final = 100_000


class AccessLog:
    """Counts recalls in memory; `take` empties it. A crash loses at most what was counted since the last flush."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._times: dict[bytes, float] = {}

    def note(self, ids: Iterable[uuid.UUID], at: float) -> None:
        """One access of each id. Called on the event loop only."""
        for one in ids:
            key = one.bytes
            self._counts[key] = self._counts.get(key, 0) + 1
            self._times[key] = at

    def give_back(self, taken: Iterable[tuple[int, float, bytes]]) -> None:
        """What was taken and could not be kept is noted again."""
        for count, at, key in taken:
            self._counts[key] = self._counts.get(key, 0) + count
            self._times[key] = max(at, self._times.get(key, at))

    def take(self) -> list[tuple[int, float, bytes]]:
        """(count, last time, id) of everything noted since the last call."""
        taken = [(count, self._times[key], key) for key, count in self._counts.items()]
        self._counts.clear()
        self._times.clear()
        return taken


class Housekeeper:
    """One task of the engine; what fails is logged, and the next round tries again."""

    def __init__(
        self,
        ledger: Ledger,
        follower: Follower,
        access: AccessLog,
        metrics: Metrics,
        clock: Callable[[], float],
        reembedder: Reembedder,
        history: tuple[int, float | None] = (16, None),
    ) -> None:
        """`history` says how many superseded versions of a memory are kept, and for how many seconds."""
        self._history = history
        self._ledger = ledger
        self._reembedder = reembedder
        self._follower = follower
        self._metrics = metrics
        self._access = access
        self._clock = clock
        self._folded = False
        self._turn = 0
        self._failures: list[Exception] = []
        self._task: Supervised | None = None

    def start(self) -> None:
        """Begins the rounds."""
        self._task = self._metrics.tasks.start("housekeeping", self._rounds)

    async def stop(self) -> None:
        """Ends the rounds and flushes what was counted."""
        if self._task is not None:
            await self._task.stop()
        with contextlib.suppress(SomaError):
            await self.flush_access()

    async def _rounds(self) -> None:
        quiet = 0
        seen = self._follower.applied_seq
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            self._turn += 1
            turn = self._turn
            quiet = quiet + 1 if self._follower.applied_seq == seen else 0
            seen = self._follower.applied_seq
            # apart: one that fails each time must not keep the others from their turn
            await self._in_turn(turn, self.mend)
            await self._in_turn(turn, self._refold_if_due)
            await self._in_turn(turn, partial(self._maintain, quiet >= QUIET_ROUNDS))
            await self._in_turn(turn, self.flush_access, every=FLUSH_EVERY)
            for work in (self.expire, self.spare, self.trim, self.sweep_versions, self.measure):
                await self._in_turn(turn, work, every=SWEEP_EVERY)
            self._raise_failures()

    async def _in_turn(self, turn: int, work: Callable[[], Awaitable[object]], *, every: int = 1) -> None:
        if turn % every:
            return
        try:
            await work()
        except SomaError as error:
            log.warning("housekeeping was put off: %s", error)
        except Exception as error:
            self._failures.append(error)

    def _raise_failures(self) -> None:
        """After a whole round: the supervisor logs and counts what nobody foresaw, and begins the rounds again."""
        failures, self._failures = self._failures, []
        if failures:
            raise failures[0]

    async def _refold_if_due(self) -> None:
        if not self._folded or self._turn % SWEEP_EVERY == 0:
            await self.refold(REFOLD_SECONDS)

    async def _maintain(self, quiet: bool) -> None:
        await in_thread(self._follower.index.maintain, quiet=quiet)

    async def refold(self, seconds: float) -> bool:
        """Indexes texts that an older release indexed by other words, for about so long; True once none is left.

        Each batch is durable by itself, and says by itself what is left: it goes on after a stop, on any replica.
        """
        until = time.monotonic() + seconds
        self._folded = not await self._ledger.read(lambda view: view.unfolded())
        while not self._folded and time.monotonic() < until:
            self._folded = await self._ledger.transact(lambda one: one.refold_words(REFOLD_BATCH)) < REFOLD_BATCH
        return self._folded

    async def mend(self) -> bool:
        """Builds the index anew where it could not follow the ledger; writes wait meanwhile. True if it had to."""
        if self._follower.in_step and not self._follower.outdated:
            return False
        if self._follower.outdated:
            log.info("another replica changed stored importances or vectors: the index is built anew")
            await self._reembedder.follow_switch(partial(self._ledger.exclusively, self._rebuild))
        else:
            log.warning("the index is out of step with the ledger and is built anew")
            await self._ledger.exclusively(self._rebuild)
        return True

    def _rebuild(self, view: LedgerView) -> None:
        """Where no change is applied, so that none can pass between the scan and the swap."""
        follower = self._follower
        found = Loaded(view.scan(follower.index.dim), view.coordinate_rows(), view.counts(), view.head())
        follower.rebuild(found, view.facts())

    async def measure(self) -> None:
        """Sets the gauges that cost a pass over the index: too dear for every scrape."""
        stats = await in_thread(self._follower.index.stats)
        metrics = self._metrics
        metrics.norm_error_max.set(stats.norm_error_max)
        metrics.decay_active.set(stats.decay_active)
        metrics.fraction_scanned.set(stats.fraction_scanned)
        metrics.hot_tier.set(stats.hot_tier_hit_ratio)
        metrics.index_bytes.set(stats.resident_bytes)
        metrics.index_segments.set(stats.segments)
        metrics.index_tombstones.set(stats.tombstones)
        newest = await self._ledger.read(lambda view: view.newest_importance())
        for quantile in QUANTILES if newest else ():
            metrics.importance.labels(f"{quantile:g}").set(float(np.quantile(newest, quantile)))

    async def flush_access(self) -> int:
        """Adds the noted accesses to the records, in one commit. Returns how many memories they were of."""
        taken = self._access.take()
        if taken:
            try:
                await self._ledger.transact(lambda transaction: transaction.add_accesses(taken))
            except BaseException:
                self._access.give_back(taken)
                raise
        return len(taken)

    async def expire(self) -> int:
        """Deletes what had expired, but for pinned and held memories; returns how many."""
        now, deleted = self._clock(), 0
        while True:
            found = await self._ledger.read(lambda view: view.expired(now, EXPIRE_BATCH))
            writes = [Delete(one, scope, kind, at=now, expired_before=now) for one, scope, kind in found]
            if writes:
                await self._ledger.commit(Unit(writes))
                deleted += len(writes)
            if len(writes) < EXPIRE_BATCH:
                return deleted

    async def spare(self) -> int:
        """Lets the index keep what is held beyond its ttl; returns how many.

        A hold is no change that the index follows: it hears of it here, before the ttl is over where the hold is older
        than a round.
        """
        now, span = self._clock(), 2 * SWEEP_EVERY * ROUND_SECONDS
        held = await self._ledger.read(lambda view: view.held_beyond(now - span, now + span))

        def refresh(view: LedgerView) -> None:
            for run in view.some(held, self._follower.index.dim):
                self._follower.refresh(run)

        if held:
            await self._ledger.exclusively(refresh)
        return len(held)

    async def trim(self) -> None:
        """Forgets idempotency rows after a week and changes that every sink has passed, beyond the last 100,000."""
        before = self._clock() - KEEP_IDEMPOTENCY_SECONDS
        await self._ledger.transact(lambda transaction: transaction.trim(before, KEEP_OUTBOX_ROWS))

    async def sweep_versions(self) -> int:
        """Forgets superseded versions beyond the bounds of the settings; returns how many."""
        most, age = self._history
        before = -math.inf if age is None else self._clock() - age
        return await self._ledger.transact(lambda transaction: transaction.sweep_versions(before, most))
