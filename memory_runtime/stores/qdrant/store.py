"""The store: `IVectorStore` over a Qdrant collection, and what the feed and the reconciler need beside it."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.local.async_qdrant_local import AsyncQdrantLocal

from memory_runtime.model.errors import InvalidArgument, Unavailable, Unprocessable
from memory_runtime.model.records import Scope, Vector
from memory_runtime.stores.interfaces import VectorFilter, VectorHit, VectorPoint, VectorRemoval
from memory_runtime.stores.qdrant import searching, writing
from memory_runtime.stores.qdrant.failures import classify, translated
from memory_runtime.stores.qdrant.layout import layout_number
from memory_runtime.stores.qdrant.options import QdrantOptions, connect
from memory_runtime.stores.qdrant.schema import GONE, SEQ, ensure
from memory_runtime.stores.qdrant.writing import STAMP, Stamp, Write
from memory_runtime.stores.resilience import Guard, GuardPolicy, Retry
from memory_runtime.telemetry.backends import BackendMetrics

T = TypeVar("T")

PING_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
"""How long what was heard of Qdrant's queue is believed."""
PAGE: Final = 2000
SNAPSHOT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class QdrantStatus:
    """What Qdrant says of the collection: points (tombstones too), how many are in a graph, updates queued."""

    status: str
    points: int
    indexed: int
    segments: int
    queued: int


