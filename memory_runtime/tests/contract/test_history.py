"""Superseded versions, on either ledger: kept with the update, erased with the memory, bounded by the sweep."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from memory_runtime.model.errors import DeadlineExceeded
from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import Unit
from memory_runtime.stores.history import NOTHING, superseded
from memory_runtime.stores.resilience.deadline import deadline_after
from memory_runtime.tests.contract.test_every_column import differing, full
from memory_runtime.tests.ledgers import ACME, Place, drop, identity, key, put


def at(number: float, moment: float, text: str = "words", **rest: Any) -> Any:
    vector = np.array([1, moment, 0], np.float32)
    return put(number, text, event_time=moment, ingest_time=moment, vector=vector / np.linalg.norm(vector), **rest)


async def texts(ledger: Any, moment: float, **asked: Any) -> dict[float, tuple[str, int]]:
    """Text and version of what counted then, by coordinate; empty where a memory was not there yet."""

    def look(view: Any) -> dict[float, tuple[str, int]]:
        past = view.past(ACME, moment, **asked)
        now = view.page(ACME, after=None, limit=100, memory_type=None, now=moment)
        standing = [one for one in now if one.id.bytes not in past.replaced and one.event_time <= moment]
        return {one.coordinate[0]: (one.payload["text"], one.version) for one in (*standing, *past.versions)}

    return await ledger.read(look)


@pytest.mark.parametrize("together", [False, True])
async def test_each_version_counts_from_its_store_to_the_next(place: Place, together: bool) -> None:
    """In one group too: what a group has superseded itself is kept as what it found."""
    ledger = place.open()
    units = [Unit([at(1, 10.0 * n, f"v{n}")]) for n in range(1, 6)] + [Unit([at(2, 25.0, "other")])]
    if together:
        await ledger.commit_many(units)
    else:
        for unit in units:
            await ledger.commit(unit)
    assert await texts(ledger, 5.0) == {}
    for n in range(1, 6):
        for moment in (10.0 * n, 10.0 * n + 9):
            found = await texts(ledger, moment)
            assert found[1.0] == (f"v{n}", n)
            assert (2.0 in found) == (moment >= 25)
    assert await ledger.read(lambda view: view.past(ACME, 50.0)) == NOTHING
    assert await ledger.read(lambda view: view.past(Scope("other", "notes"), 15.0)) == NOTHING


async def test_what_is_stored_later_counts_from_when_it_happened(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(1, "told late", event_time=100.0, ingest_time=1000.0)]))
    await ledger.commit(Unit([put(1, "moved since", event_time=500.0, ingest_time=1500.0)]))
    assert await texts(ledger, 50.0) == {}
    assert (await texts(ledger, 200.0))[1.0] == ("told late", 1)
    # neither was known by then: what is known now of that moment
    assert (await texts(ledger, 600.0))[1.0] == ("moved since", 2)
    assert (await texts(ledger, 1200.0))[1.0] == ("told late", 1)
    assert (await texts(ledger, 1600.0))[1.0] == ("moved since", 2)


async def test_a_version_keeps_every_column_and_its_vector(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([full(1, expires_at=9e9)]))
    before = await ledger.get(identity(1))
    await ledger.commit(Unit([put(1, "another", ingest_time=before.ingest_time + 100)]))
    (kept,) = (await ledger.read(lambda view: view.past(ACME, before.ingest_time + 50))).versions
    assert differing(kept, before) == {}


async def test_payloads_are_read_only_of_what_is_wanted(place: Place) -> None:
    ledger = place.open()
    for n in range(1, 4):
        await ledger.commit(Unit([at(1, 10.0 * n, f"v{n}"), at(2, 10.0 * n, f"w{n}")]))
    whole = await ledger.read(lambda view: view.past(ACME, 15.0))
    light = await ledger.read(lambda view: view.past(ACME, 15.0, payloads=False, filters={"text": "v1"}))
    (one,) = light.versions
    assert (one.payload, one.version, light.replaced) == ({}, 1, whole.replaced)
    assert differing(one, next(version for version in whole.versions if version.id == one.id)).keys() == {"payload"}
    wanted = [(identity(1).bytes, 1), (identity(2).bytes, 2), (identity(2).bytes, 9), (identity(3).bytes, 1)]
    found = await ledger.read(lambda view: view.versions(wanted))
    assert {key: version.payload["text"] for key, version in found.items()} == {
        identity(1).bytes: "v1",
        identity(2).bytes: "w2",
    }
    assert await ledger.read(lambda view: view.versions([])) == {}
    counts = await ledger.read(lambda view: [view.superseded_since(ACME, moment) for moment in (5.0, 20.0, 25.0, 30.0)])
    assert counts == [4, 2, 2, 0]


async def test_a_look_at_the_past_ends_at_the_deadline(place: Place) -> None:
    ledger = place.open()
    for n in range(1, 4):
        await ledger.commit(Unit([at(1, 10.0 * n)]))
    with deadline_after(0.0), pytest.raises(DeadlineExceeded):
        await ledger.read(lambda view: view.past(ACME, 15.0))


def test_reading_versions_ends_at_the_deadline() -> None:
    """Also where the database has answered whole already."""
    row = (identity(1).bytes, "acme", "notes", "episodic", "1.0", "{}", None, 1.0, 0, 1.0, 1.0, 1.0, 0, None, "r")
    rows = iter([(*row, False, False, None, 1, 1, None, True, 2.0)] * 2000)
    found = superseded(rows)
    assert len(list(islice(found, 600))) == 600
    with deadline_after(0.0), pytest.raises(DeadlineExceeded):
        list(found)
    assert len(list(rows)) >= 900


async def test_filters_types_and_expiry_are_those_of_the_version(place: Place) -> None:
    ledger = place.open()
    for n, user in ((1, "ann"), (2, "bob")):
        payload = f'{{"text":"v{n}","user":"{user}"}}'
        await ledger.commit(Unit([at(1, 10.0 * n, payload=payload, expires_at=18.0 if n == 1 else None)]))
    past = await ledger.read(lambda view: view.past(ACME, 15.0, filters={"user": "ann"}))
    assert [one.payload["user"] for one in past.versions] == ["ann"]
    past = await ledger.read(lambda view: view.past(ACME, 15.0, filters={"user": "bob"}))
    assert (past.versions, len(past.replaced)) == ((), 1)
    past = await ledger.read(lambda view: view.past(ACME, 19.0))
    assert (past.versions, len(past.replaced)) == ((), 1)
    assert await ledger.read(lambda view: view.past(ACME, 15.0, memory_type="semantic")) == NOTHING


@pytest.mark.parametrize("together", [False, True])
async def test_a_delete_erases_what_the_memory_was(place: Place, together: bool) -> None:
    ledger = place.open()
    units = [
        Unit([at(1, 10.0, "secret one")]),
        Unit([at(1, 20.0, "secret two")]),
        Unit([drop(1, at=30.0)]),
        Unit([at(1, 40.0, "new")]),
        Unit([at(1, 50.0, "newer")]),
    ]
    if together:
        await ledger.commit_many(units)
    else:
        for unit in units:
            await ledger.commit(unit)
    kept = place.ask("SELECT payload FROM memory_versions") if place.kind == "sqlite" else None
    assert kept in (None, [('{"text":"new"}',)])
    assert await texts(ledger, 15.0) == {}
    assert await texts(ledger, 45.0) == {1.0: ("new", 4)}
    assert await texts(ledger, 55.0) == {1.0: ("newer", 5)}


async def test_a_unit_that_is_refused_leaves_no_version(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([at(1, 10.0, "first")], key("k")))
    fates = await ledger.commit_many(
        [Unit([at(1, 20.0, "refused"), at(2, 20.0)], key("k", "other body")), Unit([at(1, 30.0, "second")])]
    )
    assert isinstance(fates[0], Exception)
    assert await texts(ledger, 25.0) == {1.0: ("first", 1)}
    assert await texts(ledger, 35.0) == {1.0: ("second", 2)}


async def test_the_sweep_keeps_the_last_and_the_young(place: Place) -> None:
    ledger = place.open()
    for n in range(1, 9):
        await ledger.commit(Unit([at(1, 10.0 * n, f"v{n}"), at(2, 10.0 * n, f"w{n}")]))
    assert await ledger.transact(lambda transaction: transaction.sweep_versions(35.0, 100)) == 4
    assert await texts(ledger, 15.0) == {}
    assert (await texts(ledger, 35.0))[1.0] == ("v3", 3)
    assert await ledger.transact(lambda transaction: transaction.sweep_versions(0.0, 2)) == 6
    assert await texts(ledger, 55.0) == {}
    assert (await texts(ledger, 65.0))[2.0] == ("w6", 6)
    assert await ledger.transact(lambda transaction: transaction.sweep_versions(0.0, 0)) == 4
    assert await texts(ledger, 75.0) == {}
