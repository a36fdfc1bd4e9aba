"""One method of the recall benchmark, in a process of its own: builds, answers every query, prints one JSON object.

`exact` is ours (`exact_float16`: over rounded vectors, gate G4); `faiss_flat` is the honest exact peer (IndexFlatIP
over rows scaled by their weight); the others fetch the nearest vectors and re-score them, as mem0, LangChain's
retriever and vector databases do.
"""

from __future__ import annotations

import argparse
import atexit
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hack.bench.banded import banded
from hack.bench.corpus import NotAvailable, cache_directory
from hack.bench.datasets import DAY, NOW, Dataset, dataset, ids_of
from memory_runtime.scoring import ExactIndex, Partition, Profile, ScoringParams, codes

K = 10
_BLOCK = 65_536
# Above this many rows our vectors are mapped from disk, a million rows a segment
_MAPPED_FROM = 2_000_000
_HNSW_LINKS, _HNSW_BUILD = 16, 100
Answer = Callable[[npt.NDArray[np.float32]], list[int]]
METHODS = (
    "exact",
    "exact_float16",
    "faiss_flat",
    "rescore_60",
    "rescore_200",
    "hnsw_200",
    "qdrant_local_200",
    "qdrant_local_banded",
    "qdrant_server_banded",
)


def params_of(half_life_days: float | None, storage: Literal["float32", "float16"] = "float32") -> ScoringParams:
    """The benchmark's profile: alpha = 1, half-life in days or none."""
    half_life = None if half_life_days is None else half_life_days * DAY
    return ScoringParams(default=Profile(half_life=half_life), vector_storage=storage)


def weights_of(data: Dataset, half_life_days: float | None) -> npt.NDArray[np.float64]:
    """i·2^(-age/τ) of every row at NOW."""
    if half_life_days is None:
        return data.importance
    return np.asarray(data.importance * np.exp2(-(NOW - data.times) / (half_life_days * DAY)))


def build_exact(
    data: Dataset,
    half_life_days: float | None,
    spill: Path | None = None,
    storage: Literal["float32", "float16"] = "float32",
) -> ExactIndex:
    """Our index over the data, merged; with `spill`, a million rows a segment and vectors mapped from there."""
    n, dim = data.vectors.shape
    index = ExactIndex(dim, params_of(half_life_days, storage), clock=lambda: NOW)
    step = 1_000_000 if spill is not None else _BLOCK
    for start in range(0, n, step):
        end = min(n, start + step)
        rows = index.batch(
            ids_of(start, end),
            data.vectors[start:end],
            event_time=data.times[start:end],
            importance=data.importance[start:end],
        )
        index.upsert(rows)
        del rows
        if spill is not None:
            index.save(spill, end, map_back=True)
    if spill is None:
        index.compact()
    return index


def _spill_directory(data: Dataset) -> Path:
    """A directory for an index that is mapped from disk, removed when the process ends. Raises NotAvailable."""
    n, dim = data.vectors.shape
    needed = n * (dim * 4 + codes.stride_of(dim) + 256) * 1.1
    free = shutil.disk_usage(cache_directory()).free
    if free < needed:
        raise NotAvailable(
            f"an index of {n:,} rows takes {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} are free:"
            " free some, or ask for fewer --rows"
        )
    spill = Path(tempfile.mkdtemp(prefix="spill-", dir=cache_directory()))
    atexit.register(shutil.rmtree, spill, ignore_errors=True)
    return spill


def _exact(
    data: Dataset, half_life: float | None, storage: Literal["float32", "float16"] = "float32"
) -> tuple[Answer, Callable[[], float]]:
    spill = _spill_directory(data) if len(data.times) >= _MAPPED_FROM else None
    index = build_exact(data, half_life, spill, storage)
    home = Partition(0, 0)

    def answer(query: npt.NDArray[np.float32]) -> list[int]:
        return [row.uuid.int for row in index.search(query, top_k=K, partition=home)[0]]

    return answer, lambda: index.stats().fraction_scanned


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) * 1024


def flat_index(data: Dataset, weights: npt.NDArray[np.float64] | None) -> Any:
    """FAISS IndexFlatIP over the rows, scaled by their weights if given. Raises NotAvailable."""
    try:
        import faiss
    except ImportError:
        raise NotAvailable(
            "faiss is not installed: the peers come with the extra named bench (SOMA_LOCK=bench)"
        ) from None
    n, dim = data.vectors.shape
    needed, free = n * dim * 4, _available_bytes()
    if needed > 0.9 * free:
        raise NotAvailable(f"{n:,} rows take {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} are available")
    index = faiss.IndexFlatIP(dim)
    largest = 1.0 if weights is None else weights.max()
    for start in range(0, n, _BLOCK):
        block = np.array(data.vectors[start : start + _BLOCK])
        if weights is not None:
            block *= (weights[start : start + _BLOCK] / largest).astype(np.float32)[:, None]
        index.add(block)
    return index


