"""Replicas on one PostgreSQL: one turn, one order, nothing skipped (R9), whoever holds the turn for how long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import numpy as np
import pytest

from memory_runtime.model.errors import Conflict, Unavailable
from memory_runtime.stores.contracts import Applied, AuditEntry, Receipt, Unit
from memory_runtime.stores.postgres import PostgresLedger, committing
from memory_runtime.stores.postgres.link import WriterLink
from memory_runtime.stores.postgres.tracking import Group, Mark, Tracker
from memory_runtime.stores.postgres.transacting import TURN
from memory_runtime.tests.contract.conftest import settings_for
from memory_runtime.tests.ledgers import DIM, Place, drop, identity, key, normaliser, put

pytestmark = pytest.mark.integration


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)


def sequences(applied: list[Applied]) -> list[int]:
    return [one.receipt.seq for one in applied]


async def test_every_replica_hears_everything_once_and_in_order(shared: Place) -> None:
    heard: list[list[Applied]] = [[], [], []]
    replicas = [shared.open(one) for one in heard]
    for one in replicas:
        one.catch_up()

    async def write(number: int) -> None:
        await replicas[number % 3].commit(Unit([put(number)]))
        if number % 5 == 0:
            await replicas[(number + 1) % 3].commit(Unit([drop(number)]))

    await asyncio.gather(*(write(n) for n in range(200)))
    for one in replicas:
        one.catch_up()
    await until(lambda: all(len(one) == 240 for one in heard))
    assert all(sequences(one) == list(range(1, 241)) for one in heard)
    assert {one.head_seq for one in replicas} == {240}
    assert not any(shared.half_visible().values())


async def test_a_commit_is_seen_by_the_other_replica_within_a_look(shared: Place) -> None:
    applied: list[Applied] = []
    writer, reader = shared.open(), shared.open(applied)
    reader.catch_up()
    took = []
    for n in range(10):
        seq = (await writer.commit(Unit([put(n)]))).receipts[0].seq
        start = time.monotonic()
        await until(lambda seq=seq: bool(applied) and applied[-1].receipt.seq >= seq)  # type: ignore[misc]
        took.append(time.monotonic() - start)
    assert sorted(took)[5] < 0.5
    assert applied[0].write.vector.tolist() == [1, 0, 0]  # type: ignore[union-attr]


async def test_a_long_transaction_of_another_writer_is_not_overtaken(shared: Place, database: str) -> None:
    """R9: who follows sequences must never have seen a later one when an earlier one appears."""
    heard: list[list[Applied]] = [[], []]
    first, second = shared.open(heard[0]), shared.open(heard[1])
    for one in (first, second):
        one.catch_up()
    await first.commit(Unit([put(1)]))
    connection = await asyncpg.connect(database)
    try:
        slow = connection.transaction()
        await slow.start()
        seq = await connection.fetchval("UPDATE ledger_head SET seq = seq + 1, rows = rows + 1 RETURNING seq")
        await connection.execute(
            "INSERT INTO outbox (seq, operation, id, collection, tenant, namespace, memory_type, version, at)"
            " VALUES ($1, 'delete', $2, 0, 'acme', 'notes', 'episodic', 9, 1.0)",
            seq,
            identity(77),
        )
        waiting = [asyncio.create_task(one.commit(Unit([put(n)]))) for n, one in enumerate((first, second), 2)]
        await asyncio.sleep(0.4)
        assert not any(one.done() for one in waiting)
        assert sequences(heard[1]) == [1]
        await slow.commit()
    finally:
        await connection.close()
    receipts = [one.receipts[0] for one in await asyncio.gather(*waiting)]
    assert sorted(one.seq for one in receipts) == [3, 4]
    for one in (first, second):
        one.catch_up()
    await until(lambda: all(len(one) == 4 for one in heard))
    assert [sequences(one) for one in heard] == [[1, 2, 3, 4]] * 2
    assert [one[1].receipt.id for one in heard] == [identity(77)] * 2


@pytest.mark.parametrize("what", ["a version", "an access"])
async def test_what_another_replica_writes_between_a_look_and_its_statement_is_not_overwritten(
    shared: Place, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """An access is no change, so it moves no sequence: it must be noticed all the same."""
    first, second = shared.open(), shared.open()
    for _ in range(2):
        await first.commit(Unit([put(1)]))
    between: list[Any] = []

    def reach(name: str) -> None:
        if name == "pre-commit" and not between:
            between.append(None)  # the other's own group comes by here
            if what == "a version":
                between.append(second.write_now(lambda to: to.run(Unit([put(1, "theirs")]))))
            else:
                second.write_now(lambda to: to.add_accesses([(3, 5000.0, identity(1).bytes)]))

    monkeypatch.setattr(committing, "reach", reach)
    mine = (await first.commit(Unit([put(1, "mine")]))).receipts[0]
    assert between
    theirs = len(between) - 1
    assert (mine.version, mine.seq) == (3 + theirs, 3 + theirs)
    changes = await asyncio.to_thread(shared.ask, "SELECT seq, version FROM outbox ORDER BY seq")
    assert changes == [(n, n) for n in range(1, 4 + theirs)]
    found = await asyncio.to_thread(shared.ask, "SELECT payload, access_count FROM memories")
    assert found == [('{"text":"mine"}', 0 if theirs else 3)]
    assert not any(shared.half_visible().values())


async def test_who_waits_too_long_for_the_turn_is_refused_and_has_written_nothing(
    database: str, open_at: Callable[..., Place]
) -> None:
    ledger = open_at(database, postgres_lock_timeout_seconds=0.3).open()
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM ledger_head FOR UPDATE")
            start = time.monotonic()
            fates = await ledger.commit_many([Unit([put(n)]) for n in range(20)])
            assert time.monotonic() - start < 3
            assert all(isinstance(one, Unavailable) for one in fates)
            assert await ledger.get(identity(0)) is None
    finally:
        await connection.close()
    assert (await ledger.commit(Unit([put(1)]))).receipts[0].seq == 1


async def test_normalisers_audit_and_keys_are_one_for_the_fleet(shared: Place) -> None:
    raw = [float(one) for one in np.random.default_rng(3).lognormal(size=150)]
    alone = shared.open()
    for n, one in enumerate(raw):
        await alone.commit(Unit([put(n, importance=one)]))
    expected = [(await alone.get(identity(n))).importance_norm for n in range(150)]
    await alone.commit(Unit([drop(n) for n in range(150)]))
    await alone.transact(lambda transaction: transaction.replace_normaliser("acme", _fresh()))
    replicas = [alone, shared.open()]
    for n, one in enumerate(raw):
        entry = AuditEntry("acme", "me", "store", str(n), float(n))
        await replicas[n % 2].commit(Unit([put(n, importance=one)], audit=[entry]))
    assert [(await alone.get(identity(n))).importance_norm for n in range(150)] == expected
    chain = await asyncio.to_thread(shared.ask, "SELECT previous_hash, hash FROM audit ORDER BY number")
    assert [one[0] for one in chain] == ["", *(one[1] for one in chain[:-1])]
    unit = Unit([put(500)], key("same"))
    fates = await asyncio.gather(*(replicas[n % 2].commit(unit) for n in range(20)))
    assert len({one.receipts for one in fates}) == 1
    assert sum(not one.replayed for one in fates) == 1


def _fresh() -> str:
    from memory_runtime.tests.ledgers import normaliser

    return normaliser(None).dumps()


async def test_another_generation_is_told_to_the_others_alone(shared: Place) -> None:
    told: list[list[int]] = [[], []]
    replicas = [shared.open(), shared.open()]
    for one, mine in zip(replicas, told, strict=True):
        one.on_generation = mine.append
        one.catch_up()
    await replicas[0].commit(Unit([put(n, importance=float(n)) for n in range(3)]))
    await replicas[0].transact(lambda one: one.rebuild_importance("acme", lambda raw: 0.5, 2))
    await until(lambda: told[1] == [1])
    assert told[0] == []
    await replicas[1].transact(lambda one: one.begin_reembedding("new"))
    pending = await replicas[1].read(lambda view: view.pending(0, 9))
    vector = np.array([0, 1, 0], np.float32).tobytes()
    await replicas[1].transact(lambda one: one.keep_vectors([(item, vector) for item in pending]))
    assert await replicas[1].transact(lambda one: one.swap_vectors())
    await until(lambda: told[0] == [2])
    assert told[1] == [1]
    assert [rows.vectors.tolist() for rows in replicas[0].scan(DIM)] == [[[0, 1, 0]] * 3]


def test_a_generation_or_a_fail_over_that_a_commit_of_ours_meets_first_is_told_too() -> None:
    told: list[int] = []
    tracker = Tracker(lambda _: None, DIM)
    tracker.on_generation = told.append
    tracker.begin_at(Mark(5, generation=1), following=True)
    nobody: Any = None
    tracker.publish(nobody, Group([], began=2, generation=2))
    assert told == [2]
    tracker.publish(nobody, Group([], began=2, generation=3))
    assert (told, tracker.generation) == ([2], 3)
    # a standby without the last two commits has become the primary: 4 is another change than the one we applied
    again = Applied(put(1), Receipt(identity(1), 1, 4, created=True, changed=True), 1.0)
    tracker.publish(nobody, Group([again], began=3, generation=3))
    assert (told, tracker.applied) == ([2, 3], 4)


async def test_who_only_writes_reads_nothing_of_what_others_commit(database: str, shared: Place) -> None:
    ledger = PostgresLedger(settings_for(database), normalisers=normaliser, observer=None)
    ledger.open()
    shared.opened.append(ledger)
    other = shared.open()
    await other.commit(Unit([put(n) for n in range(10)]))
    assert (await ledger.commit(Unit([put(11)]))).receipts[0].seq == 11
    await other.commit(Unit([put(12)]))
    await until(lambda: ledger.head_seq == 12)


async def test_who_fell_behind_the_outbox_is_told_to_load_anew(shared: Place) -> None:
    told: list[int] = []
    applied: list[Applied] = []
    writer, reader = shared.open(), shared.open(applied)
    reader.on_generation = told.append
    await writer.commit(Unit([put(n) for n in range(5)]))
    await writer.transact(lambda transaction: transaction.trim(0.0, keep=0))
    reader.catch_up()
    await until(lambda: bool(told))
    assert applied == []
    found = await reader.exclusively(lambda view: (view.head(), sum(len(rows.ids) for rows in view.scan(DIM))))
    assert found == (5, 5)
    await writer.commit(Unit([put(9)]))
    await until(lambda: sequences(applied) == [6])


async def test_the_first_load_says_where_following_begins(shared: Place) -> None:
    applied: list[Applied] = []
    writer = shared.open()
    await writer.commit(Unit([put(1)]))
    reader = shared.open(applied)
    await writer.commit(Unit([put(2)]))

    def load() -> int:
        with reader.load(DIM) as loaded:
            meanwhile = threading.Thread(
                target=writer.write_now, args=(lambda transaction: transaction.run(Unit([put(3)])),)
            )
            meanwhile.start()
            meanwhile.join()
            assert sum(len(rows.ids) for rows in loaded.rows) == 2
            assert applied == []
            return int(loaded.seq)

    assert await asyncio.to_thread(load) == 2
    await until(lambda: sequences(applied) == [3])


def fail(_: Any) -> None:
    raise ZeroDivisionError


async def test_an_index_that_cannot_follow_does_not_stop_the_ledger(shared: Place) -> None:
    writer = shared.open()
    other = shared.make(fail)
    other.open()
    shared.opened.append(other)
    assert (await other.commit(Unit([put(1)]))).receipts[0].seq == 1
    assert (await writer.commit(Unit([put(2)]))).receipts[0].seq == 2
    assert (await other.commit(Unit([put(3)]))).receipts[0].seq == 3


async def test_a_key_that_was_used_is_answered_and_one_that_is_new_is_kept_without_the_turn(
    shared: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = shared.open()
    first = await ledger.commit(Unit([put(1)], key("first")))
    await ledger.commit(Unit([put(2)]))
    taken: list[str] = []
    begin = WriterLink.begin

    def counted(self: WriterLink, *rest: str) -> Any:
        taken.extend(rest)
        return begin(self, *rest)

    monkeypatch.setattr(WriterLink, "begin", counted)
    units = [Unit([put(1)], key("first")), Unit([put(1)], key("second")), Unit([put(1)], key("second"))]
    fates = await ledger.commit_many([*units, Unit([put(1)], key("first", "another body"))])
    assert TURN not in taken
    assert fates[0].receipts == first.receipts
    assert [one.replayed for one in fates[:3]] == [True, False, True]
    assert fates[1].receipts == fates[2].receipts
    assert isinstance(fates[3], Conflict)
    # what only a question could tell takes the turn
    await ledger.commit(Unit([put(3, importance=0.5)]))
    assert TURN in taken
    found = await asyncio.to_thread(shared.ask, "SELECT key FROM idempotency ORDER BY key")
    assert found == [("first",), ("second",)]
