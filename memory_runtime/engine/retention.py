"""What is forgotten, and how: a background sweep that archives first, and a dry run that lists what would go.

Nothing goes until `retention_enabled`. A sweep reads the ledger in short slices, rests after each round of
`retention_round_rows` or `retention_round_ms`, and stops between two batches when the engine closes. A batch is
archived, and when the archive is durable, purged in one unit with its audit line: a crash in between leaves both the
memories and the archive, and the next sweep writes the same archive again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from memory_runtime.embedding import EmbeddingProvider
from memory_runtime.engine.archives import Archive, Archives
from memory_runtime.engine.pacing import Interrupted, Pace
from memory_runtime.engine.restoring import as_puts
from memory_runtime.model.actor import current_actor
from memory_runtime.model.coordinates import Coordinate, canonical_coordinate
from memory_runtime.model.errors import InvalidArgument, NotFound, SomaError, Unprocessable
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.model.threads import in_thread
from memory_runtime.scoring.retention import Chosen, Extent, Lowest, RetentionRows, RetentionWeights, rows_of
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import AuditEntry
from memory_runtime.stores.sessions import Ledger, LedgerView
from memory_runtime.stores.values import Kept, Restored
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.supervision import Supervised

log = logging.getLogger(__name__)

SLICE: Final = 1000
BATCH: Final = 200
MOST_AT_ONCE: Final = 20_000
"""Memories chosen by one sweep: what the choice holds in memory. A larger excess takes another sweep at once."""
STOP_GRACE: Final = 15.0
REST: Final = 1.0
"""Rest for each second of work: a sweep takes at most half of one core."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a namespace may hold: seconds, memories and bytes; None and 0 are no bound."""

    ttl: float | None = None
    max_rows: int = 0
    max_bytes: int = 0

    def __post_init__(self) -> None:
        for name in ("ttl", "max_rows", "max_bytes"):
            value = getattr(self, name)
            if value is not None and not (value > 0 or (value == 0 and name != "ttl")):
                raise InvalidArgument(f"{name}: must be greater than zero", field=name, remedy="leave it out for none")

    @property
    def any(self) -> bool:
        """Whether there is a bound at all."""
        return bool(self.ttl or self.max_rows or self.max_bytes)

    def before(self, now: float) -> float:
        """The moment before which a memory is over its time."""
        return float("-inf") if self.ttl is None else now - self.ttl


@dataclass(frozen=True, slots=True)
class Planned:
    """A memory that would go: its R, its bytes, and the bound that asks for it (ttl, rows or bytes)."""

    record: MemoryRecord
    score: float
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep at `at` would do in a scope; `listed` is the first of what goes, `leaving` counts all by reason.

    `complete` is False where more than one sweep can choose at once is over the bounds.
    """

    scope: Scope
    enabled: bool
    bounds: Bounds
    at: float
    extent: Extent
    leaving: dict[str, int]
    leaving_bytes: int
    listed: tuple[Planned, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did. `more` says that there is more to do at once; `interrupted` that the engine was closing."""

    examined: int
    evicted: int
    archives: tuple[str, ...]
    more: bool
    interrupted: bool = False


