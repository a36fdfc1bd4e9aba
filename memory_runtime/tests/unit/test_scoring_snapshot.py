"""Snapshots: what was saved comes back; what was damaged is found before it is served; a crash changes nothing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.scoring import ExactIndex, Partition, Profile, ScoringParams, SnapshotUnusable
from memory_runtime.scoring.basis import LEAST_ROWS

NOW = 1.7e9
HOME = Partition(0, 0)
DIM = 48
PARAMS = ScoringParams(default=Profile(half_life=86400.0))


def a_store(seed: int = 1, n: int = LEAST_ROWS + 1000) -> ExactIndex:
    rng = np.random.default_rng(seed)
    index = ExactIndex(DIM, PARAMS, clock=lambda: NOW)
    ids = np.zeros((n, 2), np.uint64)
    ids[:, 1] = np.arange(n)
    centres = rng.normal(size=(15, DIM))
    vectors = centres[rng.integers(15, size=n)] + 0.2 * rng.normal(size=(n, DIM))
    index.upsert(index.batch(ids, vectors, event_time=NOW - rng.random(n) * 1e6, importance=rng.random(n)))
    index.compact()
    index.upsert(index.batch(ids[:50], vectors[50:100], event_time=NOW))
    index.delete(ids[60:90])
    return index


def answers(index: ExactIndex) -> Any:
    queries = np.random.default_rng(5).normal(size=(8, DIM))
    return [[(r.id, r.score) for r in rows] for rows in index.search(queries, top_k=20, partition=HOME)]


def load(directory: Path, params: ScoringParams = PARAMS, dim: int = DIM) -> tuple[ExactIndex, int]:
    return ExactIndex.load(directory, dim, params, clock=lambda: NOW)


def test_a_restart_gives_the_same_answers_and_the_sequence(tmp_path: Path) -> None:
    index = a_store()
    before = answers(index)
    index.save(tmp_path, 1234)
    again, seq = load(tmp_path)
    assert seq == 1234
    assert len(again) == len(index)
    assert answers(again) == before == answers(index)
    assert again.stats().mapped_bytes > 0


def test_a_second_save_writes_only_what_is_new(tmp_path: Path) -> None:
    index = a_store()
    index.save(tmp_path, 1)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.seg")}
    index.upsert(index.batch([b"x" * 16], [np.ones(DIM)], event_time=NOW))
    index.save(tmp_path, 2)
    second = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.seg")}
    assert first.items() <= second.items()
    assert len(second) == len(first) + 1


def test_segments_that_were_merged_away_leave_the_directory(tmp_path: Path) -> None:
    index = a_store()
    index.save(tmp_path, 1)
    index.compact()
    index.save(tmp_path, 2)
    assert len(list(tmp_path.glob("*.seg"))) == 1
    assert answers(load(tmp_path)[0]) == answers(index)


@pytest.mark.parametrize("seed", range(60))
def test_a_flipped_bit_is_never_served(tmp_path: Path, seed: int) -> None:
    index = a_store()
    index.save(tmp_path, 1)
    rng = random.Random(seed)
    path = rng.choice(sorted(tmp_path.iterdir()))
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)
    try:
        served = answers(load(tmp_path)[0])
    except SnapshotUnusable:
        return
    # Bytes that no question touched, or padding: what is served is right
    assert served == answers(index)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_file_is_found(tmp_path: Path, share: float) -> None:
    index = a_store()
    index.save(tmp_path, 1)
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(SnapshotUnusable):
            answers(load(tmp_path)[0])
        path.write_bytes(whole)


def test_a_missing_file_or_directory_is_found(tmp_path: Path) -> None:
    with pytest.raises(SnapshotUnusable):
        load(tmp_path / "absent")
    a_store().save(tmp_path, 1)
    next(tmp_path.glob("*.seg")).unlink()
    with pytest.raises(SnapshotUnusable):
        load(tmp_path)


def test_an_unfinished_save_leaves_the_old_snapshot_whole(tmp_path: Path) -> None:
    index = a_store()
    index.save(tmp_path, 1)
    before = answers(index)
    # What a crash leaves: a new segment without a manifest that names it, and a half-written manifest
    (tmp_path / "segment-000099-feedfeedfeed.seg").write_bytes(b"half")
    (tmp_path / ".manifest.json.1.unfinished").write_text('{"crc32"')
    again, seq = load(tmp_path)
    assert (seq, answers(again)) == (1, before)


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    a_store().save(tmp_path, 1)
    with pytest.raises(SnapshotUnusable, match="parameters"):
        load(tmp_path, ScoringParams(default=Profile(half_life=3600.0)))
    with pytest.raises(SnapshotUnusable):
        load(tmp_path, dim=DIM + 1)


def test_a_manifest_that_lies_about_itself_is_refused(tmp_path: Path) -> None:
    a_store().save(tmp_path, 1)
    head, text = (tmp_path / "manifest.json").read_text().split("\n", 1)
    body = json.loads(text)
    body["seq"] = 999
    (tmp_path / "manifest.json").write_text(head + "\n" + json.dumps(body))
    with pytest.raises(SnapshotUnusable, match="damaged"):
        load(tmp_path)
