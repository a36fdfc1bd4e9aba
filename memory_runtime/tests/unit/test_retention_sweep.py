"""Retention on a real ledger: what goes, what never goes, archives before purges, crashes in between, restores."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.engine.retention import Bounds
from memory_runtime.model.errors import Conflict, InvalidArgument, NotFound, Unavailable, Unprocessable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.stores.sqlite import following

DAY = 86400.0
SMALL = {"vector_dim": 4, "embedding_provider": "client", "retention_interval_seconds": 3600.0}


class Clock:
    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def item(at: float, importance: float | None = None, **rest: Any) -> StoreItem:
    vector = np.array([1.0, at / 100, 0.5, 0.25], np.float32)
    return StoreItem((at,), {"text": f"memory {at:g}"}, vector=vector, importance=importance, **rest)


async def filled(open_engine: Any, scope: Scope, count: int = 10, **settings: Any) -> MemoryEngine:
    engine: MemoryEngine = await open_engine(**(SMALL | {"clock": Clock()} | settings))
    await engine.store_bulk(scope, [item(n, importance=float(n)) for n in range(1, count + 1)])
    return engine


async def alive(engine: MemoryEngine, scope: Scope) -> list[float]:
    return sorted(one.coordinate[0] for one in (await engine.scan(scope, limit=1000)).memories)


async def test_nothing_is_forgotten_until_it_is_enabled(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, retention_max_rows=3, retention_ttl="1s", retention_interval_seconds=0.01)
    engine.clock.now += DAY
    await asyncio.sleep(0.2)
    assert len(await alive(engine, scope)) == 10
    with pytest.raises(Unprocessable) as refused:
        await engine.retention.sweep()
    assert refused.value.field == "retention_enabled"
    assert refused.value.remedy
    assert any("retention_max_rows" in note for note in engine.notes)


async def test_the_plan_lists_exactly_what_a_sweep_then_takes(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, retention_max_rows=6, retention_enabled=True)
    plan = await engine.retention.plan(scope)
    assert plan.leaving == {"rows": 4}
    assert [one.score for one in plan.listed] == sorted(one.score for one in plan.listed)
    assert await alive(engine, scope) == list(range(1, 11))
    swept = await engine.retention.sweep()
    assert swept.evicted == 4
    gone = {one.record.coordinate[0] for one in plan.listed}
    assert set(await alive(engine, scope)) == set(range(1, 11)) - gone
    assert (await engine.stats(scope)).total_memories == 6
    assert all(hit.record.coordinate[0] not in gone for hit in (await _recall(engine, scope)).hits)


async def _recall(engine: MemoryEngine, scope: Scope) -> Any:
    return await engine.recall(scope, RecallRequest(vector=np.ones(4, np.float32), top_k=100))


async def test_a_plan_under_other_bounds_shows_what_they_would_do(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope)
    assert (await engine.retention.plan(scope)).leaving == {}
    plan = await engine.retention.plan(scope, bounds=Bounds(max_bytes=2000), limit=2)
    assert not plan.enabled
    assert plan.leaving["bytes"] > 2
    assert len(plan.listed) == 2
    assert plan.extent.bytes - plan.leaving_bytes <= 2000


async def test_pinned_and_held_memories_never_go(open_engine: Any, scope: Scope) -> None:
    clock = Clock()
    engine: MemoryEngine = await open_engine(**SMALL, clock=clock, retention_enabled=True, retention_ttl="1d")
    await engine.store_bulk(scope, [item(1, pinned=True), item(2, hold=True), item(3), item(4, ttl=90 * DAY)])
    clock.now += 30 * DAY
    assert (await engine.retention.sweep()).evicted == 1
    assert await alive(engine, scope) == [1.0, 2.0, 4.0]
    assert (await engine.retention.plan(scope, bounds=Bounds(max_rows=1))).leaving == {"rows": 1}


async def test_each_namespace_has_its_own_budget(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, retention_max_rows=6, retention_enabled=True)
    other = Scope("acme", "other")
    await engine.store_bulk(other, [item(n) for n in range(5)])
    await engine.retention.sweep()
    assert (len(await alive(engine, scope)), len(await alive(engine, other))) == (6, 5)
    assert engine.retention.archives.listed(other) == []


async def test_a_restored_memory_is_what_it_was(open_engine: Any, scope: Scope) -> None:
    settings = {"feature_weights": {"trust": 0.5}, "retention_max_rows": 6, "retention_enabled": True}
    engine = await filled(open_engine, scope, **settings)
    features = {"trust": 0.25}
    await engine.store(scope, item(0.125, importance=-3.0, features=features, timestamp=123456.75))
    await engine.link(scope, (0.125,), (10.0,), link_type="cause", weight=0.5, metadata={"a": [1]})
    clock: Any = engine.clock
    clock.now += DAY
    before = {one.coordinate[0]: one for one in (await engine.scan(scope, limit=1000)).memories}
    asked = RecallRequest(vector=np.ones(4, np.float32), top_k=100)
    order = [(hit.record.coordinate, hit.score) for hit in (await engine.recall(scope, asked)).hits]
    swept = await engine.retention.sweep()
    assert 0.125 not in await alive(engine, scope)
    assert await engine.neighbors(scope, (0.125,)) == []
    clock.now += DAY
    restored = [await engine.retention.restore(scope, name) for name in swept.archives]
    assert sum(one.restored for one in restored) == swept.evicted == 5
    assert sum(one.links for one in restored) == 1
    again = await engine.retention.restore(scope, swept.archives[0])
    assert (again.restored, again.present) == (0, restored[0].restored)
    for record in (await engine.scan(scope, limit=1000)).memories:
        old = before[record.coordinate[0]]
        for name in ("importance", "importance_norm", "normaliser_version", "event_time", "ingest_time"):
            assert getattr(record, name) == getattr(old, name), name
        assert (record.features, record.payload, record.id) == (old.features, old.payload, old.id)
        assert record.vector.tobytes() == old.vector.tobytes()
        assert record.model_revision == old.model_revision
        if record.coordinate[0] <= 5:
            assert (record.access_time, record.access_count) == (old.access_time, old.access_count)
    assert [(hit.record.coordinate, hit.score) for hit in (await engine.recall(scope, asked)).hits] == order
    assert (await engine.neighbors(scope, (0.125,)))[0].edge.metadata == {"a": [1]}
    assert all(
        count == 0
        for count in (await engine.ledger.read(lambda view: following.half_visible(view.connection))).values()
    )


async def test_a_memory_restored_with_pin_is_not_forgotten_again(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, retention_max_rows=9, retention_enabled=True)
    (name,) = (await engine.retention.sweep()).archives
    gone = set(range(1, 11)) - set(await alive(engine, scope))
    await engine.retention.restore(scope, name, pin=True)
    await engine.retention.sweep()
    assert gone <= set(await alive(engine, scope))


async def test_an_archive_is_compressed_json_lines_with_a_checksum(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, retention_max_rows=8, retention_enabled=True)
    await engine.retention.sweep()
    (path,) = engine.retention.archives.directory.glob("*/*.gz")
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [one["kind"] for one in lines] == ["archive", "memory", "memory", "end"]
    assert (lines[0]["tenant"], lines[0]["namespace"], lines[-1]["count"]) == ("acme", "notes", 2)


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "text", "bits"])
async def test_a_damaged_archive_is_refused_whole(open_engine: Any, scope: Scope, harm: str) -> None:
    engine = await filled(open_engine, scope, retention_max_rows=8, retention_enabled=True)
    (name,) = (await engine.retention.sweep()).archives
    (path,) = engine.retention.archives.directory.glob("*/*.gz")
    data = gzip.decompress(path.read_bytes())
    harmed = {
        "flip": gzip.compress(data.replace(b"memory 1", b"memory 9", 1)),
        "cut": path.read_bytes()[:-20],
        "empty": b"",
        "text": b"not gzip",
        "bits": path.read_bytes()[:12] + b"\xff" * 8 + path.read_bytes()[20:],  # an invalid block, before any checksum
    }
    path.write_bytes(harmed[harm])
    with pytest.raises(Conflict) as refused:
        await engine.retention.restore(scope, name)
    assert (refused.value.field, bool(refused.value.remedy)) == ("archive", True)
    assert len(await alive(engine, scope)) == 8
    assert engine.retention.archives.listed(scope)[0].memories == -1


@pytest.mark.parametrize("name", ["../../ledger.sqlite3", "archive-x.jsonl.gz", "archive-" + "0" * 32 + ".jsonl.gz"])
async def test_an_archive_that_is_not_there_is_refused_by_name(open_engine: Any, scope: Scope, name: str) -> None:
    engine = await filled(open_engine, scope, 1)
    with pytest.raises(NotFound) as refused:
        await engine.retention.restore(scope, name)
    assert refused.value.field == "archive"


async def test_another_scope_cannot_restore_an_archive(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, retention_max_rows=8, retention_enabled=True)
    (name,) = (await engine.retention.sweep()).archives
    with pytest.raises(NotFound):
        await engine.retention.restore(Scope("rival", "notes"), name)


async def test_nothing_is_purged_that_cannot_be_archived(open_engine: Any, scope: Scope, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    engine = await filled(
        open_engine, scope, retention_max_rows=3, retention_enabled=True, retention_archive_dir=blocked
    )
    with pytest.raises(Unavailable) as refused:
        await engine.retention.sweep()
    assert refused.value.field == "retention_archive_dir"
    assert len(await alive(engine, scope)) == 10


async def test_a_memory_stored_again_after_it_was_archived_stays(open_engine: Any, scope: Scope) -> None:
    engine = await filled(open_engine, scope, retention_max_rows=7, retention_enabled=True)
    doomed = [one.record.coordinate[0] for one in (await engine.retention.plan(scope)).listed]
    write = engine.retention.archives.write

    def write_and_lose_the_race(*arguments: Any) -> Any:
        archive = write(*arguments)
        loop.call_soon_threadsafe(raced.set)
        asyncio.run_coroutine_threadsafe(engine.store(scope, item(doomed[0], importance=50.0)), loop).result(5)
        return archive

    loop, raced = asyncio.get_running_loop(), asyncio.Event()
    engine.retention.archives.write = write_and_lose_the_race  # type: ignore[method-assign]
    assert (await engine.retention.sweep()).evicted == 2
    assert raced.is_set()
    assert doomed[0] in await alive(engine, scope)


async def test_closing_stops_a_sweep_between_batches(open_engine: Any, scope: Scope, monkeypatch: Any) -> None:
    monkeypatch.setattr("memory_runtime.engine.retention.BATCH", 1)
    engine = await filled(open_engine, scope, 60, retention_max_rows=10, retention_enabled=True, retention_round_rows=1)
    sweeping = asyncio.create_task(engine.retention.sweep())
    for _ in range(500):
        if engine.retention.archives.listed(scope):
            break
        await asyncio.sleep(0.01)
    await engine.close()
    swept = await sweeping
    assert swept.interrupted
    assert 0 < swept.evicted < 50
    engine = await open_engine(**SMALL)
    assert len(await alive(engine, scope)) == 60 - swept.evicted


async def test_the_sweep_runs_by_itself_and_is_counted_and_audited(open_engine: Any, scope: Scope) -> None:
    engine = await filled(
        open_engine, scope, retention_max_rows=6, retention_enabled=True, retention_interval_seconds=0.02
    )
    value = engine.metrics.registry.get_sample_value
    for _ in range(200):
        if value("soma_memory_eviction_count_total", {"reason": "rows"}):
            break
        await asyncio.sleep(0.02)
    assert value("soma_memory_eviction_count_total", {"reason": "rows"}) == 4
    assert value("soma_memory_archive_bytes") > 100
    lines = await engine.ledger.read(
        lambda view: view.connection.execute("SELECT action, detail FROM audit ORDER BY number").fetchall()
    )
    assert lines[-1][0] == "retention.purge"
    assert json.loads(lines[-1][1])["purged"] == 4


CRASH = """
import asyncio, os, signal, sys
from pathlib import Path
import numpy as np
from memory_runtime.engine import build_engine
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.sqlite import retaining

