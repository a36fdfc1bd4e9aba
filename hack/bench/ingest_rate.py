"""`hack/bench/ingest`: rows inserted, updated, deleted and merged a second by the index alone, in large calls and
one by one, on one thread, merges included; and its memory a row."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

from hack.bench.datasets import NOW, NoRoom, dataset, ids_of
from hack.bench.methods import params_of
from hack.bench.recall_latency import rows_of
from memory_runtime.scoring import ExactIndex

_ONE_BY_ONE = 5_000


def main() -> int:
    """Exit status 0; 2 for bad flags or no room."""
    parser = argparse.ArgumentParser(prog="hack/bench/ingest", description=__doc__)
    parser.add_argument("--rows", type=rows_of, default=200_000)
    parser.add_argument("--dim", type=int, default=384, choices=(384, 768))
    parser.add_argument("--batch", type=int, default=10_000, help="rows a call (default 10000)")
    parser.add_argument("--vectors", choices=("real", "clustered", "random"), default="real")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.batch < 1:
        parser.error(f"argument --batch: {options.batch} is not a number of rows: give at least 1")
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    try:
        data = dataset(options.rows, options.dim, "uniform", options.vectors, "lognormal")
    except (NoRoom, ValueError) as why:
        print(f"hack/bench/ingest: {why}", file=sys.stderr)
        return 2
    index = ExactIndex(options.dim, params_of(30.0), clock=lambda: NOW)
    n = options.rows
    few = min(n, _ONE_BY_ONE)

    def write(first: int, last: int, size: int) -> None:
        for start in range(first, last, size):
            rows = slice(start, min(last, start + size))
            columns = {"event_time": data.times[rows], "importance": data.importance[rows]}
            index.upsert(index.batch(ids_of(rows.start, rows.stop), data.vectors[rows], **columns))
            index.maintain()

    def remove(first: int, last: int, size: int) -> None:
        for start in range(first, last, size):
            index.delete(ids_of(start, min(last, start + size)))
            index.maintain()

    # Merges that fall due are part of every figure; what is left of them at the end is "merge all"
    batch, many = options.batch, n - 2 * few
    steps: list[tuple[str, int, int, Callable[[], object]]] = [
        ("insert", many, batch, lambda: write(0, many, batch)),
        ("insert", few, 64, lambda: write(many, many + few, 64)),
        ("insert", few, 1, lambda: write(many + few, n, 1)),
        ("update", n // 4, batch, lambda: write(0, n // 4, batch)),
        ("update", few, 1, lambda: write(0, few, 1)),
        ("delete", n // 10, batch, lambda: remove(0, n // 10, batch)),
        ("delete", few, 1, lambda: remove(n // 10, n // 10 + few, 1)),
        ("merge all", n - n // 10 - few, n, index.compact),
    ]
    for name, count, size, act in steps:
        start, cpu = time.perf_counter(), time.process_time()
        act()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        result = {
            "operation": name,
            "rows": count,
            "rows_a_call": size,
            "rows_per_second": round(count / wall),
            "rows_per_cpu_second": round(count / cpu) if cpu else None,
        }
        print(json.dumps(result) if options.json else "  ".join(f"{k} {v}" for k, v in result.items()), flush=True)
    stats = index.stats()
    memory = {"operation": "memory", "rows": stats.rows, "bytes_per_row": round(stats.resident_bytes / stats.rows)}
    print(json.dumps(memory) if options.json else "  ".join(f"{k} {v}" for k, v in memory.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
