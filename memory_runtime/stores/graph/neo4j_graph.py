"""The graph in Neo4j 5, for one that outgrows SQL: places by hash, links between them, and how far it has followed.

A place is `(:SomaPlace {key, tenant, namespace, coordinate})`, its key the SHA-256 of scope and coordinate (which
may be longer than an index takes); a link is `[:SOMA_LINK {link_type, weight, metadata}]`, metadata as canonical JSON.
Every call is one transaction inside the guard: what it writes may be repeated, so transient errors and broken
connections are retried, and nothing else is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from neo4j import READ_ACCESS, WRITE_ACCESS, AsyncDriver, AsyncTransaction

from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.records import Edge, Scope
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.contracts import Neighbor
from memory_runtime.stores.graph import cypher
from memory_runtime.stores.graph.mirror import NOWHERE, Edits, W, filling, overtaken
from memory_runtime.stores.graph.neo4j_connecting import classify, connect
from memory_runtime.stores.resilience import Guard, GuardPolicy, Retry
from memory_runtime.stores.walking import NeighborWalk, PathWalk, Step
from memory_runtime.telemetry.backends import BackendMetrics

T = TypeVar("T")
_OLDEST: Final = 5
_FRONTIER: Final = 5_000
_PAGE: Final = 500
_WIPED_AT_ONCE: Final = 10_000
_LONG: Final = 12.0
"""What writes have time for, as a multiple of a read's: a batch of 1,000 changes, a page of a rebuild."""


