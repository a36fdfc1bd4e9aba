"""`hack/bench/recall`: latency and recall of the exact top ten beside peers, on the same data, a process each."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from hack.bench.datasets import NOW, Dataset, NoRoom, dataset, ids_of
from hack.bench.methods import METHODS, K, params_of, weights_of
from memory_runtime.scoring import Partition, RowBatch
from memory_runtime.scoring.oracle import brute_force

_BLOCK = 65_536
_MARGIN = 4 * K
KEYS = (
    "rows", "dim", "half_life_days", "arrivals", "vectors", "method", "p50_ms", "p95_ms", "recall_at_10",
    "fraction_scanned", "ratio_to_faiss_flat",
)  # fmt: skip


def truth(data: Dataset, half_life_days: float | None, count: int) -> list[list[int]]:
    """Row numbers of the true top ten: float64 products of every row (streamed), then the oracle on what is near."""
    weights = weights_of(data, half_life_days)
    queries = data.queries[:count].astype(np.float64)
    best_score = np.full((count, 0), 0.0)
    best_row = np.full((count, 0), 0)
    for start in range(0, len(weights), _BLOCK):
        block = np.asarray(data.vectors[start : start + _BLOCK], np.float64)
        scores = np.maximum(queries @ block.T, 0) * weights[start : start + len(block)]
        near = np.argpartition(-scores, min(_MARGIN, scores.shape[1] - 1), axis=1)[:, :_MARGIN]
        best_score = np.concatenate([best_score, np.take_along_axis(scores, near, 1)], axis=1)
        best_row = np.concatenate([best_row, near + start], axis=1)
        keep = np.argsort(-best_score, axis=1)[:, :_MARGIN]
        best_score, best_row = np.take_along_axis(best_score, keep, 1), np.take_along_axis(best_row, keep, 1)
    return [_exact_order(data, half_life_days, query, best_row[query]) for query in range(count)]


def _exact_order(data: Dataset, half_life_days: float | None, query: int, rows: Any) -> list[int]:
    rows = np.sort(rows)
    batch = RowBatch.of(
        np.concatenate([ids_of(int(row), int(row) + 1) for row in rows]),
        data.vectors[rows],
        dim=data.vectors.shape[1],
        event_time=data.times[rows],
        importance=data.importance[rows],
    )
    params = params_of(half_life_days)
    (found,) = brute_force(batch, data.queries[query], params=params, k=K, partition=Partition(0, 0), now=NOW)
    return [row.uuid.int for row in found]


def measure(options: argparse.Namespace, rows: int, dim: int, half_life: float | None, method: str) -> dict[str, Any]:
    """What a method's process printed."""
    command = [sys.executable, "-m", "hack.bench.methods", "--method", method, "--rows", str(rows), "--dim", str(dim)]
    command += ["--arrivals", options.arrivals, "--vectors", options.vectors, "--importance", options.importance]
    command += ["--queries", str(options.queries)]
    command += [] if half_life is None else ["--half-life-days", str(half_life)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"unavailable": (done.stderr.strip().splitlines() or ["it failed"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(options: argparse.Namespace, rows: int, dim: int, half_life: float | None) -> Iterator[dict[str, Any]]:
    """One result for each method of one configuration."""
    data = dataset(rows, dim, options.arrivals, options.vectors, options.importance)
    true = truth(data, half_life, options.queries)
    measured = {method: measure(options, rows, dim, half_life, method) for method in options.methods}
    flat = measured.get("faiss_flat", {}).get("times")
    for method, found in measured.items():
        if "unavailable" in found:
            print(f"{method}: {found['unavailable']}", file=sys.stderr)
            continue
        recall = np.mean(
            [len({*mine} & {*best}) / len(best) for mine, best in zip(found["answers"], true, strict=True)]
        )
        p50, p95 = (float(np.quantile(found["times"], q)) * 1e3 for q in (0.5, 0.95))
        identical = found["answers"] == true
        print(_aside(method, found, identical=identical), file=sys.stderr, flush=True)
        yield {
            "rows": rows,
            "dim": dim,
            "half_life_days": half_life,
            "arrivals": options.arrivals,
            "vectors": options.vectors,
            "method": method,
            "p50_ms": round(p50, 4),
            "p95_ms": round(p95, 4),
            "recall_at_10": round(float(recall), 4),
            "fraction_scanned": None if math.isnan(found["fraction"]) else round(found["fraction"], 5),
            "ratio_to_faiss_flat": round(float(np.median(flat)) * 1e3 / p50, 2) if flat else None,
        }


def _aside(method: str, found: dict[str, Any], *, identical: bool) -> str:
    """What a machine that is busy with other things does not distort, for a person: work, identity, memory."""
    memory = ", ".join(f"{name} {value:,.0f} MiB" for name, value in found["memory"].items())
    work = " / ".join(f"{float(np.quantile(found['cpu'], q)) * 1e3:.3f}" for q in (0.5, 0.95))
    ids = "identical ids to the oracle" if identical else "other ids"
    return f"{method}: {ids}; CPU {work} ms a query (p50 / p95); memory: {memory}"


def rows_of(text: str) -> int:
    """A number of rows from 200000, 200k or 1M. Raises ArgumentTypeError."""
    scale = {"k": 1000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    number = float(text[:-1] if scale > 1 else text) * scale
    if number < 1000 or number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r}: rows are a number of at least 1000, as 200000, 200k or 1M")
    return int(number)


def half_life_of(text: str) -> float | None:
    """A half-life in days, or None for none. Raises ArgumentTypeError."""
    if text == "none":
        return None
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not (math.isfinite(days) and days > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: a half-life is a positive number of days, or none")
    return days


def _methods(text: str) -> list[str]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown method {unknown[0]!r}: choose from {', '.join(METHODS)}")
    return chosen


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: from 1 to 1000")
    return int(text)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The checked flags; a bad one ends with exit status 2 and says which."""
    parser = argparse.ArgumentParser(prog="hack/bench/recall", description=__doc__)
    parser.add_argument("--rows", type=rows_of, nargs="+", default=[200_000], help="for example 200k 1M (default 200k)")
    parser.add_argument("--dim", type=int, nargs="+", default=[384], choices=(384, 768))
    parser.add_argument(
        "--half-life-days", type=half_life_of, nargs="+", default=[30.0], help="days, or none (default 30)"
    )
    parser.add_argument("--arrivals", choices=("uniform", "bursty"), default="uniform")
    parser.add_argument("--vectors", choices=("real", "clustered", "random"), default="real")
    parser.add_argument("--importance", choices=("lognormal", "equal"), default="lognormal")
    parser.add_argument("--methods", type=_methods, default=["exact", "faiss_flat"], help=", ".join(METHODS))
    parser.add_argument("--queries", type=_count, default=200)
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument(
        "--plot", metavar="FILE", help="latency against half-life, and recall lost by re-scoring, as a picture"
    )
    return parser.parse_args(arguments)


def _row(values: list[str]) -> str:
    return "".join(value.rjust(13 if number != 5 else 18) for number, value in enumerate(values))


def main() -> int:
    """Exit status 0; 2 for bad flags or no room."""
    options = options_of()
    load = os.getloadavg()
    print(
        f"load average at the start: {load[0]:.1f} on {os.cpu_count()} cores; importance {options.importance}",
        file=sys.stderr,
    )
    if not options.json:
        print(
            _row(
                [
                    key.replace("_", " ").replace("ratio to faiss flat", "x faiss flat").replace("fraction ", "")
                    for key in KEYS
                ]
            )
        )
    results = []
    try:
        for rows in options.rows:
            for dim in options.dim:
                for half_life in options.half_life_days:
                    for result in compare(options, rows, dim, half_life):
                        results.append(result)
                        print(
                            json.dumps(result) if options.json else _row([str(result[key]) for key in KEYS]), flush=True
                        )
    except (NoRoom, ValueError) as why:
        print(f"hack/bench/recall: {why}", file=sys.stderr)
        return 2
    if options.plot:
        from hack.bench.plotting import plot

        plot(results, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
