"""What makes an acknowledgement durable: how every writing connection is set, and the order flush, apply, answer."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.model.coordinates import memory_id
from memory_runtime.model.errors import Internal, Unavailable
from memory_runtime.model.records import Scope
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.stores.contracts import Applied, Put, Unit
from memory_runtime.stores.sqlite import SQLiteLedger, opening


def put(n: float, importance: float | None = None) -> Put:
    identity = memory_id("a", "b", "m", repr(n))
    vector = np.array([1, 0, 0], np.float32)
    return Put(identity, Scope("a", "b"), "m", repr(n), "{}", "word", 0.0, 0.0, importance, vector=vector)


@pytest.fixture
def seen() -> list[list[int]]:
    return []


@pytest.fixture
def ledger(tmp_path: Path, seen: list[list[int]]) -> Iterator[SQLiteLedger]:
    def observer(changes: Sequence[Applied]) -> None:
        # another connection sees what is committed, and only that
        with sqlite3.connect(tmp_path / "ledger.sqlite3") as other:
            seen.append([row[0] for row in other.execute("SELECT seq FROM memories ORDER BY seq")])
        other.close()
        assert seen[-1][-1] == changes[-1].receipt.seq

    made = SQLiteLedger(
        tmp_path,
        normalisers=lambda s: ImportanceNormaliser.loads(s) if s else ImportanceNormaliser(),
        observer=observer,
    )
    made.open()
    yield made
    made.close()


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_every_writing_connection_flushes_at_each_commit(tmp_path: Path, ledger: SQLiteLedger) -> None:
    found = ledger.write_now(lambda tx: (pragma(tx.connection, "journal_mode"), pragma(tx.connection, "synchronous")))
    assert found == ("wal", 2)
    fresh = opening.connect(tmp_path / "ledger.sqlite3", writer=True)
    assert (pragma(fresh, "journal_mode"), pragma(fresh, "synchronous")) == ("wal", 2)
    fresh.close()


def test_a_reader_cannot_write(ledger: SQLiteLedger) -> None:
    with pytest.raises((Internal, Unavailable)):
        ledger.read_now(lambda view: view.connection.execute("DELETE FROM memories"))


async def test_the_index_hears_of_a_change_only_when_it_is_committed(
    ledger: SQLiteLedger, seen: list[list[int]]
) -> None:
    await ledger.commit(Unit([put(1.0)]))
    await ledger.commit(Unit([put(2.0)]))
    assert seen == [[1], [1, 2]]


async def test_a_commit_that_fails_is_not_acknowledged_and_leaves_no_trace(
    ledger: SQLiteLedger, seen: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.commit(Unit([put(1.0, importance=1.0)]))

    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("memory_runtime.stores.sqlite.writing.Transaction.seal", fail)
        with pytest.raises((Internal, Unavailable)):
            await ledger.commit(Unit([put(2.0, importance=100.0)]))
    assert len(seen) == 1
    assert ledger.head_seq == 1
    receipt = (await ledger.commit(Unit([put(3.0, importance=2.0)]))).receipts[0]
    assert receipt.seq == 2
    record = await ledger.get(put(3.0).id)
    assert record is not None
    # 2 is the largest importance that was ever stored: the 100 that failed must not have moved the normaliser
    assert record.importance_norm == 1.0
    assert await ledger.get(put(2.0).id) is None


async def test_a_writer_is_told_after_the_commit_and_after_the_index(tmp_path: Path) -> None:
    heard: list[int] = []

    def observer(changes: Sequence[Applied]) -> None:
        time.sleep(0.05)
        heard.extend(change.receipt.seq for change in changes)

    ledger = SQLiteLedger(tmp_path / "other", normalisers=lambda _: ImportanceNormaliser(), observer=observer)
    ledger.open()
    receipt = (await ledger.commit(Unit([put(1.0)]))).receipts[0]
    assert heard == [receipt.seq], "told before the index had heard of it"
    ledger.close()


async def test_what_one_observer_cannot_follow_is_durable_all_the_same(tmp_path: Path) -> None:
    def observer(_: Sequence[Applied]) -> None:
        raise RuntimeError("the index is out of memory")

    ledger = SQLiteLedger(tmp_path / "other", normalisers=lambda _: ImportanceNormaliser(), observer=observer)
    ledger.open()
    receipt = (await ledger.commit(Unit([put(1.0)]))).receipts[0]
    assert ledger.head_seq == receipt.seq == 1
    assert await ledger.get(receipt.id) is not None
    ledger.close()


async def test_the_log_is_folded_into_the_file_while_writing_goes_on(tmp_path: Path, ledger: SQLiteLedger) -> None:
    text = "x" * 20_000
    for n in range(60):
        await ledger.commit(Unit([replace(put(float(50 * n + m)), payload=f'{{"text":"{text}"}}') for m in range(50)]))
    log = (tmp_path / "ledger.sqlite3-wal").stat().st_size
    assert (tmp_path / "ledger.sqlite3").stat().st_size > 40 * 2**20, "nothing was folded in"
    assert log < 128 * 2**20
