"""`hack/bench/ingest`: rows inserted, updated, deleted and merged a second by the index alone, and its memory a row."""

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

    def write(count: int) -> None:
        for start in range(0, count, options.batch):
            rows = slice(start, min(count, start + options.batch))
            columns = {"event_time": data.times[rows], "importance": data.importance[rows]}
            index.upsert(index.batch(ids_of(rows.start, rows.stop), data.vectors[rows], **columns))
            index.maintain()

    def one_by_one() -> None:
        for row in range(1000):
            columns = {"event_time": data.times[row], "importance": data.importance[row]}
            index.upsert(index.batch(ids_of(row, row + 1), data.vectors[row : row + 1], **columns))

    steps: list[tuple[str, int, Callable[[], object]]] = [
        ("insert", n, lambda: write(n)),
        ("update", n // 4, lambda: write(n // 4)),
        ("update one by one", 1000, one_by_one),
        ("delete", n // 10, lambda: index.delete(ids_of(0, n // 10))),
        ("merge all", n - n // 10, index.compact),
    ]
    for name, count, act in steps:
        start, cpu = time.perf_counter(), time.process_time()
        act()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        result = {
            "operation": name,
            "rows": count,
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
