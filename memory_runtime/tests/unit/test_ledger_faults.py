"""What SQLite reports on any path is told as what it is: only damage is damage, and only that lasts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.model.errors import SomaError, Unavailable
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores import migrating
from memory_runtime.stores.contracts import AuditEntry, Unit
from memory_runtime.stores.sqlite import SQLiteLedger, auditing, opening
from memory_runtime.tests.ledgers import ACME, DIM, identity, normaliser, put

PASSING = {
    "SQLITE_BUSY": "busy",
    "SQLITE_BUSY_SNAPSHOT": "busy",
    "SQLITE_LOCKED": "busy",
    "SQLITE_PROTOCOL": "busy",
    "SQLITE_IOERR": "volume reports errors",
    "SQLITE_IOERR_FSYNC": "volume reports errors",
    "SQLITE_IOERR_SHMSIZE": "full",
    "SQLITE_FULL": "full",
    "SQLITE_READONLY": "read-only",
    "SQLITE_READONLY_DBMOVED": "read-only",
    "SQLITE_CANTOPEN": "volume reports errors",
    "SQLITE_NOMEM": "memory",
}
LASTING = ("SQLITE_CORRUPT", "SQLITE_CORRUPT_VTAB", "SQLITE_NOTADB")


class Fault:
    """Which code every statement fails with that a word is in; none while `code` is empty."""

    code = ""
    word = ""

    @classmethod
    def strike(cls, statement: str) -> None:
        if cls.code and cls.word in statement:
            if cls.code == "SQLITE_NOMEM":
                raise MemoryError
            error = sqlite3.OperationalError(f"injected {cls.code}")
            error.sqlite_errorcode = getattr(sqlite3, cls.code)
            raise error


class Cursor(sqlite3.Cursor):
    def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:  # type: ignore[override]
        Fault.strike(sql)
        return super().execute(sql, *rest)


class Connection(sqlite3.Connection):
    def cursor(self, *rest: Any) -> sqlite3.Cursor:  # type: ignore[override]
        return super().cursor(Cursor)

    def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:  # type: ignore[override]
        Fault.strike(sql)
        return super().execute(sql, *rest)

    def executemany(self, sql: str, *rest: Any) -> sqlite3.Cursor:  # type: ignore[override]
        Fault.strike(sql)
        return super().executemany(sql, *rest)


@pytest.fixture(autouse=True)
def faulty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    plain = sqlite3.connect

    def connect(*positional: Any, **named: Any) -> sqlite3.Connection:
        Fault.strike("connect")
        return plain(*positional, **({"factory": Connection} | named))

    monkeypatch.setattr(sqlite3, "connect", connect)
    monkeypatch.setattr(sqlite3.dbapi2, "connect", connect)
    yield
    Fault.code = Fault.word = ""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SQLiteLedger]:
    made = SQLiteLedger(tmp_path / "data", normalisers=normaliser, observer=lambda _: None)
    made.open()
    made.write_now(
        lambda transaction: transaction.run(
            Unit([put(1, "some words")], audit=[AuditEntry("acme", "me", "store", "it", 1.0)])
        )
    )
    yield made
    Fault.code = ""
    made.close()


def loaded(ledger: SQLiteLedger) -> None:
    with ledger.load(DIM) as found:
        assert len(list(found.rows)) == 1


def worded(view: Any) -> Any:
    asked = {"exact": True, "case_sensitive": False, "limit": 5, "memory_type": None, "filters": None, "now": 1.0}
    assert len(view.by_words(ACME, "words", **asked)) == 1


PATHS: dict[str, tuple[str, Callable[[SQLiteLedger], Any]]] = {
    "read": ("FROM memories", lambda ledger: ledger.read_now(lambda view: view.get(identity(1)))),
    "words": ("memories_text", lambda ledger: ledger.read_now(worded)),
    "change feed": ("FROM outbox", lambda ledger: ledger.read_now(lambda view: view.tail(0, 10))),
    "scan": ("FROM memories", lambda ledger: list(ledger.scan(DIM))),
    "vectors of a scan": ("FROM vectors", lambda ledger: list(ledger.scan(DIM))),
    "load": ("FROM memories", loaded),
    "a moment's connection": ("connect", loaded),
    "a moment's pragmas": ("PRAGMA", lambda ledger: list(ledger.scan(DIM))),
    "a moment's begin": ("BEGIN", loaded),
    "write": ("memories", lambda ledger: ledger.write_now(lambda transaction: transaction.run(Unit([put(2)])))),
    "begin": ("BEGIN IMMEDIATE", lambda ledger: ledger.write_now(lambda transaction: transaction.run(Unit([put(3)])))),
    "commit": ("COMMIT", lambda ledger: ledger.write_now(lambda transaction: transaction.run(Unit([put(4)])))),
    "many": (
        "UPDATE memories",
        lambda ledger: ledger.write_now(lambda transaction: transaction.add_accesses([(1, 2.0, identity(1).bytes)])),
    ),
    "audit": ("audit", lambda ledger: list(auditing.lines(ledger.path))),
    "export": (
        "FROM memories",
        lambda ledger: ledger.read_now(lambda view: view.page(ACME, after=None, limit=5, memory_type=None, now=1.0)),
    ),
}


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("code", list(PASSING))
def test_what_passes_is_no_damage(ledger: SQLiteLedger, path: str, code: str) -> None:
    word, call = PATHS[path]
    Fault.word, Fault.code = word, code
    with pytest.raises(Unavailable) as caught:
        call(ledger)
    assert PASSING[code] in caught.value.message
    assert "backup" not in str(caught.value.remedy)
    assert ledger.healthy
    assert not ledger.ailment
    Fault.code = ""
    call(ledger)
    assert ledger.healthy


@pytest.mark.parametrize("path", sorted(set(PATHS) - {"audit", "a moment's connection", "begin", "commit"}))
@pytest.mark.parametrize("code", LASTING)
def test_damage_is_told_and_lasts(ledger: SQLiteLedger, path: str, code: str) -> None:
    word, call = PATHS[path]
    Fault.word, Fault.code = word, code
    with pytest.raises(Unavailable) as caught:
        call(ledger)
    assert "backup" in str(caught.value.remedy)
    Fault.code = ""
    assert not ledger.healthy
    assert "backup" in ledger.ailment


def test_a_missing_vector_is_damage(ledger: SQLiteLedger) -> None:
    ledger.write_now(lambda transaction: transaction.connection.execute("DELETE FROM vectors"))
    with pytest.raises(Unavailable, match="damaged"):
        list(ledger.scan(DIM))
    assert not ledger.healthy


@pytest.mark.parametrize("code", [one for one in PASSING if one != "SQLITE_NOMEM"])
@pytest.mark.parametrize("word", ["connect", "alembic_version", "BEGIN IMMEDIATE", "CREATE TABLE", "quick_check"])
def test_a_start_that_cannot_go_on_says_why_and_nobody_is_told_to_put_the_file_away(
    tmp_path: Path, code: str, word: str
) -> None:
    directory = tmp_path / "data"
    if word in {"alembic_version", "quick_check"}:
        first = SQLiteLedger(directory, normalisers=normaliser, observer=lambda _: None)
        first.open()
        first.close()
    Fault.word, Fault.code = word, code
    ledger = SQLiteLedger(directory, normalisers=normaliser, observer=lambda _: None)
    with pytest.raises(Unavailable) as caught:
        ledger.open()
    assert PASSING[code] in caught.value.message
    assert "backup" not in str(caught.value.remedy)
    Fault.code = ""
    ledger.open()
    assert ledger.healthy
    ledger.close()


def test_a_page_that_could_not_be_read_is_no_verdict() -> None:
    verdict = "*** in database main ***\nPage 7: unable to get the page. error code={}"
    assert opening.unread_page(verdict.format(sqlite3.SQLITE_IOERR_READ)) == sqlite3.SQLITE_IOERR_READ
    assert opening.unread_page(verdict.format(sqlite3.SQLITE_CORRUPT)) == 0
    assert opening.unread_page("row 3 missing from index memories_scope") == 0


def test_a_writer_outlives_a_defect(ledger: SQLiteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that answers writers must not end: the next one would wait for ever."""
    writer = ledger._writer
    assert writer is not None
    keep = writer._keep_log_short
    monkeypatch.setattr(writer, "_undo", lambda error: 1 / 0)
    Fault.word, Fault.code = "COMMIT", "SQLITE_FULL"
    with pytest.raises(ZeroDivisionError):
        ledger.write_now(lambda transaction: transaction.run(Unit([put(5)])))
    Fault.code = ""
    monkeypatch.undo()
    monkeypatch.setattr(writer, "_keep_log_short", keep)
    writer._connection.execute("ROLLBACK")
    assert ledger.write_now(lambda transaction: transaction.run(Unit([put(5)]))).receipts[0].created


def test_the_checkpointer_waits_for_a_volume_that_cannot_be_opened(
    ledger: SQLiteLedger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ledger._writer
    assert writer is not None
    done: list[str] = []
    monkeypatch.setattr("memory_runtime.stores.sqlite.writer.CHECKPOINT_REST_SECONDS", 0.0)
    monkeypatch.setattr(writer, "_checkpoint", lambda connection, kind: done.append(kind))
    Fault.word, Fault.code = "connect", "SQLITE_CANTOPEN"
    writer._checkpoint_wanted.set()
    while "put off" not in caplog.text:
        assert writer._checkpointer.is_alive()
    Fault.code = ""
    writer._checkpoint_wanted.set()
    while not done:
        assert writer._checkpointer.is_alive()


def test_a_file_that_is_damaged_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises((Unavailable, SettingsError)) as caught:
        migrating.migrate(path)
    assert "backup" in str(caught.value.remedy)
    assert isinstance(caught.value, SomaError | SettingsError)
    assert SMFSettings(data_dir=tmp_path).data_dir == tmp_path
