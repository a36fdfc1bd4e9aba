"""A primary dies under load and its standby is promoted: the ledger goes on there, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Service, start_postgres, start_standby
from memory_runtime.model.errors import Unavailable
from memory_runtime.stores.contracts import Applied, Unit
from memory_runtime.stores.postgres import migrating
from memory_runtime.tests.contract.conftest import ask, named, open_directory, settings_for
from memory_runtime.tests.ledgers import Place, identity, put

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
    acknowledged: set[int] = set()
    stop = threading.Event()

    async def client(number: int) -> None:
        n = number
        while not stop.is_set():
            try:
                await ledger.commit(Unit([put(n)]))
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                acknowledged.add(n)
            n += 8

    clients = [asyncio.create_task(client(n)) for n in range(8)]
    await asyncio.sleep(1.0)
    assert acknowledged, "nothing was acknowledged before the fail-over"
    await asyncio.to_thread(pair.primary.kill)
    await asyncio.sleep(0.3)
    promoted = named(pair.standby.url, "soma")
    await asyncio.to_thread(ask, promoted, "SELECT pg_promote(true, 30)")
    before, end = len(acknowledged), time.monotonic() + 60
    while len(acknowledged) < before + 20:
        assert time.monotonic() < end, f"nothing is acknowledged after the fail-over: {ledger.ailment}"
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*clients)
    found = {row[0] for row in await asyncio.to_thread(ask, promoted, "SELECT id FROM memories WHERE NOT deleted")}
    assert {identity(n) for n in acknowledged} <= found
    assert await asyncio.to_thread(ask, promoted, "SELECT count(*) - max(seq), max(version) FROM outbox") == [(0, 1)]
    assert [one.receipt.seq for one in applied] == list(range(1, ledger.head_seq + 1))
    end = time.monotonic() + 30
    while not follower or follower[-1].receipt.seq < ledger.head_seq:
        assert time.monotonic() < end, f"the other replica does not follow any more: {other.ailment}"
        await asyncio.sleep(0.05)
    assert [one.receipt.id for one in follower] == [one.receipt.id for one in applied]
    assert ledger.ailment == ""
