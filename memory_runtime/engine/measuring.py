"""What the gates are told about the running engine: latency, memory, recent answers; and replays under other rules."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from memory_runtime.engine.following import Follower
from memory_runtime.engine.sampling import Asked, Sampling
from memory_runtime.model.errors import Unavailable
from memory_runtime.scoring import ExactIndex, ScoredRow, ScoringParams, Unset
from memory_runtime.scoring.census import importance, sample
from memory_runtime.scoring.gates import Effect, Measured, compare, quantile_of, ties
from memory_runtime.telemetry.metrics import Metrics

REPLAYED: Final = 64
TRIED_ROWS: Final = 50_000
"""Rows that a dry run builds its two indexes from: at 384 dimensions about 200 MB while it lasts."""
CGROUP_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def p95(metrics: Metrics) -> float | None:
    """The 95th percentile of recall latency since the start, in seconds, from the histogram that /metrics shows."""
    (family,) = metrics.recall_latency.collect()
    buckets = [(float(one.labels["le"]), one.value) for one in family.samples if one.name.endswith("_bucket")]
    return quantile_of(sorted(buckets), 0.95)


def memory() -> tuple[int, int | None]:
    """(bytes of anonymous memory in use, the limit: the container's, else the machine's). 0 and None where unknown."""
    used, limit = 0, None
    with contextlib.suppress(OSError, ValueError):
        used = _kilobytes(Path("/proc/self/status"), "RssAnon:")
    with contextlib.suppress(OSError, ValueError):
        limit = _kilobytes(Path("/proc/meminfo"), "MemTotal:")
    for path in CGROUP_LIMITS:
        # "max" is no number: no limit there
        with contextlib.suppress(OSError, ValueError):
            limit = min(int(path.read_text(encoding="ascii")), limit or 2**63)
    return used, limit


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError(name)


def measure(
    follower: Follower, sampling: Sampling, metrics: Metrics, *, retention_enabled: bool, retention_bounded: bool
) -> Measured:
    """Everything the gates look at. Blocking, some milliseconds: call it from a thread."""
    recent = sampling.recent()
    asked = [one.half_life for one in recent if not isinstance(one.half_life, Unset) and one.half_life is not None]
    near, equal = ties(_replay(follower.index, recent[-REPLAYED:])[0])
    used, limit = memory()
    approximate = bool(follower.residency.bounds(follower.index))
    gauge = metrics.vectors.recall_at_k if approximate else metrics.recall_at_k
    recalls = [one.value for family in gauge.collect() for one in family.samples]
    return Measured(
        rows=len(follower.index),
        p95=p95(metrics),
        importance=importance(follower.index.view()),
        ties=near,
        equal=equal,
        memory_used=used,
        memory_limit=limit,
        approximate=approximate,
        recall=min(recalls, default=None),
        asks=len(asked) / len(recent) if recent else 0.0,
        asked_half_life=float(np.median(asked)) if asked else None,
        params=follower.params,
        retention_enabled=retention_enabled,
        retention_bounded=retention_bounded,
    )


def _replay(index: ExactIndex, recent: Sequence[Asked]) -> tuple[list[list[ScoredRow]], list[float]]:
    answers, times = [], []
    for one in recent:
        began = time.perf_counter()
        answers += index.search(
            one.vector,
            top_k=one.top_k,
            partition=one.partition,
            types=one.types,
            now=one.now,
            as_of=one.as_of,
            half_life=one.half_life,
        )
        times.append((time.perf_counter() - began) * 1000)
    return answers, times


def try_out(
    follower: Follower,
    recent: Sequence[Asked],
    params: ScoringParams,
    *,
    without: Collection[bytes] = (),
    importances: Callable[[Sequence[bytes]], Sequence[float]] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Effect:
    """Asks recent queries again, with the rules in force and with `params`, on the same rows: two indexes aside.

    `without` are rows that the second index leaves out; `importances` gives the i that rows (by id) have there. Where
    the index holds more than `TRIED_ROWS`, an even sample of them stands for all. Blocking; the live index is only
    read. Raises Unavailable once `stopped`.
    """
    rows = sample(follower.index.view(), TRIED_ROWS)
    if rows is None or not recent:
        return compare([], [], 0 if rows is None else len(rows))
    ids = [one.tobytes() for one in rows.ids.astype(">u8")]
    now = ExactIndex(rows.vectors.shape[1], follower.params)
    then = ExactIndex(rows.vectors.shape[1], params)
    other = rows if importances is None else replace(rows, importance=np.array(importances(ids), np.float64))
    gone = set(without)
    if gone:
        other = other.take(np.array([one not in gone for one in ids], dtype=bool))
    for index, batch in ((now, rows), (then, other)):
        if stopped():
            raise Unavailable("the runtime is stopping", remedy="ask again when it is up")
        index.upsert(batch)
        index.compact()
    before, times_before = _replay(now, recent)
    after, times_after = _replay(then, recent)
    effect = compare(before, after, len(rows))
    quantiles = [(float(np.quantile(times_before, q)), float(np.quantile(times_after, q))) for q in (0.5, 0.95)]
    return replace(effect, p50_ms=quantiles[0], p95_ms=quantiles[1])
