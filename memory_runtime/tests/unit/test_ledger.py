"""The SQLite ledger: durable, whole, in order; refusals that change nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.model.coordinates import memory_id
from memory_runtime.model.errors import Conflict, NotFound, SomaError, Unavailable
from memory_runtime.model.records import Edge, Scope
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.settings import SettingsError
from memory_runtime.stores.contracts import (
    Applied,
    AuditEntry,
    Delete,
    IdempotencyKey,
    Link,
    Operation,
    Put,
    TailTrimmed,
    Unit,
)
from memory_runtime.stores.sqlite import SQLiteLedger, following

ACME = Scope("acme", "notes")


def put(
    number: float, text: str = "words", *, scope: Scope = ACME, importance: float | None = None, **rest: Any
) -> Put:
    coordinate = repr(float(number))
    return Put(
        id=memory_id(scope.tenant, scope.namespace, "episodic", coordinate),
        scope=scope,
        memory_type="episodic",
        coordinate=coordinate,
        payload=f'{{"text":"{text}"}}',
        search_text=text,
        event_time=1000.0,
        ingest_time=2000.0,
        importance=importance,
        vector=np.array([1, 0, 0], np.float32),
        **rest,
    )


def drop(number: float, scope: Scope = ACME) -> Delete:
    return Delete(
        memory_id(scope.tenant, scope.namespace, "episodic", repr(float(number))), scope, "episodic", at=3000.0
    )


def key(name: str, body: str = "body", scope: Scope = ACME) -> IdempotencyKey:
    return IdempotencyKey(scope, "store", name, body, 2000.0)


def opened(path: Path, applied: list[Applied] | None = None) -> SQLiteLedger:
    def observer(changes: Sequence[Applied]) -> None:
        if applied is not None:
            applied.extend(changes)

    def normalisers(state: str | None) -> ImportanceNormaliser:
        return ImportanceNormaliser() if state is None else ImportanceNormaliser.loads(state)

    ledger = SQLiteLedger(path, normalisers=normalisers, observer=observer)
    ledger.open()
    return ledger


@pytest.fixture
async def applied() -> list[Applied]:
    return []


@pytest.fixture
async def ledger(tmp_path: Path, applied: list[Applied]) -> AsyncIterator[SQLiteLedger]:
    made = opened(tmp_path / "data", applied)
    yield made
    made.close()


async def test_storing_a_coordinate_again_is_the_next_version_and_a_later_seq(ledger: SQLiteLedger) -> None:
    first = (await ledger.commit(Unit([put(1, "one")]))).receipts[0]
    second = (await ledger.commit(Unit([put(1, "two")]))).receipts[0]
    assert (first.version, first.created, second.version, second.created) == (1, True, 2, False)
    assert second.seq > first.seq
    record = await ledger.get(first.id)
    assert record is not None
    assert (record.payload, record.version, record.seq) == ({"text": "two"}, 2, second.seq)
    assert await ledger.counts() == {("acme", "notes", "episodic", 0): 1}


async def test_a_deleted_memory_stays_deleted_after_restart_and_its_payload_is_gone(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    receipt = (await ledger.commit(Unit([put(1, "secret words")]))).receipts[0]
    await ledger.commit(Unit([put(1, "more secret words")]))
    gone = (await ledger.commit(Unit([drop(1)]))).receipts[0]
    again = (await ledger.commit(Unit([drop(1)]))).receipts[0]
    assert (gone.changed, gone.version, again.changed) == (True, 3, False)
    ledger.close()
    ledger = opened(tmp_path)
    assert await ledger.get(receipt.id) is None
    changes = await ledger.tail(0)
    assert [(change.operation, change.payload) for change in changes] == [
        (Operation.PUT, None),
        (Operation.PUT, None),
        (Operation.DELETE, None),
    ]
    assert list(ledger.scan(3)) == []
    revived = (await ledger.commit(Unit([put(1, "new")]))).receipts[0]
    assert (revived.version, revived.created) == (4, True)
    ledger.close()
    assert b"secret words" not in (tmp_path / "ledger.sqlite3").read_bytes()


async def test_a_unit_is_all_or_nothing_and_its_neighbours_are_not_harmed(ledger: SQLiteLedger) -> None:
    broken = Unit([put(1), Link(ACME, Edge((1.0,), (99.0,), "related", 1.0), 1.0)])
    results = await asyncio.gather(
        ledger.commit(Unit([put(2)])), ledger.commit(broken), ledger.commit(Unit([put(3)])), return_exceptions=True
    )
    assert isinstance(results[1], NotFound)
    assert not isinstance(results[0], BaseException)
    assert not isinstance(results[2], BaseException)
    assert await ledger.get(put(1).id) is None
    assert {change.id for change in await ledger.tail(0)} == {put(2).id, put(3).id}


async def test_concurrent_writers_share_flushes(ledger: SQLiteLedger) -> None:
    await asyncio.gather(*(ledger.commit(Unit([put(n)])) for n in range(200)))
    assert ledger.commits < 100
    assert ledger.head_seq == 200


async def test_the_observer_hears_every_change_in_order_before_the_writer_is_told(
    ledger: SQLiteLedger, applied: list[Applied]
) -> None:
    async def write(n: int) -> bool:
        receipt = (await ledger.commit(Unit([put(n)]))).receipts[0]
        return any(one.receipt.seq == receipt.seq for one in applied)

    assert all(await asyncio.gather(*(write(n) for n in range(50))))
    sequences = [one.receipt.seq for one in applied]
    assert sequences == sorted(set(sequences))


async def test_the_same_key_and_body_is_one_row_whoever_comes_first(ledger: SQLiteLedger) -> None:
    results = await asyncio.gather(*(ledger.commit(Unit([put(1)], key("k"))) for _ in range(20)))
    assert {one.receipts for one in results} == {results[0].receipts}
    assert sum(not one.replayed for one in results) == 1
    assert ledger.head_seq == 1


async def test_the_same_key_with_another_body_is_a_conflict_also_after_restart(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    first = await ledger.commit(Unit([put(1)], key("k")))
    ledger.close()
    ledger = opened(tmp_path)
    replay = await ledger.commit(Unit([put(1)], key("k")))
    assert replay.replayed
    assert replay.receipts == first.receipts
    with pytest.raises(Conflict) as caught:
        await ledger.commit(Unit([put(2)], key("k", "other body")))
    assert caught.value.field == "idempotency_key"
    other_tenant = Scope("other", "notes")
    assert not (await ledger.commit(Unit([put(1, scope=other_tenant)], key("k", "b", other_tenant)))).replayed
    assert await ledger.get(put(2).id) is None
    ledger.close()


async def test_tail_gives_every_change_once_and_says_when_it_no_longer_can(ledger: SQLiteLedger) -> None:
    for n in range(5):
        await ledger.commit(Unit([put(n)]))
    assert [change.seq for change in await ledger.tail(2)] == [3, 4, 5]
    assert [change.seq for change in await ledger.tail(0, limit=2)] == [1, 2]
    await ledger.transact(lambda transaction: transaction.connection.execute("DELETE FROM outbox WHERE seq <= 3"))
    assert [change.seq for change in await ledger.tail(3)] == [4, 5]
    with pytest.raises(TailTrimmed):
        await ledger.tail(2)
    await ledger.transact(lambda transaction: transaction.connection.execute("DELETE FROM outbox"))
    assert await ledger.tail(5) == []
    assert (await ledger.commit(Unit([put(9)]))).receipts[0].seq == 6


async def test_importance_is_fixed_at_commit_and_the_normaliser_goes_on_after_restart(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "restarted")
    whole = opened(tmp_path / "whole")
    raw = [float(value) for value in np.random.default_rng(7).lognormal(size=120)]
    for n, importance in enumerate(raw):
        if n == 60:
            ledger.close()
            ledger = opened(tmp_path / "restarted")
        await ledger.commit(Unit([put(n, importance=importance)]))
        await whole.commit(Unit([put(n, importance=importance)]))
    for n in range(120):
        one, other = await ledger.get(put(n).id), await whole.get(put(n).id)
        assert one is not None
        assert other is not None
        assert (one.importance_norm, one.normaliser_version) == (other.importance_norm, other.normaliser_version)
        assert one.importance == raw[n]
        assert 0 <= one.importance_norm <= 1
    ledger.close()
    whole.close()


async def test_a_memory_under_a_legal_hold_is_not_deleted(ledger: SQLiteLedger) -> None:
    await ledger.commit(Unit([put(1, hold=True)]))
    with pytest.raises(Conflict, match="hold"):
        await ledger.commit(Unit([drop(1)]))
    assert await ledger.get(put(1).id) is not None


async def test_the_audit_chain_breaks_where_a_line_is_changed(ledger: SQLiteLedger) -> None:
    for n in range(3):
        await ledger.commit(Unit(audit=[AuditEntry("acme", "me", "delete", f"notes/{n}", float(n))]))
    rows = await ledger.read(
        lambda connection: connection.execute("SELECT previous_hash, hash FROM audit ORDER BY number").fetchall()
    )
    assert rows[0][0] == ""
    assert [row[0] for row in rows[1:]] == [row[1] for row in rows[:-1]]
    assert len({row[1] for row in rows}) == 3


async def test_a_second_process_is_kept_out_of_the_directory(ledger: SQLiteLedger) -> None:
    with pytest.raises(SettingsError, match="in use by another process"):
        opened(ledger.data_dir)


async def test_a_cancelled_write_that_has_not_begun_has_no_effect(ledger: SQLiteLedger) -> None:
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()
    blocker = asyncio.create_task(
        ledger.transact(lambda _: asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(10))
    )
    await asyncio.sleep(0.05)
    writing = asyncio.create_task(ledger.commit(Unit([put(1)])))
    await asyncio.sleep(0.05)
    writing.cancel()
    gate.set()
    await blocker
    with pytest.raises(asyncio.CancelledError):
        await writing
    await ledger.commit(Unit([put(2)]))
    assert await ledger.get(put(1).id) is None


async def test_a_damaged_file_is_refused_at_the_start_with_the_remedy(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for n in range(200):
        await ledger.commit(Unit([put(n, "some words " * 20)]))
    ledger.close()
    path = tmp_path / "ledger.sqlite3"
    content = bytearray(path.read_bytes())
    for start in range(4096 * 3, len(content), 4096):
        content[start : start + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(Unavailable) as caught:
        opened(tmp_path)
    assert "backup" in str(caught.value.remedy)


async def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_bytes(b"not a database at all" * 1000)
    with pytest.raises((Unavailable, SettingsError)) as caught:
        opened(tmp_path)
    assert "Traceback" not in str(caught.value)


async def test_a_closed_ledger_refuses_instead_of_waiting_for_ever(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(ledger.commit(Unit([put(1)])), 5)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(ledger.get(put(1).id), 5)


def test_closing_while_threads_write_answers_every_one_of_them(tmp_path: Path) -> None:
    ledger = opened(tmp_path)

    def write(n: int) -> uuid.UUID | None:
        try:
            return ledger.write_now(lambda transaction: transaction.run(Unit([put(n)]))).receipts[0].id
        except SomaError:
            return None

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(write, n) for n in range(200)]
        ledger.close()
        acknowledged = {one.result(10) for one in running} - {None}
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        stored = {uuid.UUID(bytes=row[0]) for row in connection.execute("SELECT id FROM memories")}
        assert stored == acknowledged
        assert not any(following.half_visible(connection).values())
    connection.close()