class QdrantVectorStore:
    """Of one event loop. `layout` says by which rules weights were made: points of other rules are not found."""

    def __init__(
        self,
        options: QdrantOptions,
        *,
        layout: str = "",
        client: AsyncQdrantClient | None = None,
        metrics: BackendMetrics | None = None,
    ) -> None:
        """`client` replaces the one that the options make: local mode, in tests."""
        self.options = options
        self._client = client or connect(options)
        self._local = isinstance(self._client._client, AsyncQdrantLocal)  # noqa: SLF001 -- it has no other way to say
        policy = GuardPolicy(attempt_timeout=options.timeout, timeout=3 * options.timeout, places=16, seats=256)
        self._guard = Guard("qdrant", policy, classify=classify, metrics=metrics)
        # a bootstrap is a dozen requests that are made once, on nobody's path
        patient = replace(policy, attempt_timeout=12 * options.timeout, timeout=24 * options.timeout)
        self._bootstrap = Guard("qdrant", patient, classify=classify)
        self._layout = layout_number(layout, options.band_width)
        self._lagging = False
        self._looked = -LOOK_SECONDS
        self._closed = False

    @property
    def approximate(self) -> bool:
        """Whether a better point may be missed: always, as Qdrant's graph is searched."""
        return True

    @property
    def layout(self) -> int:
        """The number of the rules that points are placed by."""
        return self._layout

    def follow_layout(self, layout: str) -> bool:
        """Places and searches by these rules from now on; True where they are others: then fill the store again."""
        number = layout_number(layout, self.options.band_width)
        changed, self._layout = number != self._layout, number
        return changed

    async def start(self) -> None:
        """Makes the collection and its indexes where they are missing. Raises SettingsError, Unavailable."""
        await self.ensure()

    async def ensure(self) -> bool:
        """`start`; True where the collection had to be made: then it is empty."""
        return await self._bootstrap.run(
            "ensure",
            lambda: self._translated(lambda: ensure(self._client, self.options, local=self._local)),
            retry=Retry.SAFE,
        )

    async def close(self) -> None:
        """Ends every connection."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._client.close(grpc_grace=0.5)

    async def ping(self) -> bool:
        """Whether Qdrant answers now, with the collection in place."""
        if self._closed:
            return False
        with contextlib.suppress(Exception):
            async with asyncio.timeout(PING_SECONDS):
                return bool(await self._client.collection_exists(self.options.collection))
        return False

    # ---- writing ----

    async def upsert(self, points: Sequence[VectorPoint]) -> None:
        """Writes points where nothing newer is stored. Raises InvalidArgument, Unavailable."""
        for number, point in enumerate(points):
            if point.vector.shape != (self.options.dim,):
                raise InvalidArgument(
                    f"points[{number}].vector: has {point.vector.size} dimensions, the collection {self.options.dim}",
                    field=f"points[{number}].vector",
                    remedy="embed with the model that this store was made with",
                )
        await self._write([writing.point_write(one, self.options.band_width, self._layout) for one in points])

    async def remove(self, removals: Sequence[VectorRemoval]) -> None:
        """Puts tombstones where nothing newer is stored: an older upsert that comes later changes nothing."""
        await self._write([writing.tombstone_write(one, self.options.dim, self._layout) for one in removals])

    async def _write(self, writes: Sequence[Write]) -> None:
        if not writes:
            return
        await self._hold_back()
        writes = writing.newest(writes)
        size = self.options.batch
        # a batch shares one condition, and that is of one line of history
        for epoch in sorted({one.epoch for one in writes}):
            line = [one for one in writes if one.epoch == epoch]
            for start in range(0, len(line), size):
                await self._write_batch(line[start : start + size])

    async def _write_batch(self, batch: Sequence[Write]) -> None:
        collection, layout = self.options.collection, self._layout
        points = [one.point for one in batch]
        shared = writing.condition(batch, layout)
        await self._call("upsert", lambda: self._client.upsert(collection, points, update_filter=shared, wait=True))
        left = writing.behind(batch, await self._stamps([one.point.id for one in batch]), layout)
        if left:
            operations = [writing.alone(one, layout) for one in left]
            await self._call("upsert", lambda: self._client.batch_update_points(collection, operations, wait=True))

    async def _hold_back(self) -> None:
        """Turns writes away while Qdrant is behind with what it has taken; asks it at most once a second."""
        if self._local:
            return
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            status = await self.status()
            self._lagging = status.queued > self.options.queue_limit or status.status == models.CollectionStatus.RED
            self._looked = time.monotonic()
        if self._lagging:
            raise Unavailable(
                f"Qdrant is behind: more than {self.options.queue_limit} updates wait, or its status is red",
                field="qdrant_queue_limit",
                remedy="it is tried again; give Qdrant more CPU or faster disks where this lasts",
                retry_after=LOOK_SECONDS,
            )

    # ---- reading ----

    async def search(
        self, scope: Scope, query: Vector, limit: int, *, where: VectorFilter | None = None, weighted: bool = False
    ) -> list[VectorHit]:
        """The best points of the scope, approximately; see `IVectorStore`."""
        if limit < 1 or query.shape != (self.options.dim,):
            field = "limit" if limit < 1 else "query"
            raise InvalidArgument(
                f"{field}: a limit of at least 1 and a vector of {self.options.dim} numbers are needed",
                field=field,
                remedy="ask for one or more, with a vector of the collection's dimension",
            )
        if where is not None and where.memory_types is not None and not where.memory_types:
            return []
        width = self.options.band_width
        conditions = searching.visible(scope, where, self._layout, width)
        plan = searching.Plan(conditions, query.tolist(), limit, width, self._local)
        return await (searching.best_bands if weighted else searching.nearest)(self._ask, plan)

    async def _ask(self, requests: Sequence[models.QueryRequest]) -> list[list[models.ScoredPoint]]:
        answers = await self._call(
            "search", lambda: self._client.query_batch_points(self.options.collection, list(requests))
        )
        return [answer.points for answer in answers]

    async def seqs(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
        """The sequence that each living point was written by."""
        found = await self._stamps([str(one) for one in ids])
        return {key: one.seq for key, one in found.items() if not one.gone and one.layout == self._layout}

    async def _stamps(self, ids: Sequence[int | str | uuid.UUID]) -> dict[uuid.UUID, Stamp]:
        found: dict[uuid.UUID, Stamp] = {}
        for start in range(0, len(ids), PAGE):
            part = list(ids[start : start + PAGE])
            records = await self._call(
                "retrieve",
                lambda part=part: self._client.retrieve(self.options.collection, part, with_payload=STAMP),  # type: ignore[misc]
            )
            found |= writing.stamps(records)
        return found

    async def count(self, scope: Scope | None = None) -> int:
        """How many living points the scope (None: the store) holds, exactly."""
        conditions = searching.visible(scope, None, self._layout, self.options.band_width)
        answer = await self._call(
            "count", lambda: self._client.count(self.options.collection, count_filter=conditions, exact=True)
        )
        return int(answer.count)

    async def stamps(self, start: uuid.UUID | None = None) -> AsyncIterator[list[tuple[uuid.UUID, Stamp]]]:
        """Every point, tombstones and other layouts too, from `start` on in order of id, page by page."""
        offset: int | str | uuid.UUID | None = None if start is None else str(start)
        while True:
            records, after = await self._call(
                "scroll",
                lambda offset=offset: self._client.scroll(  # type: ignore[misc]
                    self.options.collection, limit=PAGE, offset=offset, with_payload=STAMP
                ),
            )
            if records:
                yield list(writing.stamps(records).items())
            if after is None:
                return
            offset = str(after)

    # ---- keeping ----

    async def erase(self, ids: Sequence[uuid.UUID]) -> None:
        """Removes points without a trace, whatever wrote them: what the ledger knows nothing of. Idempotent."""
        for start in range(0, len(ids), PAGE):
            part = [str(one) for one in ids[start : start + PAGE]]
            await self._delete(models.PointIdsList(points=part))

    async def purge_tombstones(self, below: int) -> None:
        """Forgets tombstones of changes below this sequence: no older write can come any more."""
        old = models.FieldCondition(key=SEQ, range=models.Range(lt=below))
        gone = models.FieldCondition(key=GONE, match=models.MatchValue(value=1))
        await self._delete(models.FilterSelector(filter=models.Filter(must=[gone, old])))

    async def _delete(self, selector: models.PointIdsList | models.FilterSelector) -> None:
        await self._call("delete", lambda: self._client.delete(self.options.collection, selector, wait=True))

    async def drop(self) -> None:
        """Drops the collection: everything in it can be made again from the ledger."""
        await self._call("drop", lambda: self._client.delete_collection(self.options.collection))

    async def status(self) -> QdrantStatus:
        """What Qdrant says of the collection. Raises Unavailable, StoreWiped among them."""
        info = await self._call("status", lambda: self._client.get_collection(self.options.collection))
        return QdrantStatus(
            status=str(info.status.value),
            points=info.points_count or 0,
            indexed=info.indexed_vectors_count or 0,
            segments=info.segments_count,
            queued=info.update_queue.length if info.update_queue else 0,
        )

    async def snapshot(self) -> str:
        """Makes a snapshot of the collection on the server and returns its name. Raises Unavailable."""
        async with self._patient() as client:
            made = await self._translated(lambda: client.create_snapshot(self.options.collection))
        return "" if made is None else made.name

    async def snapshots(self) -> list[str]:
        """The names of the collection's snapshots on the server."""
        listed = await self._call("snapshots", lambda: self._client.list_snapshots(self.options.collection))
        return sorted(one.name for one in listed)

    async def recover(self, location: str) -> None:
        """Puts a snapshot (a URL or path that the server can read) in the collection's place; then reconcile it."""
        async with self._patient() as client:
            await self._translated(lambda: client.recover_snapshot(self.options.collection, location))

    @contextlib.asynccontextmanager
    async def _patient(self) -> AsyncIterator[AsyncQdrantClient]:
        """A client for what a person waits for: it may take many times as long as any call on a request's path."""
        if self._local:
            raise Unprocessable(
                "qdrant_url: local mode has no snapshots", field="qdrant_url", remedy="name a Qdrant server"
            )
        client = connect(replace(self.options, timeout=SNAPSHOT_SECONDS))
        try:
            yield client
        finally:
            await client.close(grpc_grace=0.5)

    async def _call(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        if self._closed:
            raise Unavailable("the Qdrant store is closed", remedy="retry in a moment", retry_after=1.0)
        # everything sent twice leaves what it leaves once: reads, conditional upserts, deletes
        return await self._guard.run(operation, lambda: self._translated(call), retry=Retry.SAFE)

    async def _translated(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            return await call()
        except Exception as error:
            ours = translated(error, self.options.collection)
            if ours is None:
                raise
            raise ours from None