async def main():
    engine = build_engine(SMFSettings(data_dir=Path(sys.argv[1]), embedding_provider="client", vector_dim=4,
        retention_enabled=True, retention_max_rows=4, retention_interval_seconds=3600.0))
    await engine.start()
    items = [StoreItem((float(n),), {"n": n}, vector=np.ones(4, np.float32), importance=float(n)) for n in range(10)]
    await engine.store_bulk(Scope("acme", "notes"), items)
    # the failpoint: the archive is durable, the purge has not begun
    retaining.purge = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    await engine.retention.sweep()

asyncio.run(main())
"""


async def test_a_crash_between_archive_and_purge_leaves_one_archive_after_the_next_sweep(
    open_engine: Any, scope: Scope, tmp_path: Path
) -> None:
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CRASH, str(tmp_path / "data")], check=False, timeout=60
    )
    assert ran.returncode == -signal.SIGKILL
    engine: MemoryEngine = await open_engine(**SMALL, retention_enabled=True, retention_max_rows=4)
    assert len(await alive(engine, scope)) == 10
    (crashed,) = engine.retention.archives.listed(scope)
    swept = await engine.retention.sweep()
    assert (swept.evicted, swept.archives) == (6, (crashed.name,))
    assert [one.name for one in engine.retention.archives.listed(scope)] == [crashed.name]
    assert (await engine.retention.sweep()).evicted == 0
    assert (await engine.retention.restore(scope, crashed.name)).restored == 6
    assert len(await alive(engine, scope)) == 10


@pytest.mark.parametrize("bounds", [{"ttl": 0.0}, {"ttl": -1.0}, {"max_rows": -1}, {"max_bytes": -5}])
def test_a_bound_that_is_none_is_refused_by_name(bounds: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Bounds(**bounds)
    assert refused.value.field in bounds
