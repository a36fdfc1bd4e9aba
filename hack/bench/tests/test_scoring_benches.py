"""The benchmarks of the index: flags and keys as they are promised, ours exact, bad flags refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hack.bench.recall_latency import KEYS, options_of


def run(tmp_path: Path, module: str, *flags: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", f"hack.bench.{module}", *flags, "--json"],
        env={**os.environ, "SOMA_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_recall_reports_every_method_and_half_life_exactly(tmp_path: Path) -> None:
    flags = "--rows 6000 --vectors random --half-life-days none 7 --methods exact,exact_float16 --queries 5"
    found = run(tmp_path, "recall_latency", *flags.split(), "--arrivals", "bursty")
    assert [tuple(one) for one in found] == [KEYS] * 4
    assert [(one["half_life_days"], one["method"]) for one in found] == [
        (None, "exact"),
        (None, "exact_float16"),
        (7.0, "exact"),
        (7.0, "exact_float16"),
    ]
    ours = [one for one in found if one["method"] == "exact"]
    assert [one["recall_at_10"] for one in ours] == [1.0, 1.0]
    assert ours[1]["fraction_scanned"] < 1.0
    assert all(0 < one["p50_ms"] <= one["p95_ms"] for one in found)


def test_ingest_reports_large_calls_and_single_ones(tmp_path: Path) -> None:
    found = run(tmp_path, "ingest_rate", "--rows", "20000", "--vectors", "random", "--batch", "5000")
    done = {(one["operation"], one.get("rows_a_call")) for one in found}
    assert {("insert", 5000), ("insert", 64), ("insert", 1), ("update", 5000), ("delete", 1)} <= done
    assert all(one["rows_per_second"] > 0 for one in found[:-1])
    assert found[-1]["operation"] == "memory"
    assert 0 < found[-1]["bytes_per_row"] < 4096


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--rows 10", "--rows"),
        ("--half-life-days -1", "--half-life-days"),
        ("--half-life-days soon", "--half-life-days"),
        ("--methods exact,psychic", "psychic"),
        ("--arrivals never", "--arrivals"),
        ("--vectors imaginary", "--vectors"),
        ("--queries 0", "--queries"),
        ("--dim 17", "--dim"),
    ],
)
def test_a_bad_flag_is_named_and_ends_with_2(capsys: pytest.CaptureFixture[str], flags: str, said: str) -> None:
    with pytest.raises(SystemExit) as left:
        options_of(flags.split())
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_the_defaults_are_the_promised_ones() -> None:
    options = options_of([])
    assert (options.vectors, options.methods, options.arrivals) == ("real", ["exact", "faiss_flat"], "uniform")
