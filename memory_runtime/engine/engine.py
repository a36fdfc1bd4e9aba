"""The memory engine: every use case, for whatever surface asks. Times are epoch seconds; vectors float32 [dim]."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from typing import Any, Final

from memory_runtime.embedding.switching import SwitchingProvider
from memory_runtime.engine import graphing, reporting
from memory_runtime.engine.cache import RecordCache
from memory_runtime.engine.compatibility import Terms
from memory_runtime.engine.following import Follower
from memory_runtime.engine.gate import Gate
from memory_runtime.engine.gates import Gates
from memory_runtime.engine.gathering import Gathering
from memory_runtime.engine.graphs import Graphs
from memory_runtime.engine.housekeeping import REFOLD_AT_START_SECONDS, AccessLog, Housekeeper
from memory_runtime.engine.importance_rebuild import ImportanceRebuild
from memory_runtime.engine.importing import ExportedMemory, Imported, Importer, check_exported
from memory_runtime.engine.past import was_at_coordinate
from memory_runtime.engine.recalling import Query, Recaller
from memory_runtime.engine.reembed import Reembedder
from memory_runtime.engine.retention import Retention
from memory_runtime.engine.sampling import Sampling
from memory_runtime.engine.snapshots import Snapshots
from memory_runtime.engine.starting import open_and_load
from memory_runtime.engine.type_bound import TypeBound
from memory_runtime.engine.types import (
    CoordinateHit,
    GraphPath,
    Neighbor,
    Page,
    Readiness,
    RecallRequest,
    RecallResult,
    Stats,
)
from memory_runtime.engine.validation import Checked, body_hash, check_item, check_recall, check_time
from memory_runtime.engine.vectors.backing import VectorBacking
from memory_runtime.engine.vectors.keeping import VectorKeeper
from memory_runtime.engine.writing import Storekeeper
from memory_runtime.model.coordinates import Coordinate, make_coordinate
from memory_runtime.model.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    SomaError,
    Unavailable,
)
from memory_runtime.model.records import DeleteReceipt, Edge, MemoryRecord, Scope, StoreItem, StoreReceipt, Vector
from memory_runtime.model.threads import in_thread
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.answer_size import answer_of
from memory_runtime.stores.contracts import EdgeKey
from memory_runtime.stores.resilience.deadline import remaining
from memory_runtime.stores.sessions import Ledger, LedgerView
from memory_runtime.telemetry.heartbeat import Heartbeat
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.supervision import stop_all

MIN_SEQ_WAIT_SECONDS: Final = 2.0
MAX_RANGE: Final = 10_000
PAGE_PART: Final = 100
VECTOR_TEXT: Final = 22
"""Bytes of a number of a vector as JSON."""


class MemoryEngine:
    """Made by `build_engine`, begun by `start`, ended by `close`. Its methods raise SomaError and nothing else."""

    def __init__(
        self,
        settings: SMFSettings,
        ledger: Ledger,
        follower: Follower,
        provider: SwitchingProvider,
        metrics: Metrics,
        graphs: Graphs,
        cache: RecordCache,
        clock: Callable[[], float] = time.time,
        vector_store: VectorBacking | None = None,
    ) -> None:
        self.settings = settings
        self.cache = cache
        self.graphs = graphs
        self.ledger = ledger
        self.follower = follower
        self.provider = provider
        self.metrics = metrics
        self.clock = clock
        self.notes: tuple[str, ...] = ()
        self.heartbeat = Heartbeat()
        self._opening: asyncio.Future[tuple[str, ...]] | None = None
        self._started = False
        self._closing = False
        self._access = AccessLog()
        self._gate = Gate()
        self.reembedder = Reembedder(ledger, follower, provider, self._gate, clock, metrics.tasks)
        self._housekeeper = Housekeeper(
            ledger,
            follower,
            self._access,
            metrics,
            clock,
            self.reembedder,
            (settings.history_versions, settings.history_age),
        )
        self.snapshots = Snapshots(ledger, follower, settings, metrics.tasks)
        self._types = TypeBound(settings.max_memory_types, follower.living_types)
        self._recaller = Recaller(follower, settings)
        self._gathering = Gathering(ledger, self._answer, clock)
        self._storekeeper = Storekeeper(ledger, provider, settings, clock, cache.commit)
        self._importer = Importer(ledger, provider, self._storekeeper, settings, clock, cache.written)
        self.retention = Retention(ledger, provider, settings, metrics, clock)
        self.sampling = Sampling(follower, settings, metrics, ledger)
        self.vectors = VectorKeeper(ledger, follower, settings, metrics, clock, vector_store)
        self.importance = ImportanceRebuild(ledger, follower, settings, self.sampling, clock)
        self.gates = Gates(ledger, follower, settings, metrics, self.sampling, self.retention, clock)

    async def start(self) -> None:
        """Opens and migrates the ledger and fills the index; the event loop goes on answering probes meanwhile.

        Raises SettingsError (exit 2) or Unavailable.
        """
        self.heartbeat.start()
        self._opening = asyncio.ensure_future(
            in_thread(
                open_and_load,
                self.ledger,
                self.follower,
                self.provider,
                self.settings,
                self.snapshots,
                lambda: self._closing,
            )
        )
        # shielded: a cancelled start must not leave the thread alone with the ledger; `close` waits for it
        self.notes = await asyncio.shield(self._opening)
        reporting.follow(self)
        await self.gates.resume()
        await self.vectors.start()
        await self._housekeeper.measure()
        await self.graphs.start()
        await self.cache.start()
        with contextlib.suppress(SomaError):  # housekeeping goes on with it, and says so
            await self._housekeeper.refold(REFOLD_AT_START_SECONDS)
        self._housekeeper.start()
        self.retention.start()
        self.sampling.start()
        self.reembedder.start()
        self.snapshots.start()
        self._started = True

    async def close(self) -> None:
        """Refuses new requests, flushes access counts, finishes queued commits and gives the directory back."""
        if self._closing:
            return
        self._closing = True
        if self._opening is not None:
            # its failure is told by who waited for the start; where that was given up, it is no failure any more
            await asyncio.gather(self._opening, return_exceptions=True)
        try:
            await stop_all(*self._parts_to_stop())
        finally:
            # whatever ended badly before: what is queued is committed, and the directory given back
            await in_thread(self.ledger.close)
            self.provider.close()

    def _parts_to_stop(self) -> list[Callable[[], Awaitable[None]]]:
        begun = (
            self.reembedder.stop,
            self.retention.stop,
            self.sampling.stop,
            self._stop_gates,
            self.importance.stop,
            self._housekeeper.stop,
            self.graphs.stop,
            self.snapshots.stop,
            self.cache.stop,
        )
        return [self.vectors.stop, *(begun if self._started else ()), self.heartbeat.stop]

    async def _stop_gates(self) -> None:
        self.gates.stop()

    def reload(self, settings: SMFSettings) -> None:
        """Takes over settings that `reload_settings` made: only what may change at run time differs."""
        self.settings = settings
        self._recaller = Recaller(self.follower, settings)
        self._storekeeper = Storekeeper(self.ledger, self.provider, settings, self.clock, self.cache.commit)
        self._importer = Importer(
            self.ledger, self.provider, self._storekeeper, settings, self.clock, self.cache.written
        )
        self.sampling.reload(settings)
        self.vectors.route.hybrid_default = settings.hybrid_recall_default
        self.provider.allow(settings.embedding_timeout_seconds)
        self.graphs.enabled = settings.graph_mirror_enabled
        self.cache.enabled = settings.cache_enabled

    def _serving(self) -> contextlib.AbstractAsyncContextManager[None]:
        if not self._started or self._closing:
            state = "stopping" if self._closing else "starting"
            raise Unavailable(f"the runtime is {state}", remedy="retry in a moment", retry_after=1.0)
        # a surface that has set a deadline ends the call at it; a second timer would do nothing but cost time
        return self._gate.shared() if remaining() is not None else self._bounded()

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.settings.request_timeout_seconds), self._gate.shared():
                yield
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer within {self.settings.request_timeout_seconds:g} s",
                remedy="retry with the same idempotency key, so that nothing is stored twice",
            ) from None

    async def store(self, scope: Scope, item: StoreItem, *, idempotency_key: str | None = None) -> StoreReceipt:
        """Stores one memory durably: an upsert by coordinate, visible to every recall after the receipt.

        Raises InvalidArgument, PayloadTooLarge, Conflict (idempotency key with another body), Unprocessable (the
        namespace is full, or the tenant has too many memory types), Unavailable, DeadlineExceeded.
        """
        return (await self._store(scope, [check_item(scope, item, self.settings)], "store", idempotency_key))[0]

    async def store_bulk(
        self,
        scope: Scope,
        items: Sequence[StoreItem],
        *,
        idempotency_key: str | None = None,
        replace: bool = False,
    ) -> list[StoreReceipt]:
        """Stores all items or none, in order. Errors as of `store`, naming `items[3].payload` and the like.

        With `replace` each is a new memory: the one there is deleted with its accesses, versions and links in the same
        transaction. Raises Conflict also where that one is under a legal hold.
        """
        checked = [check_item(scope, item, self.settings, path=f"items[{at}].") for at, item in enumerate(items)]
        operation = "replace_bulk" if replace else "store_bulk"
        return await self._store(scope, checked, operation, idempotency_key, replace=replace) if checked else []

    async def _store(
        self, scope: Scope, checked: Sequence[Checked], operation: str, key: str | None, *, replace: bool = False
    ) -> list[StoreReceipt]:
        async with self._serving():
            self._refuse_beyond_cap(scope, len(checked))
            types = self._types.room_for(scope.tenant, {one.item.memory_type for one in checked})
            with types, self.metrics.storing(scope.namespace, len(checked)):
                digest = body_hash(checked) if key is not None else ""
                return await self._storekeeper.store(scope, checked, operation, key, digest, replace=replace)

    def _refuse_beyond_cap(self, scope: Scope, more: int) -> None:
        cap = self.settings.max_memory_size
        if cap and self.follower.count(scope) + more > cap:
            self._storekeeper.refuse_full(cap)

    async def recall(self, scope: Scope, request: RecallRequest) -> RecallResult:
        """The exact top k by similarity, importance, features and decay.

        Raises InvalidArgument, Unavailable (`min_seq` not reached), DeadlineExceeded.
        """
        return (await self._recall(scope, [request], [check_recall(request, self.settings)]))[0]

    async def recall_batch(self, scope: Scope, requests: Sequence[RecallRequest]) -> list[RecallResult]:
        """`recall` for each request, in order; those that ask alike share one matrix product."""
        vectors = [check_recall(one, self.settings, path=f"queries[{at}].") for at, one in enumerate(requests)]
        return await self._recall(scope, requests, vectors) if requests else []

    async def _recall(
        self, scope: Scope, requests: Sequence[RecallRequest], vectors: Sequence[Vector | None]
    ) -> list[RecallResult]:
        async with self._serving():
            with self.metrics.recalling(len(requests)):
                await self._reach(max((one.min_seq or 0 for one in requests), default=0))
                texts = [one.query or "" for one, vector in zip(requests, vectors, strict=True) if vector is None]
                embedded = iter(await self.provider.embed(texts)) if texts else iter(())
                now = self.clock()
                left = remaining()
                allowed = self.settings.request_timeout_seconds
                deadline = time.monotonic() + (allowed if left is None else min(left, allowed))
                queries: Sequence[Query] = [
                    Query(one, next(embedded) if vector is None else vector, now, deadline)
                    for one, vector in zip(requests, vectors, strict=True)
                ]
                index = self.follower.index
                if all(map(self._recaller.is_plain, queries)):
                    queries, results = await self._gathering.ask(scope, queries, self._most_bytes)
                else:
                    with answer_of(self._most_bytes):
                        results = await self.ledger.read(lambda view: self._answer(view, scope, queries))
                results = await self.vectors.route.complete(scope, queries, results, index)
        self._access.note((hit.record.id for result in results for hit in result.hits), now)
        self.sampling.note(scope, queries, results)
        return results

    def _answer(self, view: LedgerView, scope: Scope, queries: Sequence[Query]) -> list[RecallResult]:
        return self._recaller.answer(self.cache.view(view, scope, self.cache.moment()), scope, queries)

    @property
    def _most_bytes(self) -> int:
        return int(self.settings.max_response_body_mb * 2**20)

    async def _reach(self, min_seq: int) -> None:
        """Waits until the index has what the ledger holds up to `min_seq`, in the history that the ledger has now."""
        waited = 0.0
        if not self._has_reached(min_seq):
            self.ledger.catch_up()
        while not self._has_reached(min_seq):
            if waited >= MIN_SEQ_WAIT_SECONDS:
                raise Unavailable(
                    f"min_seq: {min_seq} is not reached, the memory is at {self.follower.applied_seq}",
                    field="min_seq",
                    remedy="retry, or leave min_seq out to read what is there",
                    retry_after=1.0,
                )
            await asyncio.sleep(0.01)
            waited += 0.01

    def _has_reached(self, min_seq: int) -> bool:
        if not min_seq:
            return True
        return self.follower.applied_seq >= min_seq and self.ledger.fresh and not self.follower.lost

    async def get(
        self, scope: Scope, coordinate: Coordinate, memory_type: str | None = None, *, as_of: float | None = None
    ) -> MemoryRecord:
        """The newest live memory at the coordinate, of the type if one is named; `as_of`, as it was then.

        Raises NotFound, InvalidArgument (`as_of`).
        """
        coordinate = make_coordinate(coordinate)
        check_time(as_of, "as_of")
        async with self._serving():
            if as_of is None:
                found = await self.cache.at_coordinate(scope, coordinate, memory_type, self.clock)
            else:
                found = await self.ledger.read(
                    lambda view: was_at_coordinate(view, scope, coordinate, memory_type, as_of)
                )
        if found is None:
            raise NotFound("no memory at this coordinate", field="coord", remedy="check coordinate, type and namespace")
        return found

    async def delete(self, scope: Scope, coordinate: Coordinate, memory_type: str | None = None) -> DeleteReceipt:
        """Deletes the memories at the coordinate, of every type unless one is named; invisible once acknowledged.

        Raises Conflict for a memory under a legal hold.
        """
        coordinate = make_coordinate(coordinate)
        async with self._serving():
            return await self._storekeeper.delete(scope, coordinate, memory_type)

    async def delete_others(self, scope: Scope, coordinate: Coordinate, stay: Container[str]) -> int:
        """Deletes what is at the coordinate of other memory types than these, if one of these lives there.

        Returns how many went. Raises Conflict for a memory under a legal hold; then none of them went.
        """
        coordinate = make_coordinate(coordinate)
        async with self._serving():
            return await self._storekeeper.delete_others(scope, coordinate, stay)

    async def keyword_search(
        self,
        scope: Scope,
        term: str,
        *,
        exact: bool = True,
        case_sensitive: bool = False,
        top_k: int = 50,
        memory_type: str | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> list[MemoryRecord]:
        """Memories that hold the words of `term`: in a row if `exact`, else any of them; best match first."""
        if not term.strip():
            raise InvalidArgument("term: is empty", field="term", remedy="send the words to search for")
        if not 1 <= top_k <= self.settings.top_k_max:
            bound = self.settings.top_k_max
            raise InvalidArgument(f"top_k: must be from 1 to {bound}", field="top_k", remedy="ask for fewer")
        async with self._serving():
            if self.settings.compat_profile:
                sought = Terms((term,), exact, case_sensitive)
                found = await self.ledger.read(
                    lambda view: sought.holding(view, scope, memory_type=memory_type, filters=filters, now=self.clock())
                )
                return [record for record, _ in found[:top_k]]
            with answer_of(self._most_bytes):
                return await self.ledger.read(
                    lambda view: view.by_words(
                        scope,
                        term,
                        exact=exact,
                        case_sensitive=case_sensitive,
                        limit=top_k,
                        memory_type=memory_type,
                        filters=filters,
                        now=self.clock(),
                    )
                )

    async def scan(
        self, scope: Scope, *, after: uuid.UUID | None = None, limit: int = 100, memory_type: str | None = None
    ) -> Page:
        """A page of the scope's live memories with their vectors, in order of id, beginning after `after`.

        It ends early where it would hold more bytes than an answer may; there is at least one memory in it, if there
        is one.
        """
        if not 1 <= limit <= MAX_RANGE:
            raise InvalidArgument(f"limit: must be from 1 to {MAX_RANGE}", field="limit", remedy="ask for fewer")
        async with self._serving():
            return await self._page(scope, after, limit, memory_type)

    async def _page(self, scope: Scope, after: uuid.UUID | None, limit: int, memory_type: str | None) -> Page:
        found: list[MemoryRecord] = []
        # half: the rest of a record, and escapes, are not counted
        left, part = self._most_bytes // 2, PAGE_PART
        while len(found) < limit:
            size = min(part, limit - len(found))
            start = found[-1].id if found else after
            try:
                # one memory by itself is never too large: it was let in
                with answer_of(left if size > 1 or found else sys.maxsize) as answer:
                    more = await self.ledger.read(
                        lambda view, start=start, size=size: view.page(  # type: ignore[misc]
                            scope, after=start, limit=size, memory_type=memory_type, now=self.clock()
                        )
                    )
            except PayloadTooLarge:
                if size == 1:
                    break
                part = max(1, size // 4)
                continue
            found += more
            left -= answer.spent + len(more) * VECTOR_TEXT * self.settings.vector_dim
            if len(more) < size:
                return Page(found, more=False)
            if left <= 0:
                break
        return Page(found, more=True)

    async def coordinates_in_range(
        self, scope: Scope, low: Coordinate, high: Coordinate, *, memory_type: str | None = None, limit: int = MAX_RANGE
    ) -> list[Coordinate]:
        """The coordinates between `low` and `high` in every dimension, both included, in order."""
        low, high = make_coordinate(low, field="min"), make_coordinate(high, field="max")
        if len(low) != len(high):
            raise InvalidArgument("max: is not as long as min", field="max", remedy="send both with the same length")
        async with self._serving():
            return await self.ledger.read(
                lambda view: view.coordinates_between(
                    scope, low, high, memory_type=memory_type, limit=min(limit, MAX_RANGE), now=self.clock()
                )
            )

    async def link(
        self,
        scope: Scope,
        source: Coordinate,
        target: Coordinate,
        *,
        link_type: str = "related",
        weight: float = 1.0,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Links two coordinates, whether or not they hold a memory, and returns the change's seq; again, an update."""
        edge = graphing.check_edge(source, target, link_type, weight, metadata)
        async with self._serving():
            with self.metrics.linking(scope.tenant, link_type):
                return await graphing.link(self.ledger, scope, edge, self.clock())

    async def link_many(self, scope: Scope, edges: Sequence[Edge], *, skip_missing: bool = False) -> graphing.Linked:
        """Links, all or none; with `skip_missing` those between memories that are not there are left out."""
        checked = [
            graphing.check_edge(one.source, one.target, one.link_type, one.weight, one.metadata, path=f"links[{at}].")
            for at, one in enumerate(edges)
        ]
        async with self._serving():
            return await graphing.link_many(self.ledger, scope, checked, self.clock(), skip_missing=skip_missing)

    async def unlink(
        self, scope: Scope, source: Coordinate, target: Coordinate, *, link_type: str | None = None
    ) -> int:
        """Takes the links from one coordinate to another away, of one type or of all; returns how many there were."""
        async with self._serving():
            return await graphing.unlink(self.ledger, scope, source, target, link_type, self.clock())

    async def links(self, scope: Scope, *, after: EdgeKey | None = None, limit: int = 1000) -> list[Edge]:
        """A page of the scope's links, in order, beginning after that one."""
        async with self._serving():
            return await graphing.page(self.ledger, scope, after, limit)

    async def import_memories(
        self, scope: Scope, memories: Sequence[ExportedMemory], *, actor: str = "", replace: bool = False
    ) -> Imported:
        """Puts exported memories back as they were: times, importance, accesses, holds, expiry, to the last bit.

        Where one lives already it is stored over it, as its next version, or with `replace` in its place. Raises what
        `store_bulk` does.
        """
        checked = [check_exported(scope, one, self.settings, path=f"items[{at}].") for at, one in enumerate(memories)]
        async with self._serving():
            self._refuse_beyond_cap(scope, len(checked))
            types = self._types.room_for(scope.tenant, {one.checked.item.memory_type for one in checked})
            with types, self.metrics.storing(scope.namespace, len(checked)):
                return await self._importer.put_in(scope, checked, actor, replace=replace)

    async def neighbors(
        self, scope: Scope, coordinate: Coordinate, *, link_type: str | None = None, hops: int = 1, limit: int = 10
    ) -> list[Neighbor]:
        """The coordinates reached over outgoing edges within `hops`, nearest first, then by falling weight."""
        async with self._serving():
            return await graphing.neighbors(self.graphs, scope, coordinate, link_type, hops, limit)

    async def shortest_path(
        self, scope: Scope, start: Coordinate, goal: Coordinate, *, link_type: str | None = None, max_length: int = 10
    ) -> GraphPath:
        """The path with the fewest edges, at most `max_length`; `found` says whether there is one."""
        async with self._serving():
            return await graphing.shortest_path(self.graphs, scope, start, goal, link_type, max_length)

    async def coordinate_store(
        self, scope: Scope, coordinate: Coordinate, payload: Mapping[str, Any], memory_type: str = "memories"
    ) -> StoreReceipt:
        """The old gRPC Store: the coordinate is the vector, the type its collection; a zero coordinate is allowed."""
        item = StoreItem(make_coordinate(coordinate), payload, memory_type)
        checked = check_item(scope, item, self.settings)
        async with self._serving():
            with self._types.room_for(scope.tenant, [memory_type]):
                return await self._storekeeper.store_coordinate(scope, checked)

    async def coordinate_recall(
        self, scope: Scope, coordinate: Coordinate, *, top_k: int = 5, memory_type: str = "memories"
    ) -> list[CoordinateHit]:
        """The old gRPC Recall: the nearest coordinates of that length in the collection, by cosine."""
        coordinate = make_coordinate(coordinate)
        if not 1 <= top_k <= self.settings.top_k_max:
            bound = self.settings.top_k_max
            raise InvalidArgument(f"top_k: must be from 1 to {bound}", field="top_k", remedy="ask for fewer")
        async with self._serving():
            with answer_of(self._most_bytes):
                return await self.ledger.read(
                    lambda view: reporting.coordinate_hits(
                        view, self.follower.coordinates.search(scope, memory_type, coordinate, top_k)
                    )
                )

    async def coordinate_delete(
        self, scope: Scope, coordinate: Coordinate, *, memory_type: str | None = None
    ) -> DeleteReceipt:
        """The old gRPC Delete: from the collection, or from every collection of the scope where none is named."""
        coordinate = make_coordinate(coordinate)
        async with self._serving():
            return await self._storekeeper.delete_coordinate(scope, coordinate, memory_type)

    async def stats(self, scope: Scope | None = None) -> Stats:
        """Counts from memory: it answers while the ledger is away, marked `stale`."""
        return reporting.stats(self, scope)

    async def ready(self) -> Readiness:
        """Whether requests can be served, and if not, why."""
        return reporting.readiness(self, started=self._started, closing=self._closing)
