"""No number that is none is stored by any path, in either ledger; one that an older version stored is mended."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Edge, MemoryRecord
from memory_runtime.stores.contracts import AuditEntry, Link, Put, Unit
from memory_runtime.stores.migrations.versions import ledger_0006
from memory_runtime.stores.postgres.migrations.versions import ledger_0004
from memory_runtime.stores.values import Facts
from memory_runtime.tests.contract.conftest import ask
from memory_runtime.tests.ledgers import ACME, Place, put

NONE = [math.nan, math.inf, -math.inf, 10**400]
ENTRY = AuditEntry("acme", "test", "restore", "notes", 1.0)


def wrong(value: float) -> list[Put]:
    numbers = [dataclasses.replace(put(1), **{name: value}) for name in ("importance", "event_time", "ingest_time")]
    vector = np.array([1.0, 0.0, float(value) if abs(value) != 10**400 else np.inf], np.float32)
    return [*numbers, put(1, expires_at=value), put(1, features={"mood": value}), put(1, vector=vector)]


@pytest.mark.parametrize("value", NONE)
async def test_no_path_of_a_ledger_stores_a_number_that_is_none(place: Place, value: float) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(2), put(3)]))
    for one in wrong(value):
        with pytest.raises(InvalidArgument, match="finite"):
            await ledger.commit(Unit([one]))
    fates = await ledger.commit_many([Unit([one]) for one in (put(4), *wrong(value), put(5))])
    assert [isinstance(fate, InvalidArgument) for fate in fates] == [False, *[True] * len(wrong(value)), False]
    with pytest.raises(InvalidArgument, match="weight"):
        await ledger.commit(Unit([Link(ACME, Edge((2.0,), (3.0,), "related", value), 1.0)]))
    for field in ("importance_norm", "access_time"):
        record = dataclasses.replace(record_of(put(6)), **{field: value})
        with pytest.raises(InvalidArgument, match="finite"):
            await ledger.transact(lambda to, record=record: to.restore([(put(6), record, [])], 1.0, ENTRY))
    assert await ledger.get(put(1).id) is None
    assert await ledger.get(put(6).id) is None
    assert ledger.head_seq == 4


def record_of(one: Put) -> MemoryRecord:
    return MemoryRecord(
        one.id, "acme", "notes", one.memory_type, (6.0,), {}, None, 1.0, 0, 1000.0, 2000.0, 2000.0, 0, version=1
    )


SPOILED = (
    "UPDATE memories SET expires_at = {inf}, importance_raw = {inf}, event_time = {minus} WHERE coordinate = '1.0'",
    "UPDATE memories SET importance_norm = {inf}, access_time = {inf}, ingest_time = {inf} WHERE coordinate = '2.0'",
    "UPDATE memories SET ingest_time = {inf}, event_time = {inf} WHERE coordinate = '3.0'",
    "UPDATE outbox SET event_time = {inf}, importance = {minus} WHERE seq = 1",
    "UPDATE edges SET weight = {inf}",
)
LOOK = (
    "SELECT coordinate, importance_raw, importance_norm, event_time, ingest_time, access_time, expires_at"
    " FROM memories ORDER BY coordinate"
)
MENDED = [
    ("1.0", None, 1.0, 2000.0, 2000.0, 2000.0, None),
    ("2.0", None, 1.0, 1000.0, 1000.0, 1000.0, None),
    ("3.0", None, 1.0, 0.0, 0.0, 2000.0, None),
]


async def test_a_ledger_that_holds_one_is_mended_by_its_migration(place: Place, request: pytest.FixtureRequest) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(1), put(2), put(3)]))
    await ledger.commit(Unit([Link(ACME, Edge((1.0,), (2.0,), "related", 0.5), 1.0)]))
    path = getattr(ledger, "path", None)
    ledger.close()
    if path is not None:
        mend(path, [sql.format(inf="9e999", minus="-9e999") for sql in SPOILED])
        mend(path, ledger_0006.UP)
    else:
        dsn = request.getfixturevalue("database")
        for sql in (*(one.format(inf="'NaN'", minus="'-Infinity'") for one in SPOILED), *ledger_0004.UP):
            await asyncio.to_thread(ask, dsn, sql)
    found = await asyncio.to_thread(place.ask, LOOK)
    assert [tuple(one) for one in found] == MENDED
    assert await asyncio.to_thread(place.ask, "SELECT weight FROM edges") == [(1.0,)]
    assert await asyncio.to_thread(place.ask, "SELECT event_time, importance FROM outbox WHERE seq = 1") == [
        (None, None)
    ]
    again = place.open()
    assert (await again.get(put(1).id)).expires_at is None
    # an index that was built before is built anew
    assert Facts.GENERATION in await again.read(lambda view: view.facts())


def mend(path: Path, statements: Sequence[str]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for sql in statements:
            connection.execute(sql)
        connection.commit()
