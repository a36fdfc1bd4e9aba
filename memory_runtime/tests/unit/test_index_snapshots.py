"""The index's snapshots under the engine: a start is the quicker for them, and never the worse."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.scoring.snapshot import MANIFEST
from memory_runtime.stores.sqlite.opening import FILE_NAME
from memory_runtime.tests.samples import DAY, Clock, asked, coordinates

DIM = 8
BUILT = "index built"
LOADED = "index loaded"


def settings(**rest: Any) -> dict[str, Any]:
    clock = rest.pop("clock", None) or Clock()
    return {"vector_dim": DIM, "half_life": "7d", "index_snapshot_min_rows": 1, "clock": clock} | rest


def items(first: int, count: int, seed: int = 1) -> list[StoreItem]:
    rng = np.random.default_rng(seed + first)
    return [
        StoreItem(
            (float(n),),
            {"text": f"memory {n}"},
            memory_type=("episodic", "fact", "plan")[n % 3],
            vector=rng.standard_normal(DIM).astype(np.float32),
            importance=float(rng.lognormal()),
            timestamp=Clock().now - float(rng.uniform(0, 60)) * DAY,
        )
        for n in range(first, first + count)
    ]


def questions() -> list[RecallRequest]:
    rng = np.random.default_rng(99)
    return [asked(list(rng.standard_normal(DIM)), top_k=50) for _ in range(6)]


async def answers(engine: MemoryEngine, scope: Scope) -> Any:
    results = await engine.recall_batch(scope, questions())
    return [[(hit.record.id, hit.score) for hit in one.hits] for one in results]


async def restarted(open_engine: Any, engine: MemoryEngine, caplog: Any, **rest: Any) -> tuple[MemoryEngine, str]:
    await engine.close()
    return await started(open_engine, caplog, **rest)


async def started(open_engine: Any, caplog: Any, **rest: Any) -> tuple[MemoryEngine, str]:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        engine = await open_engine(**settings(**rest))
    return engine, "\n".join(caplog.messages)


async def test_a_start_maps_the_snapshot_and_catches_up(open_engine: Any, scope: Scope, caplog: Any) -> None:
    engine: MemoryEngine = await open_engine(**settings())
    other = Scope("globex", "notes")
    await engine.store_bulk(scope, items(0, 300))
    await engine.store_bulk(other, items(0, 40, seed=7))
    assert await engine.snapshots.save()
    await engine.store_bulk(scope, items(250, 100, seed=3))
    for gone in (3.0, 260.0, 340.0):
        await engine.delete(scope, (gone,))
    before = await answers(engine, scope), await answers(engine, other), await engine.stats(None)
    engine, said = await restarted(open_engine, engine, caplog)
    assert LOADED in said
    assert BUILT not in said
    assert (await answers(engine, scope), await answers(engine, other)) == before[:2]
    after = await engine.stats(None)
    assert (after.total_memories, after.by_type, after.applied_seq, after.vector_count) == (
        before[2].total_memories,
        before[2].by_type,
        before[2].applied_seq,
        before[2].vector_count,
    )
    await engine.store_bulk(Scope("new", "notes"), items(0, 5))
    assert len((await engine.recall(Scope("new", "notes"), questions()[0])).hits) > 0


async def test_a_deleted_memory_does_not_return_from_an_older_snapshot(
    open_engine: Any, scope: Scope, caplog: Any
) -> None:
    engine: MemoryEngine = await open_engine(**settings())
    await engine.store_bulk(scope, items(0, 100))
    assert await engine.snapshots.save()
    for n in range(60):
        await engine.delete(scope, (float(n),))
    engine, said = await restarted(open_engine, engine, caplog)
    assert LOADED in said
    found = await engine.recall(scope, asked([1.0] * DIM, top_k=100))
    assert min(coordinates(found)) >= 60
    assert len(engine.follower.index) == 40


async def test_a_stop_saves_what_a_start_would_have_to_catch_up(open_engine: Any, scope: Scope, caplog: Any) -> None:
    engine: MemoryEngine = await open_engine(**settings())
    for start in range(0, 1200, 400):
        await engine.store_bulk(scope, items(start, 400))
    engine, said = await restarted(open_engine, engine, caplog)
    assert "1200 rows of the snapshot at seq 1200, 0 changes after it" in said


async def test_the_background_saves_by_itself(open_engine: Any, scope: Scope, tmp_path: Path) -> None:
    engine: MemoryEngine = await open_engine(**settings(index_snapshot_seconds=0.05))
    await engine.store_bulk(scope, items(0, 20))
    manifest = tmp_path / "data" / "index" / MANIFEST
    for _ in range(200):
        if manifest.exists():
            break
        await asyncio.sleep(0.05)
    assert manifest.exists()


async def test_a_small_index_is_not_saved_and_zero_seconds_means_never(
    open_engine: Any, scope: Scope, tmp_path: Path
) -> None:
    for rest in ({"index_snapshot_min_rows": 500}, {"index_snapshot_seconds": 0}):
        engine: MemoryEngine = await open_engine(
            **settings(data_dir=tmp_path / str(len(rest)) / next(iter(rest)), **rest)
        )
        await engine.store_bulk(scope, items(0, 300))
        await engine.close()
        assert not (engine.settings.data_dir / "index").exists()


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
async def test_a_flipped_byte_is_found_and_never_served(
    open_engine: Any, scope: Scope, caplog: Any, share: float
) -> None:
    engine: MemoryEngine = await open_engine(**settings())
    await engine.store_bulk(scope, items(0, 300))
    assert await engine.snapshots.save()
    before = await answers(engine, scope)
    await engine.close()
    (file,) = (engine.settings.data_dir / "index").glob("*.seg")
    raw = bytearray(file.read_bytes())
    raw[int(share * len(raw))] ^= 0x10
    file.write_bytes(raw)
    engine, said = await started(open_engine, caplog)
    if LOADED in said:
        # a byte of the vectors: those are checked when they are first read
        index = engine.follower.index
        with pytest.raises(Unavailable):
            await answers(engine, scope)
        assert index.damaged
        for _ in range(100):
            if (await engine.ready()).ready:
                break
            await asyncio.sleep(0.05)
    assert await answers(engine, scope) == before


async def test_a_torn_manifest_is_found(open_engine: Any, scope: Scope, caplog: Any) -> None:
    engine: MemoryEngine = await open_engine(**settings())
    await engine.store_bulk(scope, items(0, 100))
    assert await engine.snapshots.save()
    before = await answers(engine, scope)
    await engine.close()
    manifest = engine.settings.data_dir / "index" / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:-9])
    engine, said = await started(open_engine, caplog)
    assert "its manifest" in said
    assert BUILT in said
    assert await answers(engine, scope) == before


@pytest.mark.parametrize(
    "changed",
    [
        {"half_life": "9d"},
        {"half_life_by_type": {"fact": "1d"}},
        {"importance_exponent": 2.0},
        {"feature_weights": {"trust": 0.5}},
    ],
)
async def test_other_settings_build_the_index_anew(
    open_engine: Any, scope: Scope, caplog: Any, changed: dict[str, Any]
) -> None:
    engine: MemoryEngine = await open_engine(**settings())
    await engine.store_bulk(scope, items(0, 100))
    assert await engine.snapshots.save()
    engine, said = await restarted(open_engine, engine, caplog, **changed)
    assert BUILT in said
    assert "other scoring parameters" in said
    assert len(engine.follower.index) == 100


async def test_renamed_types_of_equal_half_lives_are_noticed(open_engine: Any, scope: Scope, caplog: Any) -> None:
    engine: MemoryEngine = await open_engine(**settings(half_life_by_type={"fact": "1d"}))
    await engine.store_bulk(scope, items(0, 100))
    assert await engine.snapshots.save()
    engine, said = await restarted(open_engine, engine, caplog, half_life_by_type={"plan": "1d"})
    assert "half_life_by_type names other types now" in said
    assert BUILT in said


async def test_rebuilt_importances_outdate_the_snapshot(open_engine: Any, scope: Scope, caplog: Any) -> None:
    engine: MemoryEngine = await open_engine(**settings())
    await engine.store_bulk(scope, items(0, 200))
    assert await engine.snapshots.save()
    await engine.importance.rebuild(scope.tenant)
    before = await answers(engine, scope)
    engine, said = await restarted(open_engine, engine, caplog)
    assert "stored importances or vectors were changed" in said
    assert await answers(engine, scope) == before
    assert await engine.snapshots.save()
    engine, said = await restarted(open_engine, engine, caplog)
    assert LOADED in said
    assert await answers(engine, scope) == before


async def test_a_snapshot_of_another_history_is_not_used(
    open_engine: Any, scope: Scope, caplog: Any, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for directory, seed in ((ours, 1), (theirs, 50)):
        engine: MemoryEngine = await open_engine(**settings(data_dir=directory))
        await engine.store_bulk(scope, items(0, 100, seed=seed))
        assert await engine.snapshots.save()
        kept = await answers(engine, scope)
        await engine.close()
    (theirs / "index").rename(tmp_path / "away")
    (ours / "index").rename(theirs / "index")
    engine, said = await started(open_engine, caplog, data_dir=theirs)
    assert "another ledger" in said
    assert await answers(engine, scope) == kept


async def test_a_snapshot_ahead_of_a_restored_ledger_is_not_used(
    open_engine: Any, scope: Scope, caplog: Any, tmp_path: Path
) -> None:
    engine: MemoryEngine = await open_engine(**settings())
    await engine.store_bulk(scope, items(0, 50))
    await engine.close()
    ledger = engine.settings.data_dir / FILE_NAME
    backup = ledger.read_bytes()
    engine = await open_engine(**settings())
    await engine.store_bulk(scope, items(50, 50))
    assert await engine.snapshots.save()
    await engine.close()
    ledger.write_bytes(backup)
    engine, said = await started(open_engine, caplog)
    assert "ahead of the ledger" in said
    assert len(engine.follower.index) == 50


_WRITER = """
import asyncio, sys
import numpy as np
from memory_runtime.engine import build_engine
from memory_runtime.model import failpoints
from memory_runtime.model.records import Scope
from memory_runtime.settings import SMFSettings
from memory_runtime.tests.unit.test_index_snapshots import items, settings

