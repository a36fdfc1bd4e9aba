"""Reads that ask Redis first, and writes that leave a mark there: right without either, faster with both.

Why nothing stale is given. An entry carries an order: how far the ledger was when its memory was read. This process
has heard every change up to where its index is, and refuses an entry whose memory changed after the entry's order. So
Redis may be wiped, come back with old contents, or hold what was written before a delete: no reader gives an answer
older than its own index. For what another replica has just acknowledged and this one has not followed yet, the writer
takes the old entry out of Redis before it acknowledges; then this replica asks the ledger. Only if Redis was away as
well may an answer lag behind, and never by more than the replica's own lag.

Sequences count within one line of the ledger's history (`stores.lineages`), so keys begin with its name: after a
fail-over that lost commits, a restore or a copy there is another one, and what was cached before is not found again.

What is not there is never cached. Ids name tenant and namespace, keys are made from both, and what comes back is
checked for both again. Access counts, and the normalised importance after a rebuild, may be as old as the entry.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Final, NamedTuple, Protocol, cast

from memory_runtime.engine.cache.changes import RecentChanges, place_key
from memory_runtime.engine.cache.entries import as_record, as_text
from memory_runtime.engine.following import Follower
from memory_runtime.model.coordinates import Coordinate, canonical_coordinate, memory_id
from memory_runtime.model.errors import Conflict, NotFound, SomaError
from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores.answer_size import spend
from memory_runtime.stores.contracts import Collection, Committed, Delete, Link, Put, Unit
from memory_runtime.stores.resilience.deadline import no_deadline
from memory_runtime.stores.sessions import Ledger, LedgerView
from memory_runtime.stores.values import Facts
from memory_runtime.telemetry.caching import CacheMetrics
from memory_runtime.telemetry.supervision import logged

MOST_MARKED: Final = 512
"""Writes of one unit that are marked; a larger one, a bulk, is left to each replica's following."""
LEARN_AGAIN_SECONDS: Final = 1.0
MOST_FILLED: Final = 64
"""Fills under way at once; beyond that what was read is not put in."""


FORMER_SECONDS: Final = 30.0
"""How long another replica may go on reading under the name of a line of history that has ended for this one."""


class Moment(NamedTuple):
    """Where the index was before something was read: the key space in force, and the sequence in its history."""

    space: str | None
    order: int


class Former(NamedTuple):
    """The key space of before, and until when writes are told there too."""

    space: str | None
    until: float


