"""Which graph answers a walk: the mirror where it is there, has heard of every change, and says what the ledger says.

The ledger answers everything else, so a mirror that is away, behind or wrong costs time, never an answer. A mirror is
trusted for a walk only if it had followed every link and deletion that this process had heard of when the walk began,
and then still each link of the answer is looked up in the ledger: what was deleted is not returned.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from memory_runtime.engine.identity import identity_of
from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.errors import Conflict, Internal, SomaError, Unavailable
from memory_runtime.model.records import Edge, Scope
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.contracts import Applied, Collection, Delete, Link, Neighbor, TailTrimmed
from memory_runtime.stores.graph.feeding import GraphFeed
from memory_runtime.stores.graph.mirror import GraphMirror, W
from memory_runtime.stores.sessions import Ledger, LedgerView
from memory_runtime.stores.walking import NeighborWalk, PathWalk
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.supervision import Supervised

log = logging.getLogger(__name__)

T = TypeVar("T")
SHARED: Final = "neo4j"
"""The mirror that all replicas share, and so its sink's name."""
_BATCH: Final = 1_000
_LOOK_SECONDS: Final = 0.5
_REST_SECONDS: Final = 30.0


class GraphMark:
    """Hears the ledger's changes and remembers the last one that links or deletes. Called on the ledger's thread."""

    def __init__(self) -> None:
        self.seq = 0
        self.told: Callable[[], None] = lambda: None

    def __call__(self, changes: Sequence[Applied]) -> None:
        """Takes changes in order of seq."""
        for change in reversed(changes):
            write = change.write
            if isinstance(write, Link) or (isinstance(write, Delete) and write.collection is Collection.MEMORIES):
                self.seq = max(self.seq, change.receipt.seq)
                self.told()
                return


