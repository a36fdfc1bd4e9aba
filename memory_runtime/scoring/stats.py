"""What an index holds and what its searches cost: the numbers behind the metrics of source document 002, section 9."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import kernel, merge
from memory_runtime.scoring.fresh import Fresh
from memory_runtime.scoring.room import is_mapped
from memory_runtime.scoring.search import View
from memory_runtime.scoring.segment import Segment


@dataclass(frozen=True, slots=True)
class IndexStats:
    """One moment. Bytes are what the index holds in memory and, apart from that, what it maps from files.

    `fraction_scanned` is rows scanned over rows held, summed over all searches; `decay_active` is the share of rows
    under a half-life; `norm_error_max` is the largest distance of a stored vector's norm from 1; `hot_tier_hit_ratio`
    is the share of queries that read no more rows than the hot tier (the best rows that fit its bytes) holds.
    """

    rows: int
    segments: int
    fresh_rows: int
    tombstones: int
    resident_bytes: int
    mapped_bytes: int
    queries: int
    rows_scanned: int
    fraction_scanned: float
    merges: int
    norm_error_max: float
    decay_active: float
    kernel: str
    hot_tier_hit_ratio: float = 1.0


@dataclass(slots=True)
class Usage:
    """Counters that searches add to."""

    queries: int = 0
    scanned: int = 0
    held: int = 0
    merges: int = 0
    hot_rows: int = 0
    hot: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, queries: int, scanned: int, rows: int) -> None:
        """Counts one call: its queries, the rows they scanned, the rows they could have scanned each."""
        with self._lock:
            self.queries += queries
            self.scanned += scanned
            self.held += rows * queries
            self.hot += queries if scanned <= self.hot_rows * queries else 0


def _kinds(
    tenant: npt.NDArray[np.int32], memory_type: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
    pairs, sizes = np.unique(np.stack([tenant, memory_type], axis=1), axis=0, return_counts=True)
    return pairs, sizes


def measure(view: View, usage: Usage) -> IndexStats:
    """The statistics of a view."""
    parts: list[Segment | Fresh] = [*view.segments, view.fresh]
    alive = [int(np.count_nonzero(merge.living(part, view.epoch))) for part in parts]
    decaying = 0
    worst = 0.0
    for segment, living in zip(view.segments, alive, strict=False):
        sizes = np.diff(segment.runs.start)
        decayed = sum(
            int(size)
            for tenant, kind, size in zip(segment.runs.tenant, segment.runs.memory_type, sizes, strict=True)
            if view.params.profile(int(tenant), int(kind)).half_life is not None
        )
        decaying += round(living * decayed / max(len(segment), 1))
        sample = segment.vectors[:: max(1, len(segment) // 1000)].astype(np.float64)
        worst = max(worst, float(np.abs(np.linalg.norm(sample, axis=1) - 1).max()))
    young = view.fresh.batch(np.flatnonzero(merge.living(view.fresh, view.epoch)))
    for (tenant, kind), size in zip(*_kinds(young.tenant, young.memory_type), strict=True):
        decaying += int(size) if view.params.profile(int(tenant), int(kind)).half_life is not None else 0
    held = sum(len(part) for part in parts)
    mapped = sum(
        column.nbytes
        for segment in view.segments
        for column in (segment.ids, segment.importance, segment.vectors, segment.records, segment.prefix, segment.head)
        if is_mapped(column)
    )
    return IndexStats(
        rows=sum(alive),
        segments=len(view.segments),
        fresh_rows=view.fresh_count,
        tombstones=held - sum(alive),
        resident_bytes=sum(part.resident_bytes() for part in parts),
        mapped_bytes=mapped,
        queries=usage.queries,
        rows_scanned=usage.scanned,
        fraction_scanned=usage.scanned / usage.held if usage.held else 0.0,
        merges=usage.merges,
        norm_error_max=worst,
        decay_active=decaying / max(sum(alive), 1),
        kernel=kernel.variant(),
        hot_tier_hit_ratio=usage.hot / usage.queries if usage.queries else 1.0,
    )