async def main():
    values = settings(index_snapshot_seconds=0.05)
    clock = values.pop("clock")
    engine = build_engine(SMFSettings(data_dir=sys.argv[1], embedding_provider="hash", **values), clock=clock)
    await engine.start()
    failpoints.arm(sys.argv[3])
    scope = Scope("acme", "notes")
    turn = int(sys.argv[2])
    for step in range(10_000):
        await engine.store_bulk(scope, items(turn * 1000 + step * 5 % 900, 5, seed=step))
        gone = float(turn * 1000 + (step * 7) % 400)
        await engine.delete(scope, (gone,))
        print(engine.follower.applied_seq, flush=True)

asyncio.run(main())
"""


async def test_kill_9_at_any_moment_of_a_save_costs_nothing(
    open_engine: Any, scope: Scope, caplog: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for turn, trap in enumerate(
        ("mid-snapshot=kill@1", "mid-snapshot=kill@4", "mid-snapshot=kill@7", "post-commit=kill@90")
    ):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _WRITER, str(data), str(turn), trap],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
        acknowledged = int(done.stdout.split()[-1])
        engine, said = await started(open_engine, caplog)
        assert engine.follower.applied_seq >= acknowledged
        found = await answers(engine, scope)
        assert len(engine.follower.index) > 0
        await engine.close()
        (plain, said_plain) = await started(open_engine, caplog, index_snapshot_seconds=0)
        assert BUILT in said_plain
        assert await answers(plain, scope) == found
        await plain.close()
        if turn:
            assert LOADED in said