class Entries(Protocol):
    """`stores.redis.marked.MarkedEntries`."""

    async def look(self, keys: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Order and text by key."""

    async def fill_texts(self, texts: Mapping[str, str], order: int, ttl: float) -> None:
        """Puts entries in."""

    async def mark(self, keys: Sequence[str]) -> str:
        """Marks keys."""

    async def outdate(self, keys: Sequence[str], order: int) -> None:
        """Takes out what is older, and lets nothing older in."""


class RecordCache:
    """The cache of one engine. `entries` None: there is none, and every method asks the ledger alone."""

    def __init__(
        self,
        ledger: Ledger,
        follower: Follower,
        changes: RecentChanges,
        entries: Entries | None = None,
        *,
        ttl: float = 300.0,
        metrics: CacheMetrics | None = None,
        shut: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """`changes` must hear all that the index hears. `shut` ends the connections of `entries`."""
        self.enabled = True
        """False: reads ask the ledger alone. Writes go on marking: other replicas may still read from Redis."""
        self._ledger, self._follower, self._changes = ledger, follower, changes
        self._entries, self._ttl, self._metrics, self._shut = entries, ttl, metrics, shut
        self._loop: asyncio.AbstractEventLoop | None = None
        self._space: str | None = None
        self._former = Former(None, 0.0)
        self._generation: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins. Waits for no Redis; the ledger must be open."""
        self._loop = asyncio.get_running_loop()
        if self._entries is not None and not await self._learn():
            self._background(self._learn_later())

    async def _learn(self) -> bool:
        """Reads the generation of the rows; until it is known the cache is out of use."""
        try:
            told = (await self._ledger.read(lambda view: view.facts())).get(Facts.GENERATION, "0")
        except SomaError:
            return False
        if self._generation is None:
            self._generation = int(told)
        self._name_space()
        return True

    async def _learn_later(self) -> None:
        while True:
            await asyncio.sleep(LEARN_AGAIN_SECONDS)
            with logged("looking for the generation that the read cache is of"):
                if await self._learn():
                    return

    def outdate(self, generation: int) -> None:
        """The ledger's rows changed without changes to tell of: what was cached is not to be found again.

        Called on the ledger's thread.
        """
        self._generation = generation
        self._name_space()

    def turn_over(self) -> None:
        """The ledger goes on as another line of history: sequences may stand for other changes than they did.

        Called on the ledger's thread.
        """
        self._name_space()

    def _name_space(self) -> None:
        """What the keys begin with: the line of history that sequences belong to, and the generation of the rows.

        None, and the cache is out of use, while one of them is not known. Another line in the place of one may have
        readers of before among the replicas: they are looked after for a while, see `_former_space`.
        """
        lineage, generation = self._ledger.lineage, self._generation
        space = None
        if self._entries is not None and lineage and generation is not None:
            space = hashlib.blake2b(f"{lineage}/{generation}".encode(), digest_size=8).hexdigest()
        if self._space not in {None, space}:
            self._former = Former(self._space, time.monotonic() + FORMER_SECONDS)
        self._space = space

    def moment(self) -> Moment:
        """To be asked for before the ledger is read: what is read may be cached as of then, if at all."""
        # the space first: it changes before the index counts in another history
        space = self._space
        return Moment(space, self._follower.applied_seq)

    @property
    def _readable(self) -> bool:
        """Whether entries may be given: not while the index may count in a history that has been abandoned."""
        return self.enabled and self._space is not None and not self._follower.lost and self._ledger.fresh

    async def stop(self) -> None:
        """Ends what is under way, and the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._shut is not None:
            await self._shut()

    async def at_coordinate(
        self, scope: Scope, coordinate: Coordinate, memory_type: str | None, clock: Callable[[], float]
    ) -> MemoryRecord | None:
        """The newest live memory at the coordinate, of the type if one is named; None where there is none."""
        text = canonical_coordinate(coordinate)
        if self._readable:
            found = await self._cached_at(scope, text, memory_type)
            if found is not None and (found.ends_at is None or found.ends_at > clock()):
                return found
        moment = self.moment()
        records = await self._ledger.read(lambda view: view.at_coordinate(scope, coordinate, memory_type, clock()))
        if not records:
            return None
        self._keep(scope, records[:1], moment, {} if memory_type is not None else {text: records[0].id})
        return records[0]

    def view(self, view: LedgerView, scope: Scope, moment: Moment) -> LedgerView:
        """The view, with `by_ids` through the cache; `moment` is that before the view was opened."""
        if not self._readable or self._loop is None:
            return view
        return cast(LedgerView, _CachedView(self, view, scope, moment, self._loop))

    async def commit(self, unit: Unit) -> Committed:
        """Commits, then takes out of Redis what the unit changed; waits for Redis no longer than the cache's time-out.

        The writes that were committed together come here together, and share a round trip.
        """
        if self._entries is None or len(unit.writes) > MOST_MARKED:
            return await self._ledger.commit(unit)
        try:
            committed = await self._ledger.commit(unit)
        except (Conflict, NotFound):
            raise  # nothing has changed
        except BaseException:
            # it may yet become durable: until that is past, whoever asks Redis is sent on to the ledger
            touched = [(write, False) for write in unit.writes]
            for one in filter(None, (self._space, self._former_space())):
                self._background(self._mark(self._touched(one, touched)))
            raise
        touched = [
            (write, receipt.version == 1 and not committed.replayed)
            for write, receipt in zip(unit.writes, committed.receipts, strict=False)
            if receipt.changed or committed.replayed
        ]
        # asked for after the commit: the group itself may have found that the ledger is another one
        former, space = self._former_space(), self._space
        if former is not None and touched:
            # its orders may be of an abandoned history, so a floor would not do
            with contextlib.suppress(SomaError):
                await self._mark(self._touched(former, touched))
        keys = self._touched(space, touched) if space is not None else []
        if keys:
            await self._outdate(keys, max(receipt.seq for receipt in committed.receipts))
        return committed

    async def written(self, writes: Sequence[Put]) -> None:
        """After writes that went past `commit`: whoever asks Redis for their memories is sent on to the ledger."""
        if self._entries is None:
            return
        for space in filter(None, (self._space, self._former_space())):
            with contextlib.suppress(SomaError):
                await self._mark(self._touched(space, [(write, False) for write in writes]))

    def _former_space(self) -> str | None:
        return self._former.space if time.monotonic() < self._former.until else None

    async def by_ids(self, scope: Scope, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
        """Those of the memories that the cache has and may give."""
        space = self._space
        if space is None:
            return {}
        keys = {_record_key(space, scope, identity): identity for identity in ids}
        found: dict[bytes, MemoryRecord] = {}
        for key, (order, text) in (await self._look(space, list(keys))).items():
            record = self._checked(scope, text, order, keys[key])
            if record is not None:
                found[keys[key]] = record
        return found

    async def _cached_at(self, scope: Scope, coordinate: str, memory_type: str | None) -> MemoryRecord | None:
        if memory_type is not None:
            identity = memory_id(scope.tenant, scope.namespace, memory_type, coordinate).bytes
            return (await self.by_ids(scope, [identity])).get(identity)
        # most memories are episodic: its entry is asked for beside the coordinate's, to spare a round trip
        guess = memory_id(scope.tenant, scope.namespace, "episodic", coordinate).bytes
        place, space = place_key(scope, coordinate), self._space
        if space is None:
            return None
        at_place, at_guess = _place_key(space, scope, place), _record_key(space, scope, guess)
        entries = await self._look(space, [at_place, at_guess])
        pointer = entries.get(at_place)
        if pointer is None or not self._is_current([place], pointer[0]):
            self._count("miss" if pointer is None else "stale")
            return None
        identity = bytes.fromhex(pointer[1])
        if identity != guess:
            return (await self.by_ids(scope, [identity])).get(identity)
        entry = entries.get(at_guess)
        if entry is None:
            self._count("miss")
            return None
        return self._checked(scope, entry[1], entry[0], guess)

    def _checked(self, scope: Scope, text: str, order: int, identity: bytes) -> MemoryRecord | None:
        record = as_record(text)
        if record is None or record.scope != scope or record.id.bytes != identity:
            self._count("miss")
            return None
        if not self._is_current([identity], order):
            self._count("stale")
            return None
        self._count("hit")
        spend(len(text))
        return record

    def _is_current(self, keys: Sequence[bytes], order: int) -> bool:
        return self._changes.current(keys, order, self._follower.applied_seq)

    async def _look(self, space: str, keys: Sequence[str]) -> dict[str, tuple[int, str]]:
        if self._entries is None or not keys:
            return {}
        try:
            found = await self._entries.look(keys)
        except SomaError:
            self._count("away", len(keys))
            return {}
        # entries of a history that ended while they were on their way say nothing any more
        return found if self._readable and space == self._space else {}

    def _keep(
        self,
        scope: Scope,
        records: Sequence[MemoryRecord],
        moment: Moment,
        places: Mapping[str, uuid.UUID] | None = None,
    ) -> None:
        space, order = moment
        if not self._readable or self._entries is None or space is None or len(self._tasks) >= MOST_FILLED:
            return
        if space != self._space:
            return
        texts = {_record_key(space, scope, record.id.bytes): as_text(record) for record in records}
        kept = {key: text for key, text in texts.items() if text is not None}
        for coordinate, identity in (places or {}).items():
            kept[_place_key(space, scope, place_key(scope, coordinate))] = identity.hex
        if kept:
            self._background(self._entries.fill_texts(kept, order, self._ttl))

    async def _outdate(self, keys: Sequence[str], order: int) -> None:
        if self._entries is not None:
            # where Redis is away, this process knows of the change all the same, and every other once it has followed
            with contextlib.suppress(SomaError):
                await self._entries.outdate(keys, order)

    async def _mark(self, keys: Sequence[str]) -> None:
        if self._entries is not None and keys:
            await self._entries.mark(keys)

    def _touched(self, space: str, writes: Iterable[tuple[Put | Delete | Link, bool]]) -> list[str]:
        """The keys of entries that these writes made stale; of each it is said whether its memory is a first version.

        Of a memory that never was there is no entry. Its coordinate may have led to another one, of another type.
        """
        keys: dict[str, None] = {}
        for write, first in writes:
            if isinstance(write, Link) or write.collection is not Collection.MEMORIES:
                continue
            if not first:
                keys[_record_key(space, write.scope, write.id.bytes)] = None
            if isinstance(write, Put):
                keys[_place_key(space, write.scope, place_key(write.scope, write.coordinate))] = None
        return list(keys)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        async def quietly() -> None:
            # nobody waits for it: what it raises is told at once, or never
            with logged("work beside the read cache"), contextlib.suppress(SomaError):
                await work

        with no_deadline():
            task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _count(self, result: str, times: int = 1) -> None:
        if self._metrics is not None:
            self._metrics.record(result, times)

    async def idle(self) -> None:
        """Waits until nothing is under way in the background."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))


class _CachedView:
    """A view whose `by_ids` asks the cache first. Used on a reader's thread, which waits for the loop's answer."""

    def __init__(
        self, cache: RecordCache, view: LedgerView, scope: Scope, moment: Moment, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._cache, self._view, self._scope, self._moment, self._loop = cache, view, scope, moment, loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def by_ids(self, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
        """The live records among these ids, without vectors."""
        cached = self._from_cache(ids)
        missing = [identity for identity in ids if identity not in cached]
        if not missing:
            return cached
        found = self._view.by_ids(missing)
        if found:
            self._loop.call_soon_threadsafe(self._cache._keep, self._scope, list(found.values()), self._moment)  # noqa: SLF001
        return cached | found

    def _from_cache(self, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
        if not ids:
            return {}
        asked = asyncio.run_coroutine_threadsafe(self._cache.by_ids(self._scope, ids), self._loop)
        try:
            return asked.result(1.0)  # the guard answers long before, unless the loop itself is stuck
        except (TimeoutError, CancelledError):  # cancelled: the engine stops
            asked.cancel()
            return {}


def _record_key(space: str, scope: Scope, identity: bytes) -> str:
    return f"{space}:{_scope_part(scope)}:r:{identity.hex()}"


def _place_key(space: str, scope: Scope, place: bytes) -> str:
    return f"{space}:{_scope_part(scope)}:c:{place.hex()}"


@functools.lru_cache(4096)
def _scope_part(scope: Scope) -> str:
    return hashlib.blake2b(f"{scope.tenant}\x1f{scope.namespace}".encode(), digest_size=8).hexdigest()
