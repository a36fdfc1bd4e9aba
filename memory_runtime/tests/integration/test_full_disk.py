"""A volume that fills up, has no inode left or turns read-only; a cgroup that runs out of memory (R19).

A clean refusal with the remedy, nothing half stored, then recovery.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hack.requirement import unavailable
from memory_runtime.engine import MemoryEngine, RecallRequest, build_engine
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.sqlite import following
from memory_runtime.tests.integration.conftest import Serve

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root"),
]


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 8 MiB."""
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(volume)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield volume
    subprocess.run(["umount", "-l", str(volume)], check=True)


def item(n: int) -> StoreItem:
    return StoreItem((float(n),), {"text": "x" * 50_000, "n": n}, vector=np.array([1, 0, n], np.float32))


async def test_a_full_volume_refuses_cleanly_and_recovers_when_space_returns(small_volume: Path, scope: Scope) -> None:
    ballast = small_volume / "ballast"
    ballast.write_bytes(b"\0" * 3 * 2**20)
    engine = build_engine(SMFSettings(data_dir=small_volume / "data", vector_dim=3, embedding_provider="hash"))
    await engine.start()
    try:
        acknowledged, refusal = await _fill(engine, scope)
        assert "full" in refusal.message
        assert "space" in str(refusal.remedy)
        hits = (await engine.recall(scope, RecallRequest(vector=np.array([1, 0, 1], np.float32), top_k=500))).hits
        assert {hit.record.payload["n"] for hit in hits} == acknowledged
        assert not any((await engine.ledger.read(lambda view: following.half_visible(view.connection))).values())
        assert (await engine.ready()).ledger, "a full volume is not damage"
        ballast.unlink()
        receipt = await engine.store(scope, item(10_000))
        assert receipt.created
    finally:
        await engine.close()
    engine = build_engine(SMFSettings(data_dir=small_volume / "data", vector_dim=3, embedding_provider="hash"))
    await engine.start()
    try:
        assert (await engine.stats(scope)).total_memories == len(acknowledged) + 1
    finally:
        await engine.close()


async def test_on_a_full_volume_an_index_is_built_and_a_start_says_that_it_is_full(
    small_volume: Path, scope: Scope
) -> None:
    settings = SMFSettings(data_dir=small_volume / "data", vector_dim=3, embedding_provider="hash")
    engine = build_engine(settings)
    await engine.start()
    ballast = small_volume / "ballast"
    try:
        await engine.store(scope, item(1))
        _fill_up(ballast)
        ledger: Any = engine.ledger
        with ledger.load(3) as found:
            assert sum(len(rows.ids) for rows in found.rows) == 1
        assert sum(len(rows.ids) for rows in ledger.scan(3)) == 1
        with pytest.raises(Unavailable, match="full"):
            await engine.store(scope, item(2))
        await engine.keyword_search(scope, "x")
        assert len((await engine.scan(scope)).memories) == 1
        assert not await engine.snapshots.save()
        assert (await engine.ready()).ledger
        assert not ledger.ailment
    finally:
        await engine.close()
    ballast.unlink()
    _fill_up(ballast)
    again = build_engine(settings)
    await again.start()
    assert (await again.stats(scope)).total_memories == 1
    ballast.unlink()
    await again.close()
    # closed with room, it has left no log: to start is to make one
    _fill_up(ballast)
    again = build_engine(settings)
    with pytest.raises((Unavailable, SettingsError)) as caught:
        await again.start()
    assert "space" in str(caught.value.remedy)
    assert "backup" not in str(caught.value.remedy)
    await again.close()
    ballast.unlink()
    engine = build_engine(settings)
    await engine.start()
    try:
        assert (await engine.stats(scope)).total_memories == 1
        assert (await engine.ready()).ledger
    finally:
        await engine.close()


def _fill_up(ballast: Path) -> None:
    """Takes every byte that is left."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


async def _fill(engine: MemoryEngine, scope: Scope) -> tuple[set[int], Unavailable]:
    acknowledged: set[int] = set()
    for n in range(1000):
        try:
            await engine.store(scope, item(n))
        except Unavailable as refusal:
            return acknowledged, refusal
        acknowledged.add(n)
    pytest.fail("the volume never filled up")


@pytest.fixture
def read_only_volume(small_volume: Path) -> Path:
    """The small volume, remounted read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_volume)], check=True)
    return small_volume


