"""A ledger that lost its newest changes, and came to the same sequence with others: whoever follows it notices.

The standby is cut off before the changes that are lost; the replica looks again only when the new primary has written
as many as were lost: its numbers alone say that nothing happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, keep_snapshot, restore_snapshot, start_clone, start_postgres, start_standby
from memory_runtime.stores.contracts import Applied, Unit
from memory_runtime.stores.lineages import holds, lineage_of
from memory_runtime.stores.postgres import migrating
from memory_runtime.tests.contract.conftest import ask, named, open_directory, settings_for
from memory_runtime.tests.ledgers import Place, identity, put

pytestmark = pytest.mark.integration


class Pair(NamedTuple):
    """A primary, its asynchronous standby, and one DSN for both."""

    primary: Service
    standby: Service
    dsn: str

    def cut_off(self) -> None:
        """From here on the standby hears of nothing."""
        ask(self.standby.url, "ALTER SYSTEM SET primary_conninfo = ''")
        ask(self.standby.url, "SELECT pg_reload_conf()")
        self.until_nobody_streams()

    def until_nobody_streams(self) -> None:
        end = time.monotonic() + 20
        while ask(self.primary.url, "SELECT count(*) FROM pg_stat_replication") != [(0,)]:
            assert time.monotonic() < end
            time.sleep(0.05)

    def catch_up(self) -> None:
        """Waits until the standby has everything."""
        end = time.monotonic() + 20
        (where,) = ask(self.primary.url, "SELECT pg_current_wal_lsn()::text")[0]
        while ask(self.standby.url, f"SELECT pg_last_wal_replay_lsn() >= '{where}'") != [(True,)]:
            assert time.monotonic() < end
            time.sleep(0.05)

    def fail_over(self) -> None:
        """The primary dies, and the standby takes its place."""
        self.primary.kill()
        ask(self.standby.url, "SELECT pg_promote(true, 30)")


@pytest.fixture
def pair() -> Iterator[Pair]:
    with _services() as started:
        primary = started[0]
        started.append(start_standby(primary, primary.log.parent))
        account, _, host = primary.url.removeprefix("postgresql://").rpartition("/")[0].rpartition("@")
        other = started[1].url.rpartition("@")[2].partition("/")[0]
        yield Pair(primary, started[1], f"postgresql://{account}@{host},{other}/soma")


@pytest.fixture
def servers() -> Iterator[list[Service]]:
    with _services() as started:
        yield started


@contextlib.contextmanager
def _services() -> Iterator[list[Service]]:
    with open_directory() as directory:
        started: list[Service] = []
        try:
            try:
                started.append(start_postgres(directory))
            except ClusterError as error:
                unavailable(str(error))
            ask(started[0].url, "CREATE DATABASE soma")
            migrating.migrate(settings_for(named(started[0].url, "soma")))
            yield started
        finally:
            for service in started:
                service.stop()


class Follower(NamedTuple):
    """A replica that only follows, and what it was told."""

    ledger: Any
    applied: list[Applied]
    lost: list[bool]

    @classmethod
    def on(cls, place: Place) -> Follower:
        applied: list[Applied] = []
        lost: list[bool] = []
        ledger = place.open(applied)
        ledger.on_lineage = lost.append
        return cls(ledger, applied, lost)

    @contextlib.asynccontextmanager
    async def not_looking(self) -> AsyncIterator[None]:
        """Holds the thread that looks, for as long as the block lasts."""
        held, go_on = threading.Event(), threading.Event()

        def wait(_: object) -> None:
            held.set()
            go_on.wait(60)

        waiting = asyncio.ensure_future(self.ledger.exclusively(wait))
        await asyncio.to_thread(held.wait, 20)
        try:
            yield
        finally:
            go_on.set()
            with contextlib.suppress(Exception):
                await waiting

    async def until(self, reached: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not reached():
            assert time.monotonic() < end, (self.ledger.ailment, self.ledger.head_seq, self.lost)
            await asyncio.sleep(0.02)


async def write(ledger: Any, first: int, count: int) -> None:
    for n in range(first, first + count):
        await ledger.commit(Unit([put(n)]))


async def test_a_replica_that_looks_late_after_a_lossy_fail_over_skips_nothing(
    pair: Pair, open_at: Callable[..., Place]
) -> None:
    place = open_at(pair.dsn, postgres_connect_timeout_seconds=1.0)
    writer, follower = place.open(), Follower.on(place)
    follower.ledger.catch_up()
    await write(writer, 1, 5)
    await asyncio.to_thread(pair.catch_up)
    await asyncio.to_thread(pair.cut_off)
    await write(writer, 100, 3)
    await follower.until(lambda: follower.ledger.head_seq == 8)
    line = follower.ledger.lineage
    async with follower.not_looking():
        await asyncio.to_thread(pair.fail_over)
        # as many as were lost, and others: to the number the ledger is where the follower left it
        await write(writer, 200, 3)
    await follower.until(lambda: True in follower.lost)
    assert follower.ledger.lineage != line
    found = await follower.ledger.exclusively(lambda view: [rows.ids for rows in view.scan(3)])
    assert {one for ids in found for one in ids} == {identity(n).bytes for n in (1, 2, 3, 4, 5, 200, 201, 202)}
    await write(writer, 300, 2)
    await follower.until(lambda: follower.applied[-1].receipt.seq == 10)
    assert [one.receipt.id for one in follower.applied[-2:]] == [identity(300), identity(301)]
    chain = await writer.read(lambda view: view.lineages())
    assert [one.forked for one in chain] == [0, 5]
    assert chain[1].parent == chain[0].id == line
    assert holds(chain, line, 5)
    assert not holds(chain, line, 8)
    assert lineage_of(chain, 6).id == follower.ledger.lineage


async def test_its_own_commit_may_be_the_first_that_meets_the_other_history(
    pair: Pair, open_at: Callable[..., Place]
) -> None:
    place = open_at(pair.dsn, postgres_connect_timeout_seconds=1.0)
    writer, follower = place.open(), Follower.on(place)
    follower.ledger.catch_up()
    await write(writer, 1, 5)
    await asyncio.to_thread(pair.catch_up)
    await asyncio.to_thread(pair.cut_off)
    await write(writer, 100, 3)
    await follower.until(lambda: follower.ledger.head_seq == 8)
    async with follower.not_looking():
        await asyncio.to_thread(pair.fail_over)
        await write(writer, 200, 3)
        # waits for the thread that looks, and is its first work then
        mine = asyncio.ensure_future(follower.ledger.commit(Unit([put(400)])))
        await asyncio.sleep(0)
    assert (await mine).receipts[0].seq == 9
    assert True in follower.lost
    assert follower.applied[-1].receipt.id == identity(400)


async def test_a_restart_that_loses_nothing_builds_nothing_anew(
    servers: list[Service], open_at: Callable[..., Place]
) -> None:
    server = servers[0]
    place = open_at(named(server.url, "soma"), postgres_connect_timeout_seconds=1.0)
    writer, follower = place.open(), Follower.on(place)
    follower.ledger.catch_up()
    told: list[int] = []
    follower.ledger.on_generation = told.append
    await write(writer, 1, 3)
    await follower.until(lambda: follower.ledger.head_seq == 3)
    line = follower.ledger.lineage
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await write(writer, 4, 3)
    await follower.until(lambda: len(follower.applied) == 6 and follower.ledger.lineage != line)
    assert (follower.lost, told) == ([False], [])
    assert [one.receipt.seq for one in follower.applied] == [1, 2, 3, 4, 5, 6]
    assert len(await writer.read(lambda view: view.lineages())) == 2, "one for all replicas"


async def test_a_restored_volume_and_a_clone_are_lines_of_their_own(
    servers: list[Service], open_at: Callable[..., Place]
) -> None:
    server = servers[0]
    place = open_at(named(server.url, "soma"), postgres_connect_timeout_seconds=1.0)
    writer, follower = place.open(), Follower.on(place)
    follower.ledger.catch_up()
    await write(writer, 1, 3)
    await asyncio.to_thread(server.stop)
    kept = await asyncio.to_thread(keep_snapshot, server)
    await asyncio.to_thread(server.start)
    await write(writer, 100, 3)
    await follower.until(lambda: follower.ledger.head_seq == 6)
    async with follower.not_looking():
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(restore_snapshot, server, kept)
        await asyncio.to_thread(server.start)
        await write(writer, 200, 3)
    await follower.until(lambda: True in follower.lost)
    clone = await asyncio.to_thread(start_clone, server, kept, server.log.parent)
    servers.append(clone)
    other = open_at(named(clone.url, "soma")).open()
    await write(other, 300, 3)
    lines = [{one.id for one in await ledger.read(lambda view: view.lineages())} for ledger in (writer, other)]
    assert len(lines[0] & lines[1]) == 1, "what they have in common ends where the snapshot was taken"
    assert other.lineage not in lines[0]
    assert writer.lineage not in lines[1]


DATA_ONLY_RESTORE = (
    "DELETE FROM memories_text WHERE row > 2",
    "DELETE FROM vectors WHERE row > 2",
    "DELETE FROM memories WHERE seq > 2",
    "DELETE FROM outbox WHERE seq > 2",
    "UPDATE ledger_head SET seq = 2, rows = 2, documents = 2, tokens = 2, writer = NULL,"
    " history = (SELECT history FROM outbox WHERE seq = 2)",
)
"""Back to the second change; neither server nor table is another one."""


@pytest.mark.parametrize("others", [True, False], ids=["with-the-writer-of-before", "follower-alone"])
async def test_rows_put_in_place_under_a_running_server_are_noticed_by_their_token(shared: Place, others: bool) -> None:
    follower = Follower.on(shared)
    writer = shared.open()
    follower.ledger.catch_up()
    await write(writer, 1, 4)
    await follower.until(lambda: follower.ledger.head_seq == 4)
    line = follower.ledger.lineage
    async with follower.not_looking():
        if not others:
            # or it sees that the head has gone back, begins another line, and so tells the follower
            await asyncio.to_thread(writer.close)
        for sql in DATA_ONLY_RESTORE:
            await asyncio.to_thread(shared.ask, sql)
        other = shared.open()
        await write(other, 10, 2)
    await follower.until(lambda: True in follower.lost)
    await follower.until(lambda: follower.ledger.lineage not in {"", line})
    # the writer of before wrote 3 and 4 of the history that is gone: its index is told, too
    await write(writer if others else other, 20, 1)
    await follower.until(lambda: follower.applied[-1].receipt.id == identity(20))
    assert shared.half_visible() == dict.fromkeys(shared.half_visible(), 0)
