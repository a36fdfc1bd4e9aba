"""Kill -9 of a real `soma serve` during stores: nothing acknowledged is lost or half there; and the harness bites."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from hack.crash_harness.load import DELETED, History, content
from hack.crash_harness.runs import Plan, torture
from hack.crash_harness.target import HostTarget
from hack.crash_harness.verdict import Verdict, judge_file
from memory_runtime.engine import build_engine
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SMFSettings

RUNS = 5


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    seed = secrets.randbelow(2**31)
    record_property("seed", seed)
    target = HostTarget(tmp_path, secrets.token_hex(16))
    try:
        outcome = asyncio.run(torture(target, target.token, Plan(RUNS, seed), print))
    finally:
        target.stop()
    found = (outcome.verdict.lost, outcome.verdict.half_visible, outcome.verdict.duplicates)
    assert found == (0, 0, 0), f"seed {seed}: {outcome.verdict.complaints[:5]}"
    assert outcome.runs == RUNS
    assert outcome.acknowledged >= RUNS


@pytest.fixture
async def ledger_of_three(tmp_path: Path) -> Path:
    """A ledger that holds the memories 0, 1 and 2, in a closed file."""
    engine = build_engine(SMFSettings(data_dir=tmp_path, vector_dim=3, embedding_provider="hash"))
    await engine.start()
    for n in range(3):
        payload = {"text": content(1, 0, 0, n)}
        await engine.store(Scope("a", "b"), StoreItem((0.0, 0.0, float(n)), payload, vector=np.ones(3, np.float32)))
    await engine.close()
    return tmp_path / "ledger.sqlite3"


def history_of_three() -> History:
    return History(acknowledged={f"0.0,0.0,{n}.0": content(1, 0, 0, n) for n in range(3)})


def counts(ledger: Path, history: History) -> tuple[int, int, int]:
    verdict = Verdict()
    judge_file(ledger, history, verdict)
    return verdict.lost, verdict.half_visible, verdict.duplicates


def test_the_verdict_on_a_whole_ledger_is_clean(ledger_of_three: Path) -> None:
    assert counts(ledger_of_three, history_of_three()) == (0, 0, 0)


def test_the_verdict_sees_a_lost_a_changed_and_a_resurrected_memory(ledger_of_three: Path) -> None:
    history = history_of_three()
    history.acknowledged["0.0,0.0,9.0"] = "never stored"
    history.acknowledged["0.0,0.0,1.0"] = "another content"
    history.acknowledged["0.0,0.0,2.0"] = DELETED
    assert counts(ledger_of_three, history) == (3, 0, 0)


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM vectors WHERE row = 1",
        "DELETE FROM memories_text WHERE rowid = 1",
        "DELETE FROM outbox WHERE seq = 2",
        "UPDATE memories SET deleted = 1 WHERE row = 3",
        "UPDATE memories SET version = 0 WHERE row = 3",
    ],
)
def test_the_verdict_sees_every_kind_of_half(ledger_of_three: Path, harm: str) -> None:
    with sqlite3.connect(ledger_of_three) as connection:
        connection.execute(harm)
    connection.close()
    assert counts(ledger_of_three, history_of_three())[1] > 0
