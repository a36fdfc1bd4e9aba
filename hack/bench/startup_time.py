"""`hack/bench/startup`: from a snapshot on disk to the first exact answer, in a new process."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hack.bench.corpus import cache_directory
from hack.bench.datasets import NOW, NoRoom, dataset
from hack.bench.methods import K, build_exact, params_of, resident_mib
from hack.bench.recall_latency import rows_of
from memory_runtime.scoring import ExactIndex, Partition


def child(directory: str, rows: int, dim: int) -> None:
    """Loads and answers: prints the times of both and the memory that is resident after."""
    queries = dataset(rows, dim, "uniform", "real", "lognormal").queries
    start = time.perf_counter()
    index, _ = ExactIndex.load(Path(directory), dim, params_of(30.0), clock=lambda: NOW)
    loaded = time.perf_counter()
    index.search(queries[0], top_k=K, partition=Partition(0, 0))
    first = time.perf_counter()
    memory = {f"{name}_mib": round(value) for name, value in resident_mib().items()}
    print(json.dumps({"load_s": round(loaded - start, 3), "first_answer_s": round(first - start, 3)} | memory))


def main() -> int:
    """Exit status 0; 2 for bad flags or no room."""
    parser = argparse.ArgumentParser(prog="hack/bench/startup", description=__doc__)
    parser.add_argument("--rows", type=rows_of, default=200_000)
    parser.add_argument("--dim", type=int, default=384, choices=(384, 768))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.rows, options.dim)
        return 0
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    try:
        data = dataset(options.rows, options.dim, "uniform", "real", "lognormal")
    except (NoRoom, ValueError) as why:
        print(f"hack/bench/startup: {why}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="snapshot-", dir=cache_directory()) as directory:
        index = build_exact(data, 30.0)
        start = time.perf_counter()
        index.save(Path(directory), 1)
        saved = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(directory).iterdir())
        del index
        command = [sys.executable, "-m", "hack.bench.startup_time", "--child", directory]
        command += ["--rows", str(options.rows), "--dim", str(options.dim)]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        whole = time.perf_counter() - started
    result = {"rows": options.rows, "dim": options.dim, "snapshot_bytes": size, "save_s": round(saved, 2)}
    result |= json.loads(done.stdout) | {"process_s": round(whole, 2)}
    print(json.dumps(result) if options.json else "  ".join(f"{k} {v}" for k, v in result.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