def _flat(data: Dataset, half_life: float | None) -> Answer:
    index = flat_index(data, weights_of(data, half_life))
    return lambda query: [int(row) for row in index.search(query[None], K)[1][0]]


def _rescored(data: Dataset, half_life: float | None, nearest: Callable[[npt.NDArray[np.float32]], Any]) -> Answer:
    weights = weights_of(data, half_life)

    def answer(query: npt.NDArray[np.float32]) -> list[int]:
        rows, similarity = nearest(query)
        scores = np.maximum(similarity, 0) * weights[rows]
        return [int(row) for row in rows[np.argsort(-scores)[:K]]]

    return answer


def _similarity(data: Dataset, half_life: float | None, window: int) -> Answer:
    index = flat_index(data, None)

    def nearest(query: npt.NDArray[np.float32]) -> Any:
        similarity, rows = index.search(query[None], window)
        return rows[0], similarity[0]

    return _rescored(data, half_life, nearest)


def _hnsw(data: Dataset, half_life: float | None, window: int) -> Answer:
    try:
        import faiss
    except ImportError:
        raise NotAvailable(
            "faiss is not installed: the peers come with the extra named bench (SOMA_LOCK=bench)"
        ) from None
    n, dim = data.vectors.shape
    index = faiss.IndexHNSWFlat(dim, _HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _HNSW_BUILD
    index.hnsw.efSearch = max(window, 2 * K)
    for start in range(0, n, _BLOCK):
        index.add(np.array(data.vectors[start : start + _BLOCK]))

    def nearest(query: npt.NDArray[np.float32]) -> Any:
        similarity, rows = index.search(query[None], window)
        return rows[0], similarity[0]

    return _rescored(data, half_life, nearest)


def _qdrant(data: Dataset, half_life: float | None, window: int) -> Answer:
    try:
        from qdrant_client import QdrantClient, models
    except ImportError:
        raise NotAvailable("qdrant-client is not installed: the peers come with the extra named bench") from None
    n, dim = data.vectors.shape
    if n > 200_000:
        raise NotAvailable("qdrant-client's local mode is only measured up to 200k rows: it scans in NumPy")
    client = QdrantClient(":memory:")
    client.create_collection("b", vectors_config=models.VectorParams(size=dim, distance=models.Distance.COSINE))
    client.upload_collection("b", vectors=np.array(data.vectors), ids=range(n))

    def nearest(query: npt.NDArray[np.float32]) -> Any:
        points = client.query_points("b", query=query.tolist(), limit=window).points
        return np.array([point.id for point in points]), np.array([point.score for point in points])

    return _rescored(data, half_life, nearest)


def prepare(method: str, data: Dataset, half_life: float | None) -> tuple[Answer, Callable[[], float]]:
    """(answers a query with row numbers, fraction of rows read so far). Raises NotAvailable."""
    if method in ("exact", "exact_float16"):
        return _exact(data, half_life, "float16" if method == "exact_float16" else "float32")
    makers: dict[str, Callable[[], Answer]] = {
        "faiss_flat": lambda: _flat(data, half_life),
        "rescore_60": lambda: _similarity(data, half_life, 60),
        "rescore_200": lambda: _similarity(data, half_life, 200),
        "hnsw_200": lambda: _hnsw(data, half_life, 200),
        "qdrant_local_200": lambda: _qdrant(data, half_life, 200),
        "qdrant_local_banded": lambda: banded(data, weights_of(data, half_life)),
        "qdrant_server_banded": lambda: banded(data, weights_of(data, half_life), server=True),
    }
    return makers[method](), lambda: float("nan") if "hnsw" in method or "banded" in method else 1.0


def resident_mib() -> dict[str, float]:
    """Anonymous and mapped resident memory, and the peak, in MiB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    # Not getrusage: its peak is inherited from the process that started this one
    names = (("anonymous", "RssAnon"), ("mapped", "RssFile"), ("peak", "VmHWM"))
    return {name: int(fields[key].split()[0]) / 1024 for name, key in names}


def main() -> int:
    """Prints {answers, times, cpu, fraction, memory} or {unavailable}; times are wall seconds a query, cpu its work."""
    parser = argparse.ArgumentParser()
    for name in ("--method", "--arrivals", "--vectors", "--importance"):
        parser.add_argument(name, required=True)
    for name in ("--rows", "--dim", "--queries"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--half-life-days", type=float)
    options = parser.parse_args()
    data = dataset(options.rows, options.dim, options.arrivals, options.vectors, options.importance)
    try:
        answer, fraction = prepare(options.method, data, options.half_life_days)
    except NotAvailable as why:
        print(json.dumps({"unavailable": str(why)}))
        return 0
    queries = data.queries[: options.queries]
    for query in queries[:20]:
        answer(query)
    answers, times, worked = [], [], []
    for query in queries:
        start, cpu = time.perf_counter(), time.process_time()
        found = answer(query)
        worked.append(time.process_time() - cpu)
        times.append(time.perf_counter() - start)
        answers.append(found)
    result = {"answers": answers, "times": times, "cpu": worked, "fraction": fraction(), "memory": resident_mib()}
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
