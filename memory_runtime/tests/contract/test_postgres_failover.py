"""A primary dies under load and its standby is promoted: the ledger goes on there, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, start_postgres, start_standby
from memory_runtime.model.errors import Unavailable
from memory_runtime.stores.contracts import Applied, Unit
from memory_runtime.stores.postgres import committing, migrating
from memory_runtime.tests.contract.conftest import ask, named, open_directory, settings_for
from memory_runtime.tests.contract.load import Load
from memory_runtime.tests.ledgers import Place, drop, identity, put

pytestmark = pytest.mark.integration


class Pair(NamedTuple):
    """A primary, the standby that must have each commit before it is answered, and one DSN for both."""

    primary: Service
    standby: Service
    dsn: str


@pytest.fixture
def pair() -> Iterator[Pair]:
    with open_directory() as directory:
        started: list[Service] = []
        try:
            try:
                primary = start_postgres(directory)
            except ClusterError as error:
                unavailable(str(error))
            started.append(primary)
            ask(primary.url, "CREATE DATABASE soma")
            migrating.migrate(settings_for(named(primary.url, "soma")))
            started.append(start_standby(primary, directory))
            # from here on a commit is answered once the standby has it, too
            ask(primary.url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            ask(primary.url, "SELECT pg_reload_conf()")
            account, _, host = primary.url.removeprefix("postgresql://").rpartition("/")[0].rpartition("@")
            other = started[1].url.rpartition("@")[2].partition("/")[0]
            # the standby stands first: the DSN's order must not matter
            yield Pair(primary, started[1], f"postgresql://{account}@{other},{host}/soma")
        finally:
            for service in started:
                service.stop()


async def test_a_fail_over_under_load_loses_nothing_acknowledged_and_does_nothing_twice(
    pair: Pair, open_at: Callable[..., Place]
) -> None:
    applied: list[Applied] = []
    place = open_at(pair.dsn, postgres_connect_timeout_seconds=1.0)
    ledger = place.open(applied)
    follower: list[Applied] = []
    other = place.open(follower)
    await other.exclusively(lambda view: view.head())  # follows from here on
    load = Load(ledger)
    async with load.running():
        await load.gets_on(1)
        await asyncio.to_thread(pair.primary.kill)
        await asyncio.sleep(0.3)
        promoted = named(pair.standby.url, "soma")
        await asyncio.to_thread(ask, promoted, "SELECT pg_promote(true, 30)")
        await load.gets_on()
    found = {row[0] for row in await asyncio.to_thread(ask, promoted, "SELECT id FROM memories WHERE NOT deleted")}
    assert {identity(n) for n in load.acknowledged} <= found
    assert await asyncio.to_thread(ask, promoted, "SELECT count(*) - max(seq), max(version) FROM outbox") == [(0, 1)]
    assert [one.receipt.seq for one in applied] == list(range(1, ledger.head_seq + 1))
    end = time.monotonic() + 30
    while not follower or follower[-1].receipt.seq < ledger.head_seq:
        assert time.monotonic() < end, f"the other replica does not follow any more: {other.ailment}"
        await asyncio.sleep(0.05)
    assert [one.receipt.id for one in follower] == [one.receipt.id for one in applied]
    assert ledger.ailment == ""


async def _cancel_the_wait(primary: Service) -> None:
    """As `pg_cancel_backend` by an administrator, or by a client whose time-out is over."""
    sql = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    end = time.monotonic() + 20
    while not (await asyncio.to_thread(ask, primary.url, sql))[0][0]:
        assert time.monotonic() < end, "no commit waits for the standby"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("alone", [True, False], ids=["one statement", "with the turn"])
async def test_a_commit_whose_wait_for_the_standby_was_cancelled_is_not_acknowledged(
    pair: Pair, open_at: Callable[..., Place], monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    monkeypatch.setattr(committing, "OUTCOME_SECONDS", 1.0)
    ledger = open_at(pair.dsn, postgres_statement_timeout_seconds=1.0, postgres_lock_timeout_seconds=1.0).open()
    for n in range(3):
        await ledger.commit(Unit([put(n)]))
    await asyncio.to_thread(pair.standby.kill)
    writes = [put(100)] if alone else [put(100), drop(0)]
    waiting = asyncio.ensure_future(ledger.commit(Unit(writes)))
    await _cancel_the_wait(pair.primary)
    with pytest.raises(Unavailable, match="not known"):
        await waiting
    found = await asyncio.to_thread(ask, named(pair.primary.url, "soma"), "SELECT count(*) FROM outbox")
    assert found[0][0] > 3, "the primary itself has it: it reported success"


async def test_it_is_acknowledged_once_a_commit_after_it_is_on_the_standby(
    pair: Pair, open_at: Callable[..., Place]
) -> None:
    ledger = open_at(pair.dsn, postgres_statement_timeout_seconds=1.0).open()
    await ledger.commit(Unit([put(1)]))
    await asyncio.to_thread(pair.standby.kill)
    waiting = asyncio.ensure_future(ledger.commit(Unit([put(2)])))
    await _cancel_the_wait(pair.primary)
    await asyncio.to_thread(pair.standby.start)
    assert (await asyncio.wait_for(waiting, 40)).receipts[0].seq == 2
    found = await asyncio.to_thread(ask, named(pair.standby.url, "soma"), "SELECT seq FROM outbox ORDER BY seq")
    assert found == [(1,), (2,)]
