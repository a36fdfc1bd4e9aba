"""A volume that fills up, or turns read-only: a clean refusal with the remedy, nothing half stored, then recovery."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest, build_engine
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.sqlite import following

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
        assert not any((await engine.ledger.read(following.half_visible)).values())
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
