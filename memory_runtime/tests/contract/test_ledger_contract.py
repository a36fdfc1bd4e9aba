"""What every ledger promises: durable, whole, in order; refusals that change nothing. SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memory_runtime.model.errors import Conflict, InvalidArgument, NotFound, SomaError, Unavailable
from memory_runtime.model.records import Scope
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.stores.contracts import (
    Applied,
    AuditEntry,
    Committed,
    Delete,
    Link,
    Operation,
    OriginVersion,
    Put,
    TailTrimmed,
    Unit,
)
from memory_runtime.stores.link_body import link_of
from memory_runtime.tests.ledgers import ACME, DIM, Place, drop, identity, key, link, put


async def test_storing_a_coordinate_again_is_the_next_version_and_a_later_seq(place: Place) -> None:
    ledger = place.open()
    first = (await ledger.commit(Unit([put(1, "one")]))).receipts[0]
    second = (await ledger.commit(Unit([put(1, "two")]))).receipts[0]
    assert (first.version, first.created, second.version, second.created) == (1, True, 2, False)
    assert second.seq == first.seq + 1
    record = await ledger.get(first.id)
    assert (record.payload, record.version, record.seq) == ({"text": "two"}, 2, second.seq)
    assert await ledger.counts() == {("acme", "notes", "episodic", 0): 1}


async def test_a_deleted_memory_stays_deleted_after_restart_and_its_payload_is_gone(place: Place) -> None:
    ledger = place.open()
    receipt = (await ledger.commit(Unit([put(1, "secret words")]))).receipts[0]
    await ledger.commit(Unit([put(1, "more secret words")]))
    gone = (await ledger.commit(Unit([drop(1)]))).receipts[0]
    again = (await ledger.commit(Unit([drop(1)]))).receipts[0]
    assert (gone.changed, gone.version, again.changed) == (True, 3, False)
    ledger.close()
    ledger = place.open()
    assert await ledger.get(receipt.id) is None
    assert [(change.operation, change.payload) for change in await ledger.tail(0)] == [
        (Operation.PUT, None),
        (Operation.PUT, None),
        (Operation.DELETE, None),
    ]
    assert list(ledger.scan(DIM)) == []
    revived = (await ledger.commit(Unit([put(1, "new")]))).receipts[0]
    assert (revived.version, revived.created) == (4, True)
    # what was erased before the memory came back must stay erased when it goes again
    await ledger.commit(Unit([drop(1)]))
    assert all(change.payload is None for change in await ledger.tail(0))
    assert not any(place.half_visible().values())


async def test_a_unit_is_all_or_nothing_and_its_neighbours_are_not_harmed(place: Place) -> None:
    ledger = place.open()
    broken = Unit([put(1), link(1, 99)])
    results = await ledger.commit_many([Unit([put(2)]), broken, Unit([put(3)])])
    assert isinstance(results[1], NotFound)
    assert [type(one) for one in results] == [Committed, NotFound, Committed]
    assert await ledger.get(put(1).id) is None
    changes = await ledger.tail(0)
    assert [change.id for change in changes] == [put(2).id, put(3).id]
    assert [change.seq for change in changes] == [1, 2]
    assert not any(place.half_visible().values())


async def test_a_put_that_is_refused_leaves_nothing_and_no_gap(place: Place) -> None:
    ledger = place.open()
    bad = put(1, features={"mood": float("nan")})
    fates = await ledger.commit_many([Unit([put(0)]), Unit([bad]), Unit([put(1)]), Unit([bad]), Unit([put(2)])])
    assert [isinstance(one, InvalidArgument) for one in fates] == [False, True, False, True, False]
    with pytest.raises(InvalidArgument):
        await ledger.commit(Unit([bad]))
    receipts = (await ledger.commit(Unit([put(3), put(3)]))).receipts
    assert [(one.version, one.seq, one.created) for one in receipts] == [(1, 4, True), (2, 5, False)]
    assert [change.seq for change in await ledger.tail(0)] == [1, 2, 3, 4, 5]
    assert not any(place.half_visible().values())


async def test_concurrent_writers_share_flushes(place: Place) -> None:
    ledger = place.open()
    await asyncio.gather(*(ledger.commit(Unit([put(n)])) for n in range(200)))
    assert ledger.commits < 100
    assert ledger.head_seq == 200


async def test_the_observer_hears_every_change_in_order_before_the_writer_is_told(place: Place) -> None:
    applied: list[Applied] = []
    ledger = place.open(applied)

    async def write(n: int) -> bool:
        receipt = (await ledger.commit(Unit([put(n)]))).receipts[0]
        return any(one.receipt.seq == receipt.seq for one in applied)

    assert all(await asyncio.gather(*(write(n) for n in range(50))))
    assert [one.receipt.seq for one in applied] == list(range(1, 51))


async def test_the_same_key_and_body_is_one_row_whoever_comes_first(place: Place) -> None:
    ledger = place.open()
    results = await asyncio.gather(*(ledger.commit(Unit([put(1)], key("k"))) for _ in range(20)))
    assert {one.receipts for one in results} == {results[0].receipts}
    assert sum(not one.replayed for one in results) == 1
    assert ledger.head_seq == 1


async def test_the_same_key_with_another_body_is_a_conflict_also_after_restart(place: Place) -> None:
    ledger = place.open()
    first = await ledger.commit(Unit([put(1)], key("k")))
    ledger.close()
    ledger = place.open()
    replay = await ledger.commit(Unit([put(1)], key("k")))
    assert (replay.replayed, replay.receipts) == (True, first.receipts)
    assert await ledger.read(lambda view: view.find_reply(key("k"))) == first.receipts
    with pytest.raises(Conflict) as caught:
        await ledger.commit(Unit([put(2)], key("k", "other body")))
    assert caught.value.field == "idempotency_key"
    other = Scope("other", "notes")
    assert not (await ledger.commit(Unit([put(1, scope=other)], key("k", "b", other)))).replayed
    assert await ledger.get(put(2).id) is None


@pytest.mark.parametrize("together", [False, True])
async def test_a_request_id_is_answered_again_only_while_its_memory_is_as_it_left_it(
    place: Place, together: bool
) -> None:
    """Whatever came in between: after each answer, the memory is what that request asked for."""
    generator = np.random.default_rng(7)
    ledger = place.open()
    choices: list[Unit] = [
        *(Unit([put(1, text)], key(f"request:{text}", at=2000.0, implicit=True)) for text in ("a", "b")),
        Unit([put(1, "gone by then", expires_at=1500.0)], key("request:expired", at=2000.0, implicit=True)),
        Unit([put(1, "first"), put(2), put(1, "both")], key("request:bulk", implicit=True)),
        Unit([drop(1)]),
    ]
    asked = [0, 1, 0, 0, 4, 0, 0, 2, 2, 3, 3, 1, 3, *map(int, generator.integers(0, len(choices), 60))]
    before, text = "", ""
    for start in range(0, len(asked), 6 if together else 1):
        part = asked[start : start + (6 if together else 1)]
        fates = await ledger.commit_many([choices[one] for one in part])
        for number, fate in zip(part, fates, strict=True):
            if choices[number].idempotency is None:
                text = ""
            else:
                text = choices[number].writes[-1].search_text
                assert fate.replayed == (text == before and text != "gone by then"), (number, text)
            before = text
        found = await ledger.get(identity(1))
        assert (found.payload["text"] if found else "") == text
        guard = choices[part[-1]].idempotency
        if guard is not None:
            reply = await ledger.read(lambda view, guard=guard: view.find_reply(guard))
            assert (reply is None) == (text == "gone by then")
    assert set(place.half_visible().values()) == {0}


async def test_a_late_event_undoes_nothing(place: Place) -> None:
    ledger = place.open()

    def told(version: int, *writes: Put | Delete) -> Unit:
        return Unit(writes, tells_of=OriginVersion("there", put(1).id, version), origin="there")

    fates = await ledger.commit_many([told(2, put(1, "two")), told(1, put(1, "one")), told(3, drop(1))])
    assert [one.late for one in fates] == [False, True, False]
    assert (await ledger.commit(told(3, put(1, "three")))).late
    assert await ledger.get(put(1).id) is None
    refused = told(4, put(1), drop(1))
    broken = Unit([*refused.writes, link(1, 9)], tells_of=refused.tells_of)
    assert isinstance((await ledger.commit_many([broken]))[0], NotFound)
    assert not (await ledger.commit(told(4, put(1, "four")))).late


async def test_a_group_does_exactly_what_its_units_would_do_one_after_the_other(place: Place) -> None:
    """The same writes committed one by one, and in one group, leave the same ledger: same id twice, delete after put,
    link after put, refusals between."""
    generator = np.random.default_rng(20)
    units = [_random_unit(generator) for _ in range(200)]
    ledger = place.open()
    alone = [await _fate(ledger, unit) for unit in units]
    one_by_one = await _all(ledger)
    elsewhere = [_moved(unit) for unit in units]
    grouped = [_told(one) for one in await ledger.commit_many(elsewhere)]
    together = await _all(ledger, Scope("acme", "elsewhere"))
    assert [[r[1:] for r in one] if isinstance(one, list) else one for one in _relative(alone)] == [
        [r[1:] for r in one] if isinstance(one, list) else one for one in _relative(grouped)
    ]
    assert one_by_one == together
    assert not any(place.half_visible().values())


def _random_unit(generator: np.random.Generator) -> Unit:
    writes: list[Any] = []
    for _ in range(int(generator.integers(1, 4))):
        number, other = (int(one) for one in generator.integers(0, 8, 2))
        match int(generator.integers(0, 5)):
            case 0 | 1:
                hold = bool(generator.random() < 0.05)
                pinned = bool(generator.random() < 0.2)
                raw = float(generator.random()) if generator.random() < 0.5 else None
                expires = float(generator.integers(1, 5000)) if generator.random() < 0.3 else None
                text = f"word{number} of {other}" if generator.random() < 0.9 else ""
                writes.append(put(number, text, hold=hold, pinned=pinned, importance=raw, expires_at=expires))
            case 2:
                writes.append(drop(number))
            case 3:
                writes.append(drop(number, expired_before=2500.0))
            case _:
                one = link(number, other, weight=float(number))
                strict, removed = generator.random() < 0.6, generator.random() < 0.3
                writes.append(replace(one, between_memories=bool(strict), removed=bool(removed)))
    name = f"k{generator.integers(0, 40)}"
    guard = key(name, f"{generator.integers(0, 2)}") if generator.random() < 0.2 else None
    return Unit(writes, guard)


def _moved(unit: Unit) -> Unit:
    """The same unit in another namespace."""
    scope = Scope("acme", "elsewhere")
    writes: list[Any] = []
    for one in unit.writes:
        if isinstance(one, Put | Delete):
            number = next(n for n in range(8) if one.id == put(n).id)
            moved = {name: getattr(one, name) for name in one.__dataclass_fields__}
            writes.append(type(one)(**(moved | {"scope": scope, "id": put(number, scope=scope).id})))
        else:
            writes.append(replace(one, scope=scope))
    guard = unit.idempotency
    return Unit(writes, None if guard is None else key(guard.key, guard.body_hash, scope))


def _told(fate: Any) -> Any:
    return list(fate.receipts) if isinstance(fate, Committed) else type(fate).__name__


async def _fate(ledger: Any, unit: Unit) -> Any:
    return _told((await ledger.commit_many([unit]))[0])


def _relative(fates: list[Any]) -> list[Any]:
    """Receipts with sequences counted from the first."""
    first = min((r.seq for one in fates if isinstance(one, list) for r in one if r.seq), default=0)
    return [
        [r._replace(seq=r.seq - first if r.seq else -1) for r in one] if isinstance(one, list) else one for one in fates
    ]


async def _all(ledger: Any, scope: Scope = ACME) -> list[Any]:
    """Everything that is stored in a scope, without what differs between two of them by nature."""

    def look(view: Any) -> list[Any]:
        records = [
            (one.coordinate, one.payload, one.version, one.hold, one.pinned, one.expires_at, one.access_time)
            for one in view.page(scope, after=None, limit=100, memory_type=None, now=0.0)
        ]
        records.sort(key=repr)
        edges = [
            [
                (edge.coordinate, edge.edge.weight)
                for edge in view.neighbors(scope, (n,), link_type=None, hops=1, limit=99)
            ]
            for n in map(float, range(8))
        ]
        changes = [
            (change.operation, change.version, change.payload, change.created)
            for change in view.tail(0, 10_000)
            if change.scope == scope
        ]
        words = sorted(
            str(view.get(uuid.UUID(bytes=hit.id)).payload)
            for hit in view.any_word(scope, "of", limit=99, now=0.0) or []
        )
        return [records, edges, changes, words]

    found: list[Any] = await ledger.read(look)
    return found


async def test_tail_gives_every_change_once_and_says_when_it_no_longer_can(place: Place) -> None:
    ledger = place.open()
    for n in range(5):
        await ledger.commit(Unit([put(n)]))
    assert [change.seq for change in await ledger.tail(2)] == [3, 4, 5]
    assert [change.seq for change in await ledger.tail(0, limit=2)] == [1, 2]
    with pytest.raises(TailTrimmed):
        await ledger.tail(6)
    await ledger.transact(lambda transaction: transaction.trim(0.0, keep=2))
    assert [change.seq for change in await ledger.tail(3)] == [4, 5]
    with pytest.raises(TailTrimmed):
        await ledger.tail(2)
    await ledger.transact(lambda transaction: transaction.trim(0.0, keep=0))
    assert await ledger.tail(5) == []
    assert (await ledger.commit(Unit([put(9)]))).receipts[0].seq == 6


async def test_a_sink_that_is_behind_keeps_the_outbox(place: Place) -> None:
    ledger = place.open()
    await ledger.transact(lambda transaction: transaction.advance_sink("kafka", 2, 1.0))
    for n in range(5):
        await ledger.commit(Unit([put(n)], key(f"k{n}")))
    await ledger.transact(lambda transaction: transaction.trim(3000.0, keep=0))
    assert [change.seq for change in await ledger.tail(2)] == [3, 4, 5]
    assert await ledger.read(lambda view: view.sinks()) == {"kafka": 2}
    assert await ledger.read(lambda view: view.find_reply(key("k0"))) is None
    await ledger.transact(lambda transaction: transaction.drop_sink("kafka"))
    await ledger.transact(lambda transaction: transaction.trim(0.0, keep=0))
    with pytest.raises(TailTrimmed):
        await ledger.tail(2)


async def test_changes_tell_a_follower_what_the_index_needs(place: Place) -> None:
    applied: list[Applied] = []
    ledger = place.open(applied)
    vector = np.array([0, 1, 0], np.float32)
    await ledger.commit(Unit([put(1, vector=vector, importance=3.0, features={"trust": 0.5}, expires_at=9e9)]))
    await ledger.commit(Unit([put(2), link(1, 2, because="so")]))
    await ledger.commit(Unit([drop(2)]))
    found = await ledger.read(lambda view: view.changes(0, 100, DIM))
    assert [one.receipt[:3] for one in found] == [one.receipt[:3] for one in applied]
    assert [one.receipt.created for one in found] == [True, True, False, False]
    first, second, linked, gone = (one.write for one in found)
    assert (first.payload, first.features, first.expires_at) == ("", {"trust": 0.5}, 9e9)
    assert first.vector.tolist() == [0, 1, 0]
    assert found[0].importance_norm == applied[0].importance_norm
    assert second.vector is None
    assert (linked.edge, type(gone)) == (applied[2].write.edge, Delete)
    assert [one.receipt.seq for one in await ledger.read(lambda view: view.changes(2, 1, DIM))] == [3]


async def test_importance_is_fixed_at_commit_and_the_normaliser_goes_on_after_restart(place: Place) -> None:
    ledger = place.open()
    raw = [float(value) for value in np.random.default_rng(7).lognormal(size=90)]
    whole, other = Scope("whole", "notes"), Scope("broken", "notes")
    await ledger.commit_many([Unit([put(n, scope=whole, importance=one)]) for n, one in enumerate(raw)])
    for n, one in enumerate(raw):
        if n == 60:
            ledger.close()
            ledger = place.open()
        await ledger.commit(Unit([put(n, scope=other, importance=one)]))
    for n, given in enumerate(raw):
        first, second = await ledger.get(put(n, scope=whole).id), await ledger.get(put(n, scope=other).id)
        assert (first.importance_norm, first.normaliser_version) == (second.importance_norm, second.normaliser_version)
        assert first.importance == given
        assert 0 <= first.importance_norm <= 1


async def test_a_memory_under_a_legal_hold_is_not_deleted(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(1, hold=True), put(2)]))
    entry = AuditEntry("acme", "me", "hold", "notes/2.0", 1.0)
    assert await ledger.transact(lambda transaction: transaction.hold(ACME, "2.0", None, True, entry)) == 1
    for fate in await ledger.commit_many([Unit([drop(1)]), Unit([drop(2)])]):
        assert isinstance(fate, Conflict)
    await ledger.transact(lambda transaction: transaction.hold(ACME, "2.0", "episodic", False, entry))
    assert (await ledger.commit(Unit([drop(2)]))).receipts[0].changed


async def test_the_audit_chain_breaks_where_a_line_is_changed(place: Place) -> None:
    ledger = place.open()
    lines = [AuditEntry("acme", "me", "delete", f"notes/{n}", float(n)) for n in range(5)]
    await ledger.commit_many([Unit(audit=lines[:1]), Unit(audit=lines[1:2])])
    ledger.close()
    ledger = place.open()
    await ledger.commit(Unit(audit=lines[2:]))
    ledger.close()
    rows = await asyncio.to_thread(place.ask, "SELECT previous_hash, hash FROM audit ORDER BY number")
    assert rows[0] == ("", rows[0][1])
    assert [row[0] for row in rows[1:]] == [row[1] for row in rows[:-1]]
    assert len({row[1] for row in rows}) == 5


async def test_a_transaction_sees_what_it_did_itself(place: Place) -> None:
    ledger = place.open()

    def run(transaction: Any) -> list[Any]:
        transaction.run(Unit([put(1, "first words")]))
        seen = [transaction.view.get(put(1).id).payload, transaction.view.head()]
        transaction.run(Unit([put(1, "second words"), put(2)]))
        transaction.run(Unit([drop(2)]))
        seen += [transaction.view.get(put(1).id).payload, transaction.view.get(put(2).id), transaction.view.head()]
        transaction.remember("fact", "one")
        transaction.remember("fact", "two", replace=False)
        transaction.remember("gone", "x")
        transaction.forget("gone")
        return [*seen, transaction.view.facts().get("fact"), transaction.view.facts().get("gone")]

    assert await ledger.transact(run) == [{"text": "first words"}, 1, {"text": "second words"}, None, 4, "one", None]
    assert [change.payload for change in await ledger.tail(2)] == [None, None]
    assert not any(place.half_visible().values())


async def test_a_function_that_fails_leaves_nothing_and_harms_no_neighbour(place: Place) -> None:
    ledger = place.open()

    def broken(transaction: Any) -> None:
        transaction.run(Unit([put(1, importance=5.0)]))
        raise ZeroDivisionError

    results = await asyncio.gather(
        ledger.commit(Unit([put(2)])), ledger.transact(broken), ledger.commit(Unit([put(3)])), return_exceptions=True
    )
    assert [type(one) for one in results] == [Committed, ZeroDivisionError, Committed]
    assert await ledger.get(put(1).id) is None
    assert {change.id for change in await ledger.tail(0)} == {put(2).id, put(3).id}
    assert await ledger.read(lambda view: view.normaliser_state("acme")) is None


async def test_a_cancelled_write_that_has_not_begun_has_no_effect(place: Place) -> None:
    ledger = place.open()
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


async def test_exclusively_sees_exactly_what_has_been_applied(place: Place) -> None:
    applied: list[Applied] = []
    ledger = place.open(applied)
    writing = [asyncio.create_task(ledger.commit(Unit([put(n)]))) for n in range(50)]
    looks = [await ledger.exclusively(lambda view: (view.head(), len(applied))) for _ in range(5)]
    await asyncio.gather(*writing)
    assert all(head == heard for head, heard in looks)
    with pytest.raises(ZeroDivisionError):
        await ledger.exclusively(lambda _: 1 / 0)


async def test_load_is_one_moment(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(n, vector=np.eye(3, dtype=np.float32)[n]) for n in range(3)]))
    await ledger.commit(Unit([drop(0)]))

    def load() -> Any:
        with ledger.load(DIM) as loaded:
            ledger.write_now(lambda transaction: transaction.run(Unit([put(7)])))
            return list(loaded.rows), loaded.coordinates, loaded.counts, loaded.seq

    rows, coordinates, counts, seq = await asyncio.to_thread(load)
    assert (seq, coordinates, counts) == (4, [], {("acme", "notes", "episodic", 0): 2})
    assert [len(one.ids) for one in rows] == [2]
    assert rows[0].vectors.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert rows[0].ids == [put(1).id.bytes, put(2).id.bytes]
    assert [len(one.ids) for one in ledger.scan(DIM, batch=2)] == [2, 1]


async def test_a_vector_of_another_dimension_is_damage_and_said_to_be(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(1)]))
    with pytest.raises(Unavailable) as caught:
        list(ledger.scan(4))
    assert "backup" in str(caught.value.remedy)


async def test_a_closed_ledger_refuses_instead_of_waiting_for_ever(place: Place) -> None:
    ledger = place.open()
    ledger.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(ledger.commit(Unit([put(1)])), 5)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(ledger.get(put(1).id), 5)


def test_closing_while_threads_write_answers_every_one_of_them(place: Place) -> None:
    ledger = place.open()

    def write(n: int) -> uuid.UUID | None:
        try:
            receipts = ledger.write_now(lambda transaction: transaction.run(Unit([put(n)]))).receipts
        except SomaError:
            return None
        return receipts[0].id  # type: ignore[no-any-return]

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(write, n) for n in range(200)]
        ledger.close()
        acknowledged = {one.result(20) for one in running} - {None}
    again = place.open()
    stored = {uuid.UUID(bytes=identity) for rows in again.scan(DIM) for identity in rows.ids}
    assert stored == acknowledged
    assert not any(place.half_visible().values())


async def test_every_ledger_gives_the_same_importances_and_goes_on_with_them_after_a_restart(place: Place) -> None:
    raw = [5.0, 4.0, 1.8e12, -1e308, 1e308, *[0.1 * (n % 7) for n in range(90)], 1.8e12, 3.0]
    expected = ImportanceNormaliser()
    norms = [expected.observe(value) for value in raw]
    ledger = place.open()
    for n, value in enumerate(raw[:50]):
        await ledger.commit(Unit([put(n, importance=value)]))
    ledger.close()
    ledger = place.open()
    await ledger.commit(Unit([put(n, importance=value) for n, value in enumerate(raw) if n >= 50]))
    ids = [identity(n).bytes for n in range(len(raw))]
    found = await ledger.read(lambda view: view.by_ids(ids))
    assert [(found[one].importance_norm, found[one].normaliser_version) for one in ids] == norms


async def test_a_link_between_coordinates_that_hold_nothing_stays_until_an_end_is_deleted_or_it_is(
    place: Place,
) -> None:
    """The lifetime that docs/graph.md promises; the client of the service that we replace links such coordinates."""

    def loose(source: float, target: float, link_type: str = "related", *, removed: bool = False) -> Link:
        return replace(link(source, target, link_type), between_memories=False, removed=removed)

    def standing(view: Any) -> list[tuple[float, str, float]]:
        return [(one.source[0], one.link_type, one.target[0]) for one in view.edges(ACME, after=None, limit=99)]

    applied: list[Applied] = []
    ledger = place.open(applied)
    links = [loose(1, 2), loose(1, 2, "cites"), loose(2, 3), loose(4, 5), loose(6, 7)]
    await ledger.commit(Unit(links))
    made = sorted((one.edge.source[0], one.edge.link_type, one.edge.target[0]) for one in links)
    assert await ledger.read(standing) == made
    # a memory that comes to an end leaves it as it is; a memory that goes takes it along
    await ledger.commit(Unit([put(2)]))
    assert len(await ledger.read(standing)) == 5
    await ledger.commit(Unit([drop(2)]))
    assert await ledger.read(standing) == [(4, "related", 5), (6, "related", 7)]
    # deleting where nothing lives takes nothing; taking the link away does, once and for good
    await ledger.commit(Unit([drop(4)]))
    gone = [loose(4, 5, removed=True), loose(6, 7, "cites", removed=True), loose(8, 9, removed=True)]
    await ledger.commit(Unit(gone))
    assert await ledger.read(standing) == [(6, "related", 7)]
    # within one unit the last word counts
    await ledger.commit(Unit([loose(6, 7, removed=True), loose(6, 7)]))
    assert await ledger.read(standing) == [(6, "related", 7)]
    await ledger.commit(Unit([loose(6, 7), loose(6, 7, removed=True)]))
    assert await ledger.read(standing) == []
    found = await ledger.tail(0, 100)
    told = [link_of(change).removed for change in found if change.operation is Operation.LINK]
    heard = [one.write.removed for one in applied if isinstance(one.write, Link)]
    assert told == heard == [*([False] * 5), True, True, True, True, False, False, True]
    with pytest.raises(NotFound):
        await ledger.commit(Unit([link(6, 7)]))


async def test_of_two_lines_of_an_origin_the_later_one_stands_and_an_abandoned_future_is_late(place: Place) -> None:
    ledger = place.open()

    async def tell(number: int, version: int, epoch: int, forked: int, seq: int) -> bool:
        told = OriginVersion("theirs", identity(number), version, epoch, forked, seq)
        return not (await ledger.commit(Unit([put(number)], origin="theirs", tells_of=told))).late

    assert await tell(1, 5, 10, 0, 60)
    assert not await tell(1, 4, 10, 0, 59), "an earlier version of the same line"
    assert await tell(1, 4, 20, 50, 51), "restored at 50: its next version has a lower number, and is the later"
    assert not await tell(1, 6, 10, 0, 61), "what the other line went on with is of an abandoned future"
    assert not await tell(2, 1, 10, 0, 55), "of a memory, too, of which the later line has told nothing yet"
    assert await tell(3, 1, 10, 0, 50), "what came before the fork is of both"
    assert await tell(4, 0, 20, 50, 50), "a restatement that there is no such memory has no version"
    assert await tell(4, 1, 20, 50, 53)
    fates = await ledger.commit_many(
        [
            Unit([put(n)], origin="theirs", tells_of=OriginVersion("theirs", identity(n), version, epoch, forked, seq))
            for n, version, epoch, forked, seq in [(7, 1, 30, 52, 53), (8, 1, 20, 50, 53), (9, 1, 20, 50, 52)]
        ]
    )
    assert [one.late for one in fates] == [False, True, False]


async def test_a_query_that_ends_an_iteration_leaves_nobody_waiting(place: Place) -> None:
    """asyncio cannot set a StopIteration on a future: the caller would wait for ever."""
    ledger = place.open()

    def ending(_: Any) -> Any:
        return next(iter(()))

    def left(_: Any) -> Any:
        raise SystemExit(3)

    for work, name in ((ending, "StopIteration"), (left, "SystemExit")):
        for ask in (ledger.read, ledger.transact, ledger.exclusively):
            with pytest.raises(RuntimeError, match=f"raised {name}"):
                await asyncio.wait_for(ask(work), 20)
        with pytest.raises(RuntimeError, match=f"raised {name}"):
            await asyncio.get_running_loop().run_in_executor(None, ledger.write_now, work)
    # in one group with others, it alone fails
    fates = await asyncio.wait_for(
        asyncio.gather(
            *(ledger.commit(Unit([put(n)])) for n in range(4)),
            *(ledger.transact(work) for work in (ending, left)),
            *(ledger.commit(Unit([put(n)])) for n in range(4, 8)),
            return_exceptions=True,
        ),
        20,
    )
    assert [type(fate) for fate in fates] == [Committed] * 4 + [RuntimeError] * 2 + [Committed] * 4
    assert await ledger.read(lambda view: view.get(identity(7))) is not None
    assert sum((await ledger.counts()).values()) == 8
