"""The SQLite ledger: what its file adds to the contract of tests/contract, which it keeps with PostgreSQL's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError
from memory_runtime.stores.contracts import (
    Operation,
    Unit,
)
from memory_runtime.stores.sqlite import SQLiteLedger
from memory_runtime.tests.ledgers import drop, normaliser, put


def opened(path: Path) -> SQLiteLedger:
    ledger = SQLiteLedger(path, normalisers=normaliser, observer=lambda _: None)
    ledger.open()
    return ledger


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SQLiteLedger]:
    made = opened(tmp_path / "data")
    yield made
    made.close()


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


async def test_a_second_process_is_kept_out_of_the_directory(ledger: SQLiteLedger) -> None:
    with pytest.raises(SettingsError, match="in use by another process"):
        opened(ledger.data_dir)


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
