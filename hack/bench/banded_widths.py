"""`hack/bench/banded`: what the width of a band costs and loses: recall, latency, bands and requests of each query."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from hack.bench.banded import build
from hack.bench.corpus import NotAvailable
from hack.bench.datasets import NoRoom, dataset
from hack.bench.methods import K, weights_of
from hack.bench.recall_latency import half_life_of, rows_of, truth

KEYS = (
    "rows", "dim", "half_life_days", "engine", "width", "bands", "bands_asked", "requests", "p50_ms", "p95_ms",
    "recall_at_10",
)  # fmt: skip


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The checked flags; a bad one ends with exit status 2 and says which."""
    parser = argparse.ArgumentParser(prog="hack/bench/banded", description=__doc__)
    parser.add_argument("--rows", type=rows_of, default=20_000, help="for example 20k (default), at most 200k locally")
    parser.add_argument("--dim", type=int, default=384, choices=(384, 768))
    parser.add_argument("--half-life-days", type=half_life_of, default=30.0, help="days, or none (default 30)")
    parser.add_argument("--vectors", choices=("real", "clustered", "random"), default="clustered")
    parser.add_argument("--arrivals", choices=("uniform", "bursty"), default="uniform")
    parser.add_argument("--widths", type=_width, nargs="+", default=[0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--queries", type=int, default=50, choices=range(1, 1001), metavar="1..1000")
    parser.add_argument("--engine", choices=("local", "server"), default="local", help="server: SOMA_TEST_QDRANT_URL")
    parser.add_argument("--json", action="store_true", help="one object a line")
    return parser.parse_args(arguments)


def _width(text: str) -> float:
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 0 < width <= 16:
        raise argparse.ArgumentTypeError(f"{text!r}: a width is above 0 and at most 16 doublings")
    return width


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One result for each width. Raises NotAvailable, NoRoom."""
    data = dataset(options.rows, options.dim, options.arrivals, options.vectors, "lognormal")
    weights = weights_of(data, options.half_life_days)
    true = truth(data, options.half_life_days, options.queries)
    for width in options.widths:
        made = build(data, weights, width, server=options.engine == "server")
        times, recall = [], []
        for number in range(options.queries):
            began = time.perf_counter()
            found = made.answer(data.queries[number], K)
            times.append((time.perf_counter() - began) * 1e3)
            recall.append(len({*found} & {*true[number]}) / len(true[number]))
        yield {
            "rows": options.rows,
            "dim": options.dim,
            "half_life_days": options.half_life_days,
            "engine": options.engine,
            "width": width,
            "bands": made.bands,
            "bands_asked": round(made.searched / options.queries, 2),
            "requests": round(made.requests / options.queries, 2),
            "p50_ms": round(float(np.quantile(times, 0.5)), 3),
            "p95_ms": round(float(np.quantile(times, 0.95)), 3),
            "recall_at_10": round(float(np.mean(recall)), 4),
        }
        made.close()


def main() -> int:
    """Exit status 0; 2 where it cannot be measured."""
    options = options_of()
    print(f"load average at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    if not options.json:
        print("".join(key.replace("_", " ").rjust(15) for key in KEYS))
    try:
        for result in measure(options):
            line = "".join(str(result[key]).rjust(15) for key in KEYS)
            print(json.dumps(result) if options.json else line, flush=True)
    except (NotAvailable, NoRoom, ValueError) as why:
        print(f"hack/bench/banded: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