async def test_a_read_only_volume_is_refused_at_the_start_by_name(read_only_volume: Path) -> None:
    engine: Any = build_engine(SMFSettings(data_dir=read_only_volume / "data", vector_dim=3, embedding_provider="hash"))
    with pytest.raises(SettingsError, match="cannot write"):
        await engine.start()
    await engine.close()


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs with room for bytes, and for 32 files and folders."""
    volume = tmp_path / "few"
    volume.mkdir()
    options = "size=64m,nr_inodes=32"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(volume)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        unavailable(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield volume
    subprocess.run(["umount", "-l", str(volume)], check=True)


async def test_without_a_free_inode_stores_go_on_and_a_snapshot_is_put_off(few_inodes: Path, scope: Scope) -> None:
    settings = SMFSettings(data_dir=few_inodes / "data", vector_dim=3, embedding_provider="hash")
    engine = build_engine(settings)
    await engine.start()
    fillers: list[Path] = []
    try:
        await engine.store(scope, item(1))
        with contextlib.suppress(OSError):
            for number in range(64):
                fillers.append(few_inodes / f"filler-{number}")
                fillers[-1].touch()
        assert os.statvfs(few_inodes).f_ffree == 0
        for number in range(2, 6):
            await engine.store(scope, item(number))
        assert not await engine.snapshots.save()
        hits = (await engine.recall(scope, RecallRequest(vector=np.array([1, 0, 1], np.float32), top_k=50))).hits
        assert {hit.record.payload["n"] for hit in hits} == set(range(1, 6))
        assert (await engine.ready()).ledger
    finally:
        for path in fillers:
            path.unlink(missing_ok=True)
        await engine.close()
    engine = build_engine(settings)
    await engine.start()
    try:
        assert (await engine.stats(scope)).total_memories == 5
    finally:
        await engine.close()


@pytest.fixture
def small_cgroup(tmp_path: Path) -> Iterator[Path]:
    """A memory cgroup of this test alone, v1 or v2, without a limit yet."""
    name = f"soma-test-{os.getpid()}"
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        if (root / "cgroup.procs").exists():
            break
    group = root / name
    try:
        group.mkdir()
    except OSError as error:
        unavailable(f"no memory cgroup can be made here: {error.strerror}")
    yield group
    for _ in range(50):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


def _limit(group: Path, process: int, most: int) -> None:
    """Puts the process into the group, where it may take so many bytes more: what it holds is counted elsewhere."""
    for name in ("memory.limit_in_bytes", "memory.max"):
        if (group / name).exists():
            (group / name).write_text(str(most))
    for name in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
        with contextlib.suppress(OSError):
            (group / name).write_text(str(most) if name.startswith("memory.memsw") else "0")
    (group / "cgroup.procs").write_text(str(process))


def test_a_server_that_its_cgroup_kills_for_memory_has_lost_nothing(serve: Serve, small_cgroup: Path) -> None:
    server = serve(SOMA_VECTOR_DIM="384")
    _limit(small_cgroup, server.process.pid, 48 * 2**20)
    dice, acknowledged = np.random.default_rng(1), 0
    with server.client(tenant="acme") as http:
        for bulk in range(400):
            items = [
                {
                    "coord": f"{bulk},{number}",
                    "payload": {"text": "x" * 200},
                    "vector": dice.standard_normal(384, dtype=np.float32).tolist(),
                }
                for number in range(250)
            ]
            try:
                answer = http.post("/store_bulk", json={"items": items})
            except httpx.HTTPError:
                break
            assert answer.status_code == 200, answer.text
            acknowledged += len(items)
    assert server.process.wait(30) == -signal.SIGKILL, "the kernel did not end it"
    assert acknowledged
    again = serve(SOMA_VECTOR_DIM="384")
    with again.client(tenant="acme") as http:
        assert http.get("/stats").json()["total_memories"] in {acknowledged, acknowledged + 250}
    assert again.stop() == 0