class Retention:
    """The retention of one engine: `plan` and `restore` for whoever asks, `sweep` in the background."""

    def __init__(
        self,
        ledger: Ledger,
        provider: EmbeddingProvider,
        settings: SMFSettings,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self.archives = Archives(settings.retention_archive_dir or settings.data_dir / "archive")
        self.bounds = Bounds(settings.retention_ttl, settings.retention_max_rows, settings.retention_max_bytes)
        self.weights = RetentionWeights(
            importance=settings.retention_importance_weight,
            recency=settings.retention_recency_weight,
            frequency=settings.retention_frequency_weight,
            cost=settings.retention_cost_weight,
            access_half_life=settings.retention_access_half_life,
            # 0 takes importance out of the ranking; what retention makes of it is said by its own weight
            importance_exponent=settings.importance_exponent or 1.0,
            importance_floor=settings.importance_floor,
        )
        self.enabled = settings.retention_enabled
        self._stop = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._task: Supervised | None = None

    def start(self) -> None:
        """Begins the sweeps; one that finds nothing enabled costs nothing."""
        self._metrics.archive_bytes.set_function(self.archives.total_bytes)
        self._task = self._metrics.tasks.start("retention", self._sweeps)

    async def stop(self) -> None:
        """Ends the sweep after the batch that it is at."""
        self._stop.set()
        if self._task is not None:
            await self._task.stop(STOP_GRACE)
        async with self._one_at_a_time:
            pass  # a sweep that somebody asked for ends too, before the ledger is closed

    async def _sweeps(self) -> None:
        more = False
        while not self._stop.is_set():
            if not more:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), self._settings.retention_interval_seconds)
            more = False
            if not self.enabled or self._stop.is_set():
                continue
            try:
                more = (await self.sweep()).more
            except SomaError as error:
                log.warning("retention was put off: %s", error)

    async def plan(self, scope: Scope, *, bounds: Bounds | None = None, limit: int = 100) -> Plan:
        """A dry run: what a sweep would take from the scope now, under `bounds` (None: the configured ones)."""
        if not 1 <= limit <= 1000:
            raise InvalidArgument("limit: must be from 1 to 1000", field="limit", remedy="ask for fewer")
        asked, now = bounds or self.bounds, self._clock()
        pace = Pace(0, 0.0, self._stop, rest=0.0)
        try:
            extent = (await self._survey(scope, asked, now, pace)).get(scope, Extent())
            chosen = (await self._choose({scope: extent}, scope, asked, now, pace))[scope]
        except Interrupted:
            chosen, extent = [], Extent()
        first = chosen[:limit]
        records = await self._ledger.read(lambda view: _described(view, first))
        return Plan(
            scope=scope,
            enabled=self.enabled,
            bounds=asked,
            at=now,
            extent=extent,
            leaving=dict(Counter(one.reason for one in chosen)),
            leaving_bytes=sum(one.size for one in chosen),
            listed=tuple(
                Planned(records[one.row], one.score, one.size, one.reason) for one in first if one.row in records
            ),
            complete=len(chosen) < MOST_AT_ONCE,
        )

    async def sweep(self, scope: Scope | None = None) -> Swept:
        """Archives and purges what is over the bounds, of one scope or of all.

        Raises Unprocessable while retention is not enabled, Unavailable where the archive cannot be written.
        """
        if not self.enabled:
            raise Unprocessable(
                "retention_enabled: retention is off, so nothing is forgotten",
                field="retention_enabled",
                remedy="look at the plan, then set SOMA_RETENTION_ENABLED=true",
            )
        settings = self._settings
        pace = Pace(settings.retention_round_rows, settings.retention_round_ms / 1000, self._stop, rest=REST)
        archives: list[str] = []
        evicted, more, interrupted = 0, False, False
        async with self._one_at_a_time:
            now = self._clock()
            try:
                extents = await self._survey(scope, self.bounds, now, pace)
                for place, chosen in (await self._choose(extents, scope, self.bounds, now, pace)).items():
                    more = more or len(chosen) >= MOST_AT_ONCE // max(1, len(extents))
                    for batch in _batches(chosen):
                        archive, gone = await self._evict(place, batch)
                        archives.extend(archive)
                        evicted += gone
                        await pace.spent(len(batch))
            except Interrupted:
                interrupted = True
        if evicted:
            log.info("retention: archived and purged", extra={"evicted": evicted, "archives": len(archives)})
        return Swept(pace.examined, evicted, tuple(archives), more and evicted > 0, interrupted)

    async def leaving(self) -> list[bytes]:
        """The ids that a sweep of everything would take now: what enabling retention would do to answers."""
        pace, now = Pace(0, 0.0, self._stop, rest=0.0), self._clock()
        try:
            extents = await self._survey(None, self.bounds, now, pace)
            chosen = await self._choose(extents, None, self.bounds, now, pace)
        except Interrupted:
            return []
        rows = [one.row for several in chosen.values() for one in several]
        return await self._ledger.read(lambda view: view.ids_of(rows))

    async def _slices(self, scope: Scope | None, pace: Pace) -> AsyncIterator[dict[Scope, RetentionRows]]:
        after: int | None = 0
        dim = self._settings.vector_dim
        while after is not None:
            start = after
            found = await self._ledger.read(
                lambda view, start=start: view.measure(start, SLICE, dim, scope)  # type: ignore[misc]
            )
            yield {place: rows_of(rows) for place, rows in found.by_scope.items()}
            after = found.last
            await pace.spent(found.rows)

    async def _survey(self, scope: Scope | None, bounds: Bounds, now: float, pace: Pace) -> dict[Scope, Extent]:
        """The extent of every namespace that is over its bounds."""
        extents: dict[Scope, Extent] = {}
        async for found in self._slices(scope, pace):
            for place, rows in found.items():
                extents[place] = extents.get(place, Extent()).with_rows(rows, stored_before=bounds.before(now))
        if scope is not None:
            return extents
        return {
            place: extent
            for place, extent in extents.items()
            if extent.ttl_rows or any(extent.excess(bounds.max_rows, bounds.max_bytes))
        }

    async def _choose(
        self, extents: dict[Scope, Extent], scope: Scope | None, bounds: Bounds, now: float, pace: Pace
    ) -> dict[Scope, list[Chosen]]:
        most = MOST_AT_ONCE // max(1, len(extents))
        before = bounds.before(now)
        lowest = {place: Lowest(self.weights, extent, now, before, most) for place, extent in extents.items()}
        if lowest:
            async for found in self._slices(scope, pace):
                for place in found.keys() & lowest.keys():
                    lowest[place].add(found[place])
        return {place: one.chosen(bounds.max_rows, bounds.max_bytes) for place, one in lowest.items()}

    async def _evict(self, scope: Scope, chosen: Sequence[Chosen]) -> tuple[list[str], int]:
        kept = await self._ledger.read(lambda view: view.kept([one.row for one in chosen]))
        if not kept:
            return [], 0
        archive = await in_thread(self.archives.write, scope, kept)
        by_row = {one.row: one.reason for one in chosen}
        reasons = {one.record.id: by_row[one.row] for one in kept}
        gone = await self._purge(scope, archive, kept, reasons)
        for reason, count in Counter(reasons[one] for one in gone).items():
            self._metrics.evictions.labels(reason).inc(count)
        return [archive.name], len(gone)

    async def _purge(
        self, scope: Scope, archive: Archive, kept: Sequence[Kept], reasons: dict[uuid.UUID, str]
    ) -> list[uuid.UUID]:
        detail = {"archived": archive.memories, "reasons": dict(Counter(reasons.values()))}
        entry = AuditEntry(
            scope.tenant, "retention", "retention.purge", f"{scope.namespace}/{archive.name}", self._clock(), detail
        )
        records = [one.record for one in kept]
        gone = await self._ledger.transact(lambda transaction: transaction.purge(records, self._clock(), entry))
        return [one.id for one in gone]

    async def hold(
        self,
        scope: Scope,
        coordinate: Coordinate,
        memory_type: str | None = None,
        *,
        hold: bool = True,
        actor: str = "",
    ) -> int:
        """Puts the memories at a coordinate under a legal hold, or ends it; returns how many. Raises NotFound."""
        text = canonical_coordinate(coordinate)
        action = "retention.hold" if hold else "retention.release"
        entry = AuditEntry(scope.tenant, actor or current_actor(), action, f"{scope.namespace}/{text}", self._clock())
        changed = await self._ledger.transact(
            lambda transaction: transaction.hold(scope, text, memory_type, hold, entry)
        )
        if not changed:
            raise NotFound("no memory at this coordinate", field="coord", remedy="check coordinate, type and namespace")
        return changed

    async def listed(self, scope: Scope) -> list[Archive]:
        """The scope's archives, oldest first."""
        return await in_thread(self.archives.listed, scope)

    async def restore(self, scope: Scope, name: str, *, pin: bool = False, actor: str = "") -> Restored:
        """Puts an archive's memories back, with the i, times, accesses and links that they had; `pin` keeps them.

        What lives at an id is left as it is, so restoring twice changes nothing. A vector of another embedding
        revision is made anew from the payload. Raises NotFound, Conflict for a damaged file or another dimension.
        """
        kept = await in_thread(self.archives.read, scope, name)
        memories = await as_puts(kept, self._provider, self._settings.vector_dim, pin=pin)
        now = self._clock()
        entry = AuditEntry(
            scope.tenant, actor or current_actor(), "retention.restore", f"{scope.namespace}/{name}", now
        )
        return await self._ledger.transact(lambda transaction: transaction.restore(memories, now, entry))


def _batches(chosen: Sequence[Chosen]) -> Iterator[Sequence[Chosen]]:
    for start in range(0, len(chosen), BATCH):
        yield chosen[start : start + BATCH]


def _described(view: LedgerView, chosen: Sequence[Chosen]) -> dict[int, MemoryRecord]:
    found: dict[int, MemoryRecord] = {}
    for batch in _batches(chosen):
        found |= view.described([one.row for one in batch])
    return found
