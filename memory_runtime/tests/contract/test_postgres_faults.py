"""PostgreSQL killed, cut off, read-only, crowded: nothing acknowledged is lost, nothing done twice, all recovers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from hack.services import Service
from hack.services.proxy import FaultProxy
from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Applied, Unit
from memory_runtime.stores.postgres import PostgresLedger, committing
from memory_runtime.telemetry.backends import BackendMetrics
from memory_runtime.tests.contract.conftest import ask, named
from memory_runtime.tests.contract.load import Load
from memory_runtime.tests.ledgers import DIM, Place, identity, normaliser, put

pytestmark = pytest.mark.integration


@pytest.fixture
def proxy(postgres: Service) -> Iterator[FaultProxy]:
    with FaultProxy.before(postgres.url) as made:
        yield made


async def recovered(ledger: Any, seconds: float = 60.0) -> float:
    """Waits until a write passes; returns how long that took."""
    start = time.monotonic()
    while True:
        try:
            await ledger.commit(Unit([put(9999)]))
        except Unavailable:
            assert time.monotonic() - start < seconds, "it did not recover"
            await asyncio.sleep(0.1)
            continue
        return time.monotonic() - start


async def readable(ledger: Any, seconds: float = 60.0, at_once: int = 3) -> None:
    """Waits until the circuit is closed: a few reads at once that all pass."""
    end = time.monotonic() + seconds
    while True:
        found = await asyncio.gather(
            *(ledger.read(lambda view: view.head()) for _ in range(at_once)), return_exceptions=True
        )
        if not any(isinstance(one, BaseException) for one in found):
            return
        assert time.monotonic() < end, "readers do not recover"
        await asyncio.sleep(0.1)


async def test_no_acknowledged_write_is_lost_when_postgresql_is_killed_under_load(
    shared: Place, postgres: Service
) -> None:
    applied: list[Applied] = []
    ledger = shared.open(applied)
    load = Load(ledger)
    async with load.running():
        for _ in range(2):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(postgres.kill)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(postgres.start)
        await load.gets_on()
    await readable(ledger)
    assert ledger.ailment == ""
    found = await ledger.read(lambda view: view.by_ids([identity(n).bytes for n in load.acknowledged]))
    assert len(found) == len(load.acknowledged)
    assert [one.receipt.seq for one in applied] == list(range(1, ledger.head_seq + 1))
    assert not any(shared.half_visible().values())


async def test_readers_go_on_after_a_restart_without_a_restart_of_ours(shared: Place, postgres: Service) -> None:
    ledger = shared.open()
    await ledger.commit(Unit([put(1)]))
    await asyncio.gather(*(ledger.get(identity(1)) for _ in range(8)))
    await asyncio.to_thread(postgres.kill)
    with pytest.raises(Unavailable, match="away"):
        await ledger.get(identity(1))
    assert not ledger.healthy
    assert "PostgreSQL" in ledger.ailment
    await asyncio.to_thread(postgres.start)
    await recovered(ledger)
    await readable(ledger)
    assert all(await asyncio.gather(*(ledger.get(identity(1)) for _ in range(8))))
    assert ledger.healthy


async def test_a_replica_that_is_cut_off_answers_nothing_not_even_what_needs_no_question(
    database: str, open_at: Callable[..., Place], proxy: FaultProxy
) -> None:
    """Its index follows nobody any more: what it would say from there, with payloads from Redis, may be long over."""
    ledger = open_at(proxy.url(database)).open()
    ledger.catch_up()
    await ledger.commit(Unit([put(1)]))
    assert await ledger.read(lambda view: "unasked") == "unasked"
    proxy.cut()
    end = time.monotonic() + 30
    while ledger.healthy:
        assert time.monotonic() < end, "it does not notice"
        await asyncio.sleep(0.02)
    with pytest.raises(Unavailable):
        await ledger.read(lambda view: "unasked")
    proxy.heal()
    await recovered(ledger)
    await readable(ledger)
    assert await ledger.read(lambda view: "unasked") == "unasked"


async def test_commits_are_counted_and_watched_as_calls_to_any_back_end(database: str, proxy: FaultProxy) -> None:
    registry = CollectorRegistry()

    def said(what: str, **labels: str) -> float:
        return registry.get_sample_value(f"soma_backend_{what}", {"adapter": "postgres-ledger", **labels}) or 0.0

    settings = SMFSettings(mode="distributed", postgres_url=proxy.url(database), vector_dim=DIM)
    ledger = PostgresLedger(settings, normalisers=normaliser, observer=lambda _: None, metrics=BackendMetrics(registry))
    await asyncio.to_thread(ledger.open)
    try:
        await ledger.commit(Unit([put(1)]))
        assert said("calls_total", operation="commit", outcome="ok") == 1
        assert said("call_seconds_count", operation="commit") == 1
        assert (said("circuit_state"), said("calls_active"), said("calls_waiting")) == (0, 0, 0)
        proxy.cut()
        with pytest.raises(Unavailable):
            await ledger.commit(Unit([put(2)]))
        assert said("calls_total", operation="commit", outcome="away") == 1
        assert said("circuit_state") == 2
        proxy.heal()
        await recovered(ledger)
        assert said("calls_total", operation="commit", outcome="ok") >= 2
        await readable(ledger)
        assert said("circuit_state") == 0
    finally:
        await asyncio.to_thread(ledger.close)


def break_commit(monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]) -> list[str]:
    """Does something to the network at the first COMMIT, before it is sent."""
    done: list[str] = []

    def reach(name: str) -> None:
        if name == "pre-commit" and not done:
            done.append(name)
            how()

    monkeypatch.setattr(committing, "reach", reach)
    return done


async def warm(ledger: Any, times: int) -> None:
    """After two groups that nobody came between, a writer commits few puts in one statement; it is prepared once."""
    for number in range(times):
        await ledger.commit(Unit([put(100 + number)]))


both_ways = pytest.mark.parametrize("before", [pytest.param(0, id="with-the-turn"), pytest.param(3, id="at-once")])


def later(seconds: float, *calls: Callable[[], None]) -> None:
    def run() -> None:
        for call in calls:
            call()

    threading.Timer(seconds, run).start()


@both_ways
async def test_a_commit_whose_answer_is_lost_is_acknowledged_once_it_is_known_to_be_durable(
    database: str, open_at: Callable[..., Place], proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    place = open_at(proxy.url(database))
    ledger = place.open()
    await warm(ledger, before)

    def lose_the_answer() -> None:
        proxy.stall("replies")
        later(0.3, proxy.drop, proxy.heal)

    broken = break_commit(monkeypatch, lose_the_answer)
    receipt = (await ledger.commit(Unit([put(1)]))).receipts[0]
    assert broken
    assert (receipt.version, receipt.seq) == (1, before + 1)
    assert (await ledger.get(identity(1))).version == 1
    assert await asyncio.to_thread(ask, database, "SELECT count(*) FROM outbox") == [(before + 1,)]


@both_ways
async def test_a_commit_that_never_arrived_is_made_again_and_done_once(
    database: str, open_at: Callable[..., Place], proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    ledger = open_at(proxy.url(database)).open()
    await warm(ledger, before)

    def lose_the_commit() -> None:
        proxy.cut()
        later(0.3, proxy.heal)

    broken = break_commit(monkeypatch, lose_the_commit)
    receipts = await asyncio.gather(*(ledger.commit(Unit([put(n)])) for n in range(5)))
    assert broken
    assert sorted(one.receipts[0].seq for one in receipts) == [before + n for n in (1, 2, 3, 4, 5)]
    assert {one.receipts[0].version for one in receipts} == {1}
    found = await asyncio.to_thread(ask, database, "SELECT count(*), max(seq) FROM outbox")
    assert found == [(before + 5, before + 5)]


async def test_a_statement_that_arrives_after_its_writer_has_given_it_up_does_nothing(
    database: str, open_at: Callable[..., Place], proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_at(proxy.url(database)).open()
    await warm(ledger, 3)
    link, run = ledger._writer._link, committing.Committer._run
    late: list[str] = []

    def hold_it_and_break_the_connection() -> None:
        proxy.hold()
        later(0.3, lambda: link.session().connection._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR))

    def let_it_arrive_then_run(self: committing.Committer, *rest: Any) -> Any:
        if not late:
            proxy.heal()
            time.sleep(0.5)
            late.append("arrived")
        return run(self, *rest)

    broken = break_commit(monkeypatch, hold_it_and_break_the_connection)
    monkeypatch.setattr(committing.Committer, "_run", let_it_arrive_then_run)
    receipt = (await ledger.commit(Unit([put(1)]))).receipts[0]
    assert broken
    assert late
    assert (receipt.version, receipt.seq) == (1, 4)
    assert await asyncio.to_thread(ask, database, "SELECT count(*), max(seq) FROM outbox") == [(4, 4)]


@both_ways
async def test_a_commit_of_which_nobody_knows_is_said_to_be_that(
    database: str, open_at: Callable[..., Place], proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(committing, "OUTCOME_SECONDS", 0.5)
    applied: list[Applied] = []
    ledger = open_at(proxy.url(database), postgres_connect_timeout_seconds=0.5).open(applied)
    await warm(ledger, before)

    def lose_everything() -> None:
        proxy.stall("replies")
        later(0.3, proxy.cut)

    break_commit(monkeypatch, lose_everything)
    with pytest.raises(Unavailable, match="not known") as caught:
        await ledger.commit(Unit([put(1)]))
    assert "idempotency key" in str(caught.value.remedy)
    proxy.heal()
    await recovered(ledger)
    # it was durable: whoever follows hears of it in its place
    assert [one.receipt.seq for one in applied] == list(range(1, before + 3))
    assert applied[before].receipt.id == identity(1)


async def test_a_partition_is_bounded_by_the_time_outs_and_heals(
    database: str, open_at: Callable[..., Place], proxy: FaultProxy
) -> None:
    place = open_at(proxy.url(database), postgres_connect_timeout_seconds=0.5, postgres_statement_timeout_seconds=0.5)
    ledger = place.open()
    await ledger.commit(Unit([put(1)]))
    proxy.stall()
    start = time.monotonic()
    results = await asyncio.gather(ledger.get(identity(1)), ledger.commit(Unit([put(2)])), return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in results)
    assert time.monotonic() - start < 25
    proxy.heal()
    await recovered(ledger)
    await readable(ledger)
    assert (await ledger.get(identity(1))).version == 1


async def test_a_server_that_turns_read_only_refuses_writes_and_takes_them_again(
    shared: Place, database: str, postgres: Service
) -> None:
    ledger = shared.open()
    await ledger.commit(Unit([put(1)]))
    await asyncio.to_thread(ask, postgres.url, "ALTER SYSTEM SET default_transaction_read_only = on")
    await asyncio.to_thread(ask, postgres.url, "SELECT pg_reload_conf()")
    try:
        await asyncio.sleep(0.2)
        with pytest.raises(Unavailable, match="read-only"):
            await ledger.commit(Unit([put(2)]))
        assert (await ledger.get(identity(1))).version == 1
    finally:
        off = "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only"
        for statement in off.split("; "):
            await asyncio.to_thread(
                ask, named(postgres.url, "postgres") + "?options=-cdefault_transaction_read_only%3Doff", statement
            )
        await asyncio.to_thread(ask, postgres.url, "SELECT pg_reload_conf()")
    await recovered(ledger)
    assert await ledger.get(identity(2)) is None


async def test_who_finds_no_free_connection_waits_a_bounded_time_and_is_told_why(
    database: str, open_at: Callable[..., Place]
) -> None:
    ledger = open_at(database, postgres_pool_size=3, postgres_connect_timeout_seconds=0.5).open()
    gate = threading.Event()
    holding = asyncio.create_task(ledger.read(lambda view: (view.head(), gate.wait(10))))
    await asyncio.sleep(0.2)
    start = time.monotonic()
    with pytest.raises(Unavailable, match="in use") as caught:
        await asyncio.to_thread(ledger.read_now, lambda view: view.head())
    assert time.monotonic() - start < 3
    assert "POSTGRES_POOL_SIZE" in str(caught.value.remedy)
    # a write has a connection of its own
    assert (await ledger.commit(Unit([put(1)]))).receipts[0].seq == 1
    gate.set()
    await holding
    assert ledger.healthy
    assert await ledger.read(lambda view: view.head()) == 1


async def test_while_postgresql_is_away_callers_are_refused_at_once_and_the_circuit_closes_again(
    shared: Place, postgres: Service
) -> None:
    ledger = shared.open()
    await ledger.commit(Unit([put(1)]))
    await ledger.get(identity(1))
    await asyncio.to_thread(postgres.kill)
    try:
        for _ in range(5):
            with pytest.raises(Unavailable):
                await ledger.get(identity(1))
        with pytest.raises(Unavailable, match="circuit is open") as caught:
            await ledger.get(identity(1))
        assert caught.value.retry_after is not None
    finally:
        await asyncio.to_thread(postgres.start)
    await readable(ledger)
    assert (await ledger.get(identity(1))).version == 1


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"memory_type": "nul\0type"}, id="server"),
        pytest.param({"model_revision": "the connection was closed \ud800"}, id="driver"),
    ],
)
@both_ways
async def test_one_unit_that_postgresql_refuses_does_not_fail_its_neighbours(
    shared: Place, before: int, wrong: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    ledger = shared.open()
    await warm(ledger, before)
    bad = put(2, **wrong)
    fates = await ledger.commit_many([Unit([put(1)]), Unit([bad]), Unit([put(3)])])
    assert isinstance(fates[1], SomaError)
    assert fates[1].code == "INVALID_ARGUMENT"
    assert not any(value in caplog.text for value in wrong.values())
    assert [getattr(one, "receipts", None) is not None for one in fates] == [True, False, True]
    assert not any(shared.half_visible().values())


async def test_too_many_connections_is_said_with_the_remedy(database: str, open_at: Callable[..., Place]) -> None:
    role = "crowded"
    await asyncio.to_thread(ask, database, f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'x'")
    try:
        await asyncio.to_thread(ask, database, f"ALTER ROLE {role} NOSUPERUSER CONNECTION LIMIT 4")
        await asyncio.to_thread(ask, database, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        dsn = f"postgresql://{role}:x@{database.rpartition('@')[2]}"
        ledger = open_at(dsn, postgres_pool_size=20).open()
        await ledger.commit(Unit([put(1)]))
        gate = threading.Event()
        reads = [asyncio.create_task(ledger.read(lambda view: (view.head(), gate.wait(2)))) for _ in range(8)]
        results = await asyncio.gather(*reads, return_exceptions=True)
        refused = [one for one in results if isinstance(one, Unavailable)]
        assert refused
        assert "max_connections" in str(refused[0].remedy)
        await readable(ledger, at_once=1)
        assert await ledger.read(lambda view: view.head()) == 1
        ledger.close()
    finally:
        await asyncio.to_thread(ask, database, f"DROP OWNED BY {role}")
        await asyncio.to_thread(ask, database, f"DROP ROLE {role}")
