"""The cache's key space is of one line of history: what was cached in another one is never found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from memory_runtime.engine.cache.changes import RecentChanges
from memory_runtime.engine.cache.reading import RecordCache
from memory_runtime.engine.following import Follower
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import Committed, Receipt, Unit
from memory_runtime.stores.sessions import Ledger
from memory_runtime.tests.ledgers import ACME, identity, put


class Entries:
    """Redis, as far as keys go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.floors: list[str] = []
        self.marks: list[str] = []

    async def look(self, keys: Sequence[str]) -> dict[str, tuple[int, str]]:
        self.asked += keys
        return {}

    async def fill_texts(self, texts: Mapping[str, str], order: int, ttl: float) -> None:
        raise AssertionError

    async def mark(self, keys: Sequence[str]) -> str:
        self.marks += keys
        return ""

    async def outdate(self, keys: Sequence[str], order: int) -> None:
        self.floors += keys


class StubLedger:
    lineage = "one"
    fresh = True
    away = False

    async def read(self, query: Callable[[Any], Any]) -> Any:
        if self.away:
            raise Unavailable("away", remedy="wait")
        return query(self)

    def facts(self) -> dict[str, str]:
        return {}

    async def commit(self, unit: Unit) -> Committed:
        # the group itself has found that the ledger is another one
        self.lineage = "two"
        cache.turn_over()
        return Committed((Receipt(identity(1), 2, 9, created=False, changed=True),))


class StubFollower:
    lost = False
    applied_seq = 5


cache: RecordCache


def made(ledger: StubLedger, entries: Entries) -> RecordCache:
    global cache
    follower = StubFollower()
    cache = RecordCache(cast(Ledger, ledger), cast(Follower, follower), RecentChanges(), entries)
    return cache


async def spaces(one: RecordCache, entries: Entries, scope: Scope = ACME) -> set[str]:
    entries.asked.clear()
    await one.by_ids(scope, [identity(1).bytes])
    return {key.partition(":")[0] for key in entries.asked}


async def test_another_line_of_history_is_another_key_space() -> None:
    ledger, entries = StubLedger(), Entries()
    one = made(ledger, entries)
    await one.start()
    first = await spaces(one, entries)
    ledger.lineage = "two"
    one.turn_over()
    second = await spaces(one, entries)
    assert len(first) == len(second) == 1
    assert first != second
    one.outdate(1)
    assert await spaces(one, entries) not in (first, second)


async def test_a_write_that_meets_another_line_outdates_there_and_marks_where_others_may_still_read() -> None:
    ledger, entries = StubLedger(), Entries()
    one = made(ledger, entries)
    await one.start()
    (before,) = await spaces(one, entries)
    await one.commit(Unit([put(1)]))
    (after,) = await spaces(one, entries)
    assert {key.partition(":")[0] for key in entries.floors} == {after}
    assert {key.partition(":")[0] for key in entries.marks} == {before}


async def test_a_cache_whose_history_cannot_be_read_stays_out_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory_runtime.engine.cache.reading.LEARN_AGAIN_SECONDS", 0.01)
    ledger, entries = StubLedger(), Entries()
    ledger.away = True
    one = made(ledger, entries)
    await one.start()
    assert await spaces(one, entries) == set()
    ledger.away = False
    await one.idle()
    assert len(await spaces(one, entries)) == 1
    ledger.lineage = ""
    one.turn_over()
    assert await spaces(one, entries) == set(), "no key begins with the name of no history"


async def test_an_entry_of_before_is_not_given_while_history_is_in_doubt() -> None:
    ledger, entries = StubLedger(), Entries()
    one = made(ledger, entries)
    await one.start()
    assert one._readable
    ledger.fresh = False
    assert not one._readable
    ledger.fresh = True
    moment = one.moment()
    ledger.lineage = "two"
    one.turn_over()
    one._keep(ACME, [], moment, {"1.0": identity(1)})  # would raise in `fill_texts`
    await one.idle()