class Neo4jGraph:
    """`IGraphStore` and `GraphMirror` in one database of a Neo4j 5 server or cluster."""

    def __init__(self, settings: SMFSettings, metrics: BackendMetrics | None = None) -> None:
        """Connects only in `start`. Raises SettingsError for a URL or a certificate that cannot be."""
        self._settings = settings
        self._database = settings.neo4j_database
        self._driver: AsyncDriver | None = None
        self.ledger = ""
        connect(settings)  # what is wrong with the settings is said before anything is started
        seconds = settings.neo4j_timeout_seconds
        policy = GuardPolicy(attempt_timeout=seconds, timeout=seconds, places=settings.neo4j_pool_size)
        self._reading = Guard("neo4j", policy, classify=classify, metrics=metrics)
        # apart: what a batch may take would keep the circuit closed for readers who wait
        longer = GuardPolicy(attempt_timeout=seconds * _LONG, timeout=seconds * _LONG, places=4)
        self._writing = Guard("neo4j-feed", longer, classify=classify, metrics=metrics)

    async def start(self) -> None:
        """Connects, and makes the constraints. Raises Unavailable, or SettingsError for a server older than 5."""
        if self._driver is None:
            self._driver = connect(self._settings)
        found = await self._run("version", _version)
        _check_version(found)
        for statement in cypher.SCHEMA:
            await self._run("schema", partial(_done, statement=statement), write=True)

    async def close(self) -> None:
        """Ends the connections."""
        driver, self._driver = self._driver, None
        if driver is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(driver.close(), 1.0)

    async def ping(self) -> bool:
        """Whether it answers within a second."""
        try:
            await self._run("ping", self._position, seconds=1.0)
        except SomaError:
            return False
        return True

    async def _run(
        self,
        operation: str,
        work: Callable[[AsyncTransaction], Awaitable[T]],
        *,
        write: bool = False,
        seconds: float | None = None,
    ) -> T:
        """One transaction, anew at each attempt; everything that it does may be repeated."""
        driver = self._driver
        if driver is None:
            raise Unavailable("neo4j: not started, or closed", remedy="start it first", retry_after=1.0)
        guard = self._writing if write else self._reading
        patience = seconds or guard.policy.timeout
        access = WRITE_ACCESS if write else READ_ACCESS

        async def attempt() -> T:
            async with driver.session(database=self._database, default_access_mode=access) as session:
                # the server's own time-out: what a caller gave up on must not go on there
                transaction = await session.begin_transaction(timeout=patience)
                async with transaction:
                    done = await work(transaction)
                    await transaction.commit()
                return done

        return await guard.run(operation, attempt, retry=Retry.SAFE, timeout=patience)

    async def link(self, scope: Scope, edges: Iterable[Edge]) -> None:
        """Writes them in one transaction."""
        rows = [cypher.row(scope, edge) for edge in edges]
        if rows:
            await self._run("link", lambda transaction: _merge(transaction, rows), write=True)

    async def unlink(self, scope: Scope, source: Coordinate, target: Coordinate, link_type: str | None = None) -> int:
        """Removes the edges between the two, of one type or of all."""
        keys = cypher.key(scope, source), cypher.key(scope, target)

        async def work(transaction: AsyncTransaction) -> int:
            count = await _number(transaction, cypher.UNLINK, source=keys[0], target=keys[1], type=link_type)
            await _done(transaction, cypher.TIDY, keys=list(keys))
            return count

        return await self._run("unlink", work, write=True)

    async def forget(self, scope: Scope, coordinates: Iterable[Coordinate]) -> int:
        """Removes every edge to or from them."""
        keys = [cypher.key(scope, one) for one in coordinates]
        return await self._run("forget", lambda transaction: _clear(transaction, keys), write=True) if keys else 0

    async def neighbors(
        self, scope: Scope, start: Coordinate, *, link_type: str | None = None, hops: int = 1, limit: int = 100
    ) -> list[Neighbor]:
        """As the protocol says; one round trip a hop."""
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
        """As the protocol says; one round trip a hop."""
        walk, _ = await self.walk(lambda: PathWalk(start, goal, max_length), scope, link_type)
        return walk.answer()

    async def walk(self, begin: Callable[[], W], scope: Scope, link_type: str | None) -> tuple[W, int]:
        """A walk in one transaction. Read committed: its hops may see what is committed while it runs."""

        async def work(transaction: AsyncTransaction) -> tuple[W, int]:
            position = await self._position(transaction)
            walk = begin()
            while walk.frontier:
                walk.advance(await _outgoing(transaction, scope, walk.frontier, link_type))
            return walk, position

        return await self._run("walk", work)

    async def edges(self, scope: Scope) -> AsyncIterator[Edge]:
        """Every edge of the scope, 500 places at a time, each time in a transaction of its own."""
        after = ""
        while True:
            keys, steps = await self._run("edges", partial(_page, scope=scope, after=after))
            for step in steps:
                yield step.edge()
            if len(keys) < _PAGE:
                return
            after = keys[-1]

    async def count(self, scope: Scope | None = None) -> int:
        """How many edges; at once for the whole store, O(edges of the scope) for one."""
        if scope is None:
            return await self._run("count", lambda transaction: _number(transaction, cypher.COUNT))
        values = {"tenant": scope.tenant, "namespace": scope.namespace}
        return await self._run("count", lambda transaction: _number(transaction, cypher.COUNT_SCOPE, **values))

    async def position(self) -> int:
        """How far it has followed the ledger."""
        return await self._run("position", self._position)

    async def _position(self, transaction: AsyncTransaction) -> int:
        found = await (await transaction.run(cypher.POSITION, ledger=self.ledger)).single()
        return NOWHERE if found is None else int(found["seq"])

    async def _hold(self, transaction: AsyncTransaction, expected: int) -> None:
        """Locks the cursor. Raises Conflict where it is not where it was: someone else feeds this mirror too."""
        found = await (await transaction.run(cypher.LOCKED_POSITION, ledger=self.ledger)).single(strict=True)
        if int(found["seq"]) != expected:
            raise overtaken()

    async def follow(self, edits: Sequence[Edits], position: int, *, expected: int) -> None:
        """Makes the edits and moves on, in one transaction."""

        async def work(transaction: AsyncTransaction) -> None:
            await self._hold(transaction, expected)
            cleared = [cypher.key(one.scope, place) for one in edits for place in one.cleared]
            if cleared:
                await _clear(transaction, cleared)
            removed = [
                {"source_key": cypher.key(one.scope, a), "link_type": link_type, "target_key": cypher.key(one.scope, b)}
                for one in edits
                for a, link_type, b in one.removed
            ]
            if removed:
                await _done(transaction, cypher.REMOVE, rows=removed)
                ends = {row[end] for row in removed for end in ("source_key", "target_key")}
                await _done(transaction, cypher.TIDY, keys=sorted(ends))
            rows = [cypher.row(one.scope, edge) for one in edits for edge in one.edges]
            if rows:
                await _merge(transaction, rows)
            await _done(transaction, cypher.MOVE, seq=position, ledger=self.ledger)

        # a repeat of what was done after all finds another position, and is told so: the feeder looks again
        await self._run("follow", work, write=True)

    async def wipe(self) -> int:
        """Forgets everything, 10,000 places a transaction."""
        position = filling()

        async def forget_position(transaction: AsyncTransaction) -> None:
            await _done(transaction, cypher.LOCKED_POSITION, ledger=self.ledger)
            await _done(transaction, cypher.MOVE, seq=position, ledger=self.ledger)

        await self._run("wipe", forget_position, write=True)
        wiped = _WIPED_AT_ONCE
        while wiped == _WIPED_AT_ONCE:
            wiped = await self._run(
                "wipe", lambda transaction: _number(transaction, cypher.WIPE, limit=_WIPED_AT_ONCE), write=True
            )
        return position


