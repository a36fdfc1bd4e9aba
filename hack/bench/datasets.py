"""Data for the recall benchmarks: real, clustered or random vectors with arrival times and importance, cached on disk.

`real` are embeddings of sentences (corpus.py), each row a sentence's vector jittered to a cosine of about 0.96 with
it; queries are sentences that are in no row. Times span 180 days: uniform, or bursty (80 % in the last week).
Importance is log-normal.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hack.bench.corpus import cache_directory, sentence_vectors

NOW = 1.7e9
DAY = 86400.0
SPAN_DAYS = 180.0
_JITTER = 0.3
_CENTRES = 2000
_BLOCK = 65_536
_HELD_OUT = 1000
_SEED = 20_261_121


class NoRoom(Exception):  # noqa: N818 -- reads as what it says
    """Too little disk; one sentence."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """float32 [n, dim] mapped from disk, float64 [n] times and importances, float32 [q, dim] queries; unit norms."""

    path: Path
    vectors: npt.NDArray[np.float32]
    times: npt.NDArray[np.float64]
    importance: npt.NDArray[np.float64]
    queries: npt.NDArray[np.float32]


def _unit(rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _real(dim: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    vectors = sentence_vectors()
    if dim > vectors.shape[1]:
        # Twice the model's dimension: a sentence beside the next one, as no larger model is at hand
        vectors = _unit(np.concatenate([vectors, np.roll(vectors, -1, axis=0)], axis=1))
    if vectors.shape[1] != dim:
        raise ValueError(f"--vectors real has 384 or 768 dimensions, not {dim}: use --vectors clustered")
    return vectors[:-_HELD_OUT], vectors[-_HELD_OUT:]


def _sources(kind: str, dim: int, rng: np.random.Generator) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any]]:
    if kind == "real":
        return _real(dim)
    if kind == "clustered":
        centres = _unit(rng.standard_normal((_CENTRES, dim), np.float32))
        queries = centres[rng.integers(_CENTRES, size=_HELD_OUT)]
        return centres, _unit(queries + 0.8 / np.sqrt(dim) * rng.standard_normal(queries.shape, np.float32))
    return None, _unit(rng.standard_normal((_HELD_OUT, dim), np.float32))


def _fill(vectors: npt.NDArray[np.float32], kind: str, base: npt.NDArray[Any] | None, rng: np.random.Generator) -> None:
    n, dim = vectors.shape
    noise = np.float32((_JITTER if kind == "real" else 0.8) / np.sqrt(dim))
    for start in range(0, n, _BLOCK):
        count = min(_BLOCK, n - start)
        block = rng.standard_normal((count, dim), np.float32)
        if base is not None:
            block = base[rng.integers(len(base), size=count)] + noise * block
        vectors[start : start + count] = _unit(block)


def dataset(rows: int, dim: int, arrivals: str, kind: str, importance: str) -> Dataset:
    """The data of one configuration, made on first use. Raises NoRoom."""
    where = cache_directory() / f"data-v1-{kind}-{rows}x{dim}"
    if not (where / "queries.npy").exists():
        _make(where, rows, dim, kind)
    rng = np.random.default_rng(_SEED + 1)
    ages = rng.random(rows) * SPAN_DAYS
    if arrivals == "bursty":
        recent = rng.random(rows) < 0.8
        ages[recent] = rng.random(int(recent.sum())) * 7.0
    weights = np.clip(np.exp(rng.normal(-1.5, 0.5, rows)), 0.0, 1.0)
    return Dataset(
        where,
        np.load(where / "vectors.npy", mmap_mode="r"),
        NOW - ages * DAY,
        np.ones(rows) if importance == "equal" else weights,
        np.load(where / "queries.npy"),
    )


def _make(where: Path, rows: int, dim: int, kind: str) -> None:
    where.mkdir(parents=True, exist_ok=True)
    needed = rows * dim * 4
    if shutil.disk_usage(where).free < needed * 1.2:
        size = f"{needed / 1e9:.1f} GB of vectors"
        raise NoRoom(f"{size} do not fit on the disk of {where.parent}: free some, or ask for fewer --rows")
    print(f"making {rows:,} {kind} vectors of {dim} dimensions (once)", file=sys.stderr)
    rng = np.random.default_rng(_SEED)
    base, queries = _sources(kind, dim, rng)
    unfinished = where / "vectors.unfinished.npy"
    vectors = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float32, shape=(rows, dim))
    _fill(vectors, kind, base, rng)
    vectors.flush()
    unfinished.rename(where / "vectors.npy")
    np.save(where / "queries.npy", queries)


def ids_of(start: int, end: int) -> npt.NDArray[np.uint64]:
    """uint64 [n, 2]: row numbers as ids."""
    ids = np.zeros((end - start, 2), np.uint64)
    ids[:, 1] = np.arange(start, end)
    return ids