class Graphs:
    """Walks over links, from the mirror or from the ledger. Begun after the ledger is open."""

    def __init__(
        self, ledger: Ledger, backend: str, mirror: GraphMirror | None, mark: GraphMark, metrics: Metrics
    ) -> None:
        """`mark` must hear everything that the ledger's observer does."""
        self.backend = backend
        self.enabled = True
        self._lost = False
        self.mirror = mirror
        self.feed = None if mirror is None else GraphFeed(ledger, mirror, backend)
        self._ledger = ledger
        self._mark = mark
        self._metrics = metrics
        self._answers: Counter[tuple[str, str]] = Counter()
        self._following: Supervised | None = None
        self._stirred = asyncio.Event()

    @property
    def sinks(self) -> tuple[GraphFeed, ...]:
        """What the relay is to feed: a mirror that all replicas share. One in this process's memory feeds itself."""
        return (self.feed,) if self.feed is not None and self.backend == SHARED else ()

    async def start(self) -> None:
        """Begins. Waits for no back end: until the mirror is there, the ledger answers."""
        if self.backend != SHARED:
            await self._let_go()
        if self.mirror is None:
            return
        self._mark.seq = max(self._mark.seq, self._ledger.head_seq)
        self.mirror.ledger = await identity_of(self._ledger)
        if self.backend == SHARED:
            self._following = self._metrics.tasks.start("graph-connect", self._connect)
        else:
            loop = asyncio.get_running_loop()
            self._mark.told = lambda: _stir(loop, self._stirred)
            self._following = self._metrics.tasks.start("graph-follow", self._follow)

    async def _let_go(self) -> None:
        """Forgets the cursor of a shared mirror that is configured no more: the outbox would wait for it for ever.

        Nothing is lost by it: whoever feeds that mirror again finds out how far it is, and fills it where it must.
        """
        if SHARED in await self._ledger.read(lambda view: view.sinks()):
            await self._ledger.transact(lambda transaction: transaction.drop_sink(SHARED))
            log.info("graph %s is configured no more: the outbox does not wait for it", SHARED)

    async def stop(self) -> None:
        """Ends following, and the mirror's connections."""
        self._mark.told = lambda: None
        if self._following is not None:
            await self._following.stop()
        if self.mirror is not None:
            await self.mirror.close()

    async def _connect(self) -> None:
        """Readers connect for themselves: the relay that feeds the mirror may be in another replica."""
        assert self.mirror is not None  # noqa: S101
        while True:
            try:
                await self.mirror.start()
            except SettingsError as error:
                log.error("graph: %s", error)  # noqa: TRY400 -- a sentence for whoever configured it, no trace
                return
            except SomaError as error:
                log.warning("graph %s is away, SQL answers: %s", self.backend, error.message)
                await asyncio.sleep(_REST_SECONDS)
            else:
                return

    async def _follow(self) -> None:
        """Keeps a mirror in this process's memory where the ledger is."""
        assert self.feed is not None  # noqa: S101
        seq: int | None = None
        while True:
            try:
                if self._lost:
                    seq = None
                seq = await self._advance(self.feed, seq)
            except SomaError as error:
                # a graph beyond its bound: the ledger answers from now on, and this looks again in a while
                log.warning("graph %s does not follow, SQL answers: %s", self.backend, error.message)
                seq = None
                await asyncio.sleep(_REST_SECONDS)
            self._stirred.clear()
            if seq is None or seq >= self._mark.seq:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stirred.wait(), _LOOK_SECONDS)

    async def _advance(self, feed: GraphFeed, seq: int | None) -> int:
        if seq is None:
            self._lost = False
            try:
                return await feed.rebuild()
            except BaseException:
                self._lost = True
                raise
        try:
            changes = await self._ledger.tail(seq, _BATCH)
        except TailTrimmed:
            return await feed.rebuild()
        return await feed.deliver(changes) if changes else seq

    async def neighbors(
        self, scope: Scope, start: Coordinate, *, link_type: str | None, hops: int, limit: int
    ) -> list[Neighbor]:
        """What `hops` links reach, nearest first, then heaviest."""
        walk = await self._mirrored(lambda: NeighborWalk(start, hops, limit), scope, link_type)
        if walk is not None and await self._stands(scope, [one.edge for one in walk.answer()]):
            return walk.answer()
        return await self._ledger.read(
            lambda view: view.neighbors(scope, start, link_type=link_type, hops=hops, limit=limit)
        )

    async def shortest_path(
        self, scope: Scope, start: Coordinate, goal: Coordinate, *, link_type: str | None, max_length: int
    ) -> list[Edge] | None:
        """The links of a shortest path, or None."""
        walk = await self._mirrored(lambda: PathWalk(start, goal, max_length), scope, link_type)
        if walk is not None and await self._stands(scope, walk.answer() or ()):
            return walk.answer()
        return await self._ledger.read(
            lambda view: view.shortest_path(scope, start, goal, link_type=link_type, max_length=max_length)
        )

    async def _mirrored(self, begin: Callable[[], W], scope: Scope, link_type: str | None) -> W | None:
        """The walk as the mirror walked it; None where the ledger must be asked, and counted why."""
        if self.mirror is None or not self.enabled:
            self._count("sql", "configured")
            return None
        if self._lost and not await self._is_reconciled():
            self._count("sql", "ahead")
            return None
        needed = self._mark.seq
        try:
            walk, position = await self.mirror.walk(begin, scope, link_type)
        except (Unavailable, Conflict, Internal):
            self._count("sql", "away")
            return None
        if position < needed:
            self._count("sql", "behind")
            return None
        if position > self._ledger.head_seq:
            # of before a restore, or of what another replica has done and this one has not heard of yet
            self._count("sql", "ahead")
            return None
        return walk

    def lose(self) -> None:
        """The ledger lost changes that the mirror may hold: SQL answers until it was built anew.

        Called on the ledger's thread.
        """
        self._lost = True
        self._mark.seq = 0
        self._mark.told()

    async def _is_reconciled(self) -> bool:
        """Whether the relay has brought a shared mirror to the ledger's newest line of history."""
        if self.backend != SHARED:
            return False
        facts = await self._ledger.read(lambda view: view.facts())
        self._lost = facts.get(f"sink_line:{SHARED}") != self._ledger.lineage
        return not self._lost

    async def _stands(self, scope: Scope, edges: Sequence[Edge]) -> bool:
        """Whether the ledger has every link of the answer, as it is given."""
        keys = [(one.source, one.link_type, one.target) for one in edges]

        def standing(view: LedgerView) -> list[Edge]:
            return view.edges_standing(scope, keys)

        held = await self._ledger.read(standing) if keys else []
        stands = _same(held, edges)
        self._count(*((self.backend, "followed") if stands else ("sql", "differs")))
        return stands

    def _count(self, answered_by: str, why: str) -> None:
        self._answers[(answered_by, why)] += 1
        self._metrics.graph_walks.labels(answered_by, why).inc()

    def state(self) -> dict[str, Any]:
        """For `/stats`: what was configured, and who answered how often and why."""
        answers: dict[str, dict[str, int]] = {}
        for (answered_by, why), count in sorted(self._answers.items()):
            answers.setdefault(answered_by, {})[why] = count
        return {"backend": self.backend, "answers": answers}


def _same(held: Sequence[Edge], edges: Sequence[Edge]) -> bool:
    known = {(one.source, one.link_type, one.target): one for one in held}
    return len(known) == len(edges) and all(known.get((one.source, one.link_type, one.target)) == one for one in edges)


def _stir(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended: so has whoever waits
        loop.call_soon_threadsafe(event.set)


def build_mirror(settings: SMFSettings, metrics: Metrics) -> GraphMirror | None:
    """The graph store that the settings name beside the ledger's own. Raises SettingsError."""
    if settings.graph_backend == "sql":
        return None
    if settings.graph_backend == "networkx":
        from memory_runtime.stores.graph.networkx_graph import NetworkXGraph

        return NetworkXGraph(settings.graph_max_edges)
    try:
        from memory_runtime.stores.graph.neo4j_graph import Neo4jGraph
    except ImportError:
        raise SettingsError(
            "graph_backend: neo4j needs packages that are not installed",
            setting="graph_backend",
            remedy="install soma-memory-operator[distributed], or set SOMA_GRAPH_BACKEND=sql",
        ) from None
    return Neo4jGraph(settings, metrics.backends)
