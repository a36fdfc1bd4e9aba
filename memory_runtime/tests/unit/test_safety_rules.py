"""Rules that hold the promises of docs/reliability.md and that no other test looks at by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine
from memory_runtime.model.coordinates import memory_id
from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.model.records import Edge, Scope
from memory_runtime.scoring import ExactIndex, ImportanceNormaliser, Partition, ScoringParams
from memory_runtime.stores.contracts import Committed, Delete, Link, Put, Unit
from memory_runtime.stores.sqlite import SQLiteLedger, following
from memory_runtime.tests.samples import asked, item

ACME = Scope("acme", "notes")
HERE = Partition(0, 0)


def put(n: float) -> Put:
    identity = memory_id("acme", "notes", "m", repr(n))
    vector = np.array([1, 0, 0], np.float32)
    return Put(identity, ACME, "m", repr(n), '{"text": "a fox"}', "a fox", 0.0, 0.0, vector=vector)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SQLiteLedger]:
    made = SQLiteLedger(tmp_path, normalisers=lambda _: ImportanceNormaliser(), observer=lambda _: None)
    made.open()
    yield made
    made.close()


def count(ledger: SQLiteLedger, table: str) -> int:
    with closing(sqlite3.connect(ledger.path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 -- names of ours


async def test_a_delete_leaves_neither_vector_nor_words(ledger: SQLiteLedger) -> None:
    await ledger.commit(Unit([put(1.0)]))
    assert (count(ledger, "vectors"), count(ledger, "memories_text_docsize")) == (1, 1)
    await ledger.commit(Unit([Delete(put(1.0).id, ACME, "m", at=1.0)]))
    assert (count(ledger, "vectors"), count(ledger, "memories_text_docsize")) == (0, 0)
    with closing(sqlite3.connect(ledger.path)) as connection:
        assert not any(following.half_visible(connection).values())


async def test_a_delete_takes_the_edges_with_it(ledger: SQLiteLedger) -> None:
    await ledger.commit(Unit([put(1.0), put(2.0), put(3.0)]))
    for source, target in ((1.0, 2.0), (3.0, 1.0), (2.0, 3.0)):
        await ledger.commit(Unit([Link(ACME, Edge((source,), (target,), "knows", 1.0), at=1.0)]))
    await ledger.commit(Unit([Delete(put(1.0).id, ACME, "m", at=1.0)]))
    assert count(ledger, "edges") == 1


async def test_one_unit_that_breaks_the_database_does_not_fail_the_others(ledger: SQLiteLedger) -> None:
    def slow(_: Any) -> None:
        time.sleep(0.2)

    def broken(_: Any) -> None:
        raise sqlite3.OperationalError("no such thing")

    first = asyncio.ensure_future(ledger.transact(slow))
    await asyncio.sleep(0.05)
    # these three wait behind the first, so they are one group
    answers = await asyncio.gather(
        ledger.commit(Unit([put(1.0)])),
        ledger.transact(broken),
        ledger.commit(Unit([put(2.0)])),
        return_exceptions=True,
    )
    await first
    assert isinstance(answers[0], Committed)
    assert isinstance(answers[1], SomaError)
    assert isinstance(answers[2], Committed)
    assert await ledger.get(put(2.0).id) is not None


def filled(types: int = 1) -> ExactIndex:
    rng = np.random.default_rng(5)
    index = ExactIndex(8, ScoringParams(), clock=lambda: 1.7e9)
    ids = [uuid.UUID(int=n) for n in range(6000)]
    kinds = np.arange(6000) % 50 // (51 - types)
    index.upsert(index.batch(ids, rng.normal(size=(6000, 8)), event_time=np.full(6000, 1.6e9), memory_type=kinds))
    return index


def test_a_row_deleted_while_its_segment_is_merged_stays_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled()
    index.delete([uuid.UUID(int=n) for n in range(2000)])
    victim = index.search(np.ones(8), top_k=1, partition=HERE)[0][0].uuid
    merges = []

    def delete_meanwhile(place: str) -> None:
        merges.append(place)
        index.delete([victim])

    monkeypatch.setattr("memory_runtime.scoring.index.reach", delete_meanwhile)
    assert index.maintain(), "nothing was merged"
    assert merges == ["mid-merge"]
    assert victim not in {row.uuid for row in index.search(np.ones(8), top_k=100, partition=HERE)[0]}
    assert len(index) == 3999


def test_a_row_deleted_before_a_snapshot_does_not_return_with_it(tmp_path: Path) -> None:
    index = filled()
    victim = index.search(np.ones(8), top_k=1, partition=HERE)[0][0].uuid
    index.delete([victim])
    index.save(tmp_path, 1)
    again, _ = ExactIndex.load(tmp_path, 8, ScoringParams(), clock=lambda: 1.7e9)
    assert victim not in {row.uuid for row in again.search(np.ones(8), top_k=100, partition=HERE)[0]}


def test_a_type_is_asked_for_before_the_best_are_chosen() -> None:
    index = filled(types=2)
    (answer,) = index.search(np.ones(8), top_k=40, partition=HERE, types={1})
    assert len(answer) == 40
    assert {row.uuid.int % 50 for row in answer} == {49}


async def test_a_recall_waits_for_the_write_that_it_names(
    open_engine: Any, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory_runtime.engine.engine.MIN_SEQ_WAIT_SECONDS", 0.05)
    engine: MemoryEngine = await open_engine(vector_dim=3)
    receipt = await engine.store(scope, item(1, [1, 0, 0]))
    assert (await engine.recall(scope, asked([1, 0, 0], min_seq=receipt.seq))).hits
    with pytest.raises(Unavailable, match="min_seq"):
        await engine.recall(scope, asked([1, 0, 0], min_seq=receipt.seq + 1))
