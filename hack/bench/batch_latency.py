"""`hack/bench/batch`: 1, 8 and 64 queries answered in one call, beside FAISS flat with the same batch."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hack.bench.corpus import NotAvailable
from hack.bench.datasets import NoRoom, dataset
from hack.bench.methods import K, build_exact, flat_index, weights_of
from hack.bench.recall_latency import half_life_of, rows_of
from memory_runtime.scoring import Partition

_REPEATS = 15


def _each(answer: Callable[[Any], Any], queries: Any, size: int) -> tuple[float, float]:
    """Median milliseconds a query when `size` are asked at once: wall time, and the processor's."""
    answer(queries[:size])
    times, worked = [], []
    for turn in range(_REPEATS):
        start_at = turn * size % max(1, len(queries) - size)
        start, cpu = time.perf_counter(), time.process_time()
        answer(queries[start_at : start_at + size])
        times.append((time.perf_counter() - start) / size)
        worked.append((time.process_time() - cpu) / size)
    return float(np.median(times)) * 1e3, float(np.median(worked)) * 1e3


def main() -> int:
    """Exit status 0; 2 for bad flags or no room."""
    parser = argparse.ArgumentParser(prog="hack/bench/batch", description=__doc__)
    parser.add_argument("--rows", type=rows_of, default=200_000)
    parser.add_argument("--dim", type=int, default=384, choices=(384, 768))
    parser.add_argument("--half-life-days", type=half_life_of, default=None)
    parser.add_argument("--vectors", choices=("real", "clustered", "random"), default="real")
    parser.add_argument("--importance", choices=("lognormal", "equal"), default="equal")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    try:
        data = dataset(options.rows, options.dim, "uniform", options.vectors, options.importance)
    except (NoRoom, ValueError) as why:
        print(f"hack/bench/batch: {why}", file=sys.stderr)
        return 2
    index = build_exact(data, options.half_life_days)
    methods: dict[str, Callable[[Any], Any]] = {
        "exact": lambda queries: index.search(queries, top_k=K, partition=Partition(0, 0))
    }
    try:
        flat = flat_index(data, weights_of(data, options.half_life_days))
        methods["faiss_flat"] = lambda queries: flat.search(queries, K)
    except NotAvailable as why:
        print(f"faiss_flat: {why}", file=sys.stderr)
    for method, answer in methods.items():
        for size in (1, 8, 64):
            wall, work = _each(answer, data.queries, size)
            result = {
                "rows": options.rows,
                "dim": options.dim,
                "half_life_days": options.half_life_days,
                "vectors": options.vectors,
                "method": method,
                "queries_at_once": size,
                "ms_each": round(wall, 4),
                "cpu_ms_each": round(work, 4),
            }
            print(json.dumps(result) if options.json else "  ".join(f"{k} {v}" for k, v in result.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
