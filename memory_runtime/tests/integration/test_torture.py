"""A real `soma serve` is harmed during load: every promise is kept; and the checks see it when one is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.torture_harness.__main__ import host_target
from hack.torture_harness.blame import Verdict, judge_history
from hack.torture_harness.faults import HOST
from hack.torture_harness.fleet import fleet_on
from hack.torture_harness.history import ABSENT, History, Kind, Outcome
from hack.torture_harness.processes import Zygote
from hack.torture_harness.runs import Findings, Plan, Torture
from hack.torture_harness.verdict import judge_ledger
from hack.torture_harness.witness import FileWitness
from memory_runtime.engine import build_engine
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SMFSettings

FIXED_RUNS, FIXED_SEED = 18, 20_241_125
RANDOM_RUNS = 4
TOKEN = "torture-token"
FLEET_RUNS, FLEET_HARMS = 3, ("failpoint", "silence", "postgres")


def tortured(directory: Path, runs: int, seed: int) -> Findings:
    possible = [name for name in HOST if name != "disk" or os.geteuid() == 0]
    plan = Plan(runs, seed, faults=possible)
    with contextlib.ExitStack() as stack:
        zygote = Zygote()
        stack.callback(zygote.close)
        target = host_target(directory, plan, zygote, stack)
        return asyncio.run(Torture(target, target.token, plan, print).run())


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("runs", [FIXED_RUNS, RANDOM_RUNS])
def test_every_promise_is_kept_while_the_server_is_harmed(
    tmp_path: Path, record_property: pytest.RecordProperty, runs: int
) -> None:
    seed = FIXED_SEED if runs == FIXED_RUNS else secrets.randbelow(2**31)
    record_property("seed", seed)
    findings = tortured(tmp_path, runs, seed)
    assert findings.verdict.clean, f"seed {seed}: {findings.verdict.complaints[:5]}"
    assert findings.runs == runs
    assert findings.acknowledged >= 5 * runs
    if runs == FIXED_RUNS:
        assert findings.sprung > 0, "no failpoint sprang: the runs show less than they say"


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_promise_is_kept_while_a_fleet_is_harmed(record_property: pytest.RecordProperty) -> None:
    seed = secrets.randbelow(2**31)
    record_property("seed", seed)
    with tempfile.TemporaryDirectory(prefix="soma-fleet-") as name, contextlib.ExitStack() as stack:
        zygote = Zygote()
        stack.callback(zygote.close)
        try:
            fleet = stack.enter_context(fleet_on(Path(name), TOKEN, zygote))
        except ClusterError as error:
            unavailable(str(error))
        plan = Plan(FLEET_RUNS, seed, faults=FLEET_HARMS)
        findings = asyncio.run(Torture(fleet, TOKEN, plan, print).run())
    assert findings.verdict.clean, f"seed {seed}: {findings.verdict.complaints[:5]}"
    assert (findings.runs, findings.acknowledged > 0) == (FLEET_RUNS, True)


@pytest.fixture
async def ledger_of_three(tmp_path: Path) -> Path:
    """A ledger that holds the memories 0, 1 and 2, in a closed file."""
    engine = build_engine(SMFSettings(data_dir=tmp_path, vector_dim=3, embedding_provider="hash"))
    await engine.start()
    for n in range(3):
        item = StoreItem((0.0, 0.0, float(n)), {"text": f"text {n}"}, vector=np.ones(3, np.float32))
        await engine.store(Scope("a", "b"), item)
    await engine.close()
    return tmp_path / "ledger.sqlite3"


def history_of_three() -> History:
    history = History()
    for n in range(3):
        history.begin(0, Kind.STORE, f"0.0,0.0,{n}.0", f"text {n}").close(Outcome.OK, seq=n + 1)
    return history


def counts(ledger: Path, history: History) -> tuple[int, int, int, int]:
    verdict = Verdict()
    judge_ledger(FileWitness(ledger), history, verdict)
    judge_history(history, verdict)
    return verdict.lost, verdict.resurrected, verdict.half_visible, verdict.duplicates


def test_the_verdict_on_a_whole_ledger_is_clean(ledger_of_three: Path) -> None:
    assert counts(ledger_of_three, history_of_three()) == (0, 0, 0, 0)


def test_the_verdict_sees_a_lost_a_changed_and_a_resurrected_memory(ledger_of_three: Path) -> None:
    history = history_of_three()
    history.begin(0, Kind.STORE, "0.0,0.0,9.0", "never arrived").close(Outcome.OK, seq=10)
    history.begin(0, Kind.STORE, "0.0,0.0,1.0", "another content").close(Outcome.OK, seq=11)
    history.begin(0, Kind.DELETE, "0.0,0.0,2.0", ABSENT).close(Outcome.OK, seq=12)
    assert counts(ledger_of_three, history) == (2, 1, 0, 0)


def test_the_verdict_sees_what_changed_though_nobody_touched_it(ledger_of_three: Path) -> None:
    history = History(initial={"0.0,0.0,0.0": "text 0", "0.0,0.0,1.0": "was another", "0.0,0.0,7.0": "was there"})
    assert counts(ledger_of_three, history) == (2, 0, 1, 0)


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
    assert counts(ledger_of_three, history_of_three())[2] > 0


def test_the_verdict_sees_a_store_that_was_applied_twice(ledger_of_three: Path) -> None:
    with sqlite3.connect(ledger_of_three) as connection:
        connection.execute(
            "INSERT INTO outbox (operation, id, collection, tenant, namespace, memory_type, version, at, payload)"
            " SELECT operation, id, collection, tenant, namespace, memory_type, version, at, payload"
            " FROM outbox WHERE seq = 1"
        )
    connection.close()
    assert counts(ledger_of_three, history_of_three())[3] == 1