async def _done(transaction: AsyncTransaction, statement: str, **values: Any) -> None:
    await (await transaction.run(statement, values)).consume()


async def _number(transaction: AsyncTransaction, statement: str, **values: Any) -> int:
    found = await (await transaction.run(statement, values)).single(strict=True)
    return int(found["number"])


async def _version(transaction: AsyncTransaction) -> str:
    found = await (await transaction.run(cypher.VERSION)).single(strict=True)
    return str(found["version"])


async def _merge(transaction: AsyncTransaction, rows: list[dict[str, Any]]) -> None:
    # in one order everywhere: two writers that lock the same places then wait for one another instead of deadlocking
    rows.sort(key=lambda one: (one["source_key"], one["target_key"], one["link_type"]))
    await _done(transaction, cypher.MERGE, rows=rows)


async def _clear(transaction: AsyncTransaction, keys: list[str]) -> int:
    found = await (await transaction.run(cypher.NEAR, keys=keys)).single(strict=True)
    await _done(transaction, cypher.CLEAR, keys=keys)
    await _done(transaction, cypher.TIDY, keys=found["near"])
    return int(found["number"])


async def _outgoing(
    transaction: AsyncTransaction, scope: Scope, sources: Sequence[str], link_type: str | None
) -> list[Step]:
    keys = [cypher.key(scope, source) for source in sources]
    steps: list[Step] = []
    for start in range(0, len(keys), _FRONTIER):
        result = await transaction.run(cypher.OUTGOING, keys=keys[start : start + _FRONTIER], type=link_type)
        steps += [cypher.step(record) async for record in result]
    return steps


async def _page(transaction: AsyncTransaction, scope: Scope, after: str) -> tuple[list[str], list[Step]]:
    values = {"tenant": scope.tenant, "namespace": scope.namespace, "after": after, "limit": _PAGE}
    keys = [record["key"] async for record in await transaction.run(cypher.PLACES, values)]
    result = await transaction.run(cypher.OUTGOING, keys=keys, type=None)
    return keys, [cypher.step(record) async for record in result]


def _check_version(version: str) -> None:
    if int(version.partition(".")[0]) < _OLDEST:
        raise SettingsError(
            f"neo4j_url: the server is Neo4j {version}, and {_OLDEST} is the oldest that serves",
            setting="neo4j_url",
            remedy="upgrade it, or set SOMA_GRAPH_BACKEND=sql",
        )
