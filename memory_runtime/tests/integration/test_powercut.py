"""A power cut at any moment: only what was flushed is there, and that is all that was acknowledged (R2).

The real ledger's writes and flushes are recorded and played up to many moments. That the same check fails under
SQLite's weaker `synchronous=NORMAL` shows that it looks where it matters.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hack.requirement import unavailable
from hack.torture_harness import powercut
from hack.torture_harness.powercut import Disk, Kind, Record, Survival
from hack.torture_harness.powercut_load import ACKNOWLEDGED
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.stores.sqlite import SQLiteLedger, following

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("powercut")]

SEED = 7
MOMENTS = 80


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder."""
    if shutil.which("cc") is None:
        unavailable("recording flushes needs a C compiler (cc)")
    return powercut.build(tmp_path_factory.mktemp("powercut"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the recording of `full` was made: its names begin with this."""
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def full(library: Path, folder: Path) -> list[Record]:
    """What our ledger does, as it is set."""
    return record(library, folder, "as-set")


def record(library: Path, folder: Path, level: str) -> list[Record]:
    """What our ledger does to its directory during a load, under this level of `synchronous`."""
    data, log = folder / "data", folder / "powercut.log"
    command = [sys.executable, "-m", "hack.torture_harness.powercut_load", str(data), level, str(SEED)]
    environment = {**os.environ, **powercut.environment(library, data, log)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return powercut.read(log)


class Findings:
    """What is missing or damaged after the cuts, in all."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.examples: list[str] = []

    def note(self, kind: str, sentence: str) -> None:
        self.count[kind] += 1
        self.examples.append(f"{kind}: {sentence}")


def acknowledgements(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.decode().splitlines()]


def cut_everywhere(records: list[Record], root: Path, scratch: Path, cuts: int = MOMENTS) -> tuple[Findings, int]:
    """Plays the recording, cuts at many moments in three ways, and looks at what is left."""
    dice = random.Random(SEED)
    disk, told, findings, states = Disk(root), b"", Findings(), 0
    told_file = 0
    first = next(at for at, one in enumerate(records) if one.kind is Kind.OPENED and ACKNOWLEDGED in one.data.decode())
    moments = set(dice.sample(range(first, len(records)), min(cuts, len(records) - first)))
    by_seq = {one["seq"]: one for one in acknowledgements(b"".join(_told(records)))}
    for at, record in enumerate(records):
        if record.kind is Kind.OPENED and ACKNOWLEDGED in record.data.decode():
            told_file = record.file
        if record.kind is Kind.WROTE and record.file == told_file:
            told += record.data
        disk.play(record)
        if at in moments:
            for survival in Survival:
                states += 1
                left = disk.after_a_cut(survival, dice)
                judge(left, acknowledgements(told), by_seq, scratch, findings, f"record {at}, {survival.value}")
    return findings, states


def _told(records: list[Record]) -> list[bytes]:
    files = {one.file for one in records if one.kind is Kind.OPENED and ACKNOWLEDGED in one.data.decode()}
    return [one.data for one in records if one.kind is Kind.WROTE and one.file in files]


def judge(
    left: dict[str, bytes],
    told: list[dict[str, Any]],
    by_seq: dict[int, dict[str, Any]],
    scratch: Path,
    findings: Findings,
    where: str,
) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for name, content in left.items():
        # the shared index is in memory alone; a reader makes it anew
        if not name.endswith("-shm") and "/" not in name:
            (scratch / name).write_bytes(content)
    try:
        with closing(sqlite3.connect(scratch / "ledger.sqlite3")) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            look(connection, told, by_seq, findings, where)
    except sqlite3.Error as error:
        findings.note("damaged", f"{where}: {error}")


def look(
    connection: sqlite3.Connection,
    told: list[dict[str, Any]],
    by_seq: dict[int, dict[str, Any]],
    findings: Findings,
    where: str,
) -> None:
    damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if damage != "ok":
        findings.note("damaged", f"{where}: {damage}")
    for kind, count in following.half_visible(connection).items():
        if count:
            findings.note("half", f"{where}: {kind} {count}")
    there = [row[0] for row in connection.execute("SELECT seq FROM outbox ORDER BY seq")]
    if there != list(range(1, len(there) + 1)):
        findings.note("half", f"{where}: the change stream has a hole")
    lost = [one["seq"] for one in told if one["seq"] > len(there)]
    if lost:
        findings.note("lost", f"{where}: {len(lost)} acknowledged, from seq {lost[0]} on")
    rows = connection.execute("SELECT id, seq, deleted, payload ->> '$.text' FROM memories").fetchall()
    for identity, seq, deleted, text in rows:
        wanted = by_seq.get(seq)
        if wanted is None or (wanted["id"], wanted["text"]) != (identity.hex(), None if deleted else text):
            findings.note("wrong", f"{where}: seq {seq} of {identity.hex()} is not what was written")


def test_a_power_cut_loses_nothing_that_was_acknowledged(full: list[Record], folder: Path, tmp_path: Path) -> None:
    flushes = Counter(name_of(full, one) for one in full if one.kind is Kind.FLUSH_ENDED)
    assert flushes["ledger.sqlite3-wal"] > 30, "the recorder missed the flushes of commits"
    assert flushes["ledger.sqlite3"] > 3, "the log was never folded in: the cuts show less than they could"
    findings, states = cut_everywhere(full, folder / "data", tmp_path / "left")
    assert states == 3 * MOMENTS
    assert not findings.count, findings.examples[:5]


def test_the_same_check_fails_where_sqlite_does_not_flush_at_each_commit(library: Path, tmp_path: Path) -> None:
    records = record(library, tmp_path, "NORMAL")
    findings, _ = cut_everywhere(records, tmp_path / "data", tmp_path / "left", cuts=25)
    assert findings.count["lost"] > 5
    assert not findings.count["damaged"], "NORMAL loses the newest commits, and must not damage the file"


def name_of(records: list[Record], record: Record) -> str:
    return next(Path(one.data.decode()).name for one in records if one.kind is Kind.OPENED and one.file == record.file)


def test_our_ledger_opens_on_what_a_cut_leaves(full: list[Record], folder: Path, tmp_path: Path) -> None:
    dice, disk = random.Random(SEED), Disk(folder / "data")
    for one in full[: len(full) * 2 // 3]:
        disk.play(one)
    for number in range(3):
        folder = tmp_path / f"left-{number}"
        folder.mkdir()
        for name, content in disk.after_a_cut(Survival.SOME, dice).items():
            if not name.endswith("-shm"):
                (folder / name).write_bytes(content)
        ledger = SQLiteLedger(folder, normalisers=lambda _: ImportanceNormaliser(), observer=lambda _: None)
        ledger.open()
        assert ledger.head_seq > 10
        ledger.close()


def flushed(*steps: Record) -> Disk:
    disk = Disk(Path("/d"))
    for step in steps:
        disk.play(step)
    return disk


def test_the_disk_keeps_what_was_written_before_a_flush_began() -> None:
    opening = [Record(Kind.OPENED, 1, 0, b"/d"), Record(Kind.OPENED, 2, 0, b"/d/f")]
    names = [Record(Kind.FLUSH_BEGAN, 1, 0, b""), Record(Kind.FLUSH_ENDED, 1, 0, b"")]
    before, during = Record(Kind.WROTE, 2, 0, b"ab"), Record(Kind.WROTE, 2, 2, b"cd")
    began, ended = Record(Kind.FLUSH_BEGAN, 2, 0, b""), Record(Kind.FLUSH_ENDED, 2, 0, b"")
    dice = random.Random(1)
    assert flushed(*opening).after_a_cut(Survival.NOTHING, dice) == {}
    assert flushed(*opening, *names, before).after_a_cut(Survival.NOTHING, dice) == {"f": b""}
    assert flushed(*opening, *names, before, began).after_a_cut(Survival.NOTHING, dice) == {"f": b""}
    disk = flushed(*opening, *names, before, began, during, ended)
    assert disk.after_a_cut(Survival.NOTHING, dice) == {"f": b"ab"}
    assert disk.after_a_cut(Survival.ALL, dice) == {"f": b"abcd"}
    assert {disk.after_a_cut(Survival.SOME, dice)["f"] for _ in range(50)} == {b"ab", b"abcd"}
