"""One search as the scan sees it: queries quantised once for each basis, the shared lower bounds, and what has been
kept.

All lower and upper bounds are log2 scores at the moment asked about, so that segments, zones and profiles share one
heap.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import kernel
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.codes import NARROW_ZERO
from memory_runtime.scoring.rows import Floats, Ints, Singles
from memory_runtime.scoring.source import Stretch, Table

SCALARS: Final = struct.Struct("=10q5d")
_NARROW_QUERY_MOST: Final = 127
_NORM: Final = 1.0 + 1e-6
_ROUNDING: Final = 1e-5
"""Added to every first and second bound (similarities near 1 in float32): more than their arithmetic can lose."""


@dataclass(frozen=True, slots=True, eq=False)
class QueryCodes:
    """The queries in the forms that kernel/scan.h names, for one basis."""

    narrow: npt.NDArray[np.int8]
    wide: npt.NDArray[np.int16]
    constants: Singles
    zero: Ints


class Kept(NamedTuple):
    """Candidates of one stretch for one query: positions in its table, and upper bounds in log2 score."""

    stretch: Stretch
    rows: npt.NDArray[np.int64]
    bounds: Floats


@dataclass(slots=True, eq=False)
class Plan:
    """The state of one search: `heap` float64 [q, k], `counters` int64 [q, 4], candidates and upper bounds [q, cap]."""

    queries: Singles
    k: int
    at: float
    latest: float
    epoch: int
    capacity: int = 4096
    heap: Floats = field(init=False)
    counters: Ints = field(init=False)
    positions: Ints = field(init=False)
    bounds: Floats = field(init=False)
    kept: list[list[Kept]] = field(init=False)
    codes: dict[int, tuple[Basis, QueryCodes]] = field(default_factory=dict)
    tables: dict[int, QueryCodes] = field(default_factory=dict)
    profiles: set[tuple[float | None, float]] = field(default_factory=set)
    """Half-life and exponent of every run that may be read: what decides how rows are compared."""

    def __post_init__(self) -> None:
        count = len(self.queries)
        self.heap = np.empty((count, self.k))
        self.counters = np.zeros((count, 4), np.int64)
        self.positions = np.empty((count, self.capacity), np.int64)
        self.bounds = np.empty((count, self.capacity))
        self.kept = [[] for _ in range(count)]

    @property
    def mixed(self) -> bool:
        """Whether rows of several profiles may meet. It is no matter of which rows a scan has kept: an answer must not
        depend on that.
        """
        return len(self.profiles) > 1

    def least(self, query: int) -> float:
        """The k-th largest lower bound so far, -inf until k rows are known."""
        return float(self.heap[query, 0]) if self.counters[query, 0] == self.k else -np.inf

    def fork(self) -> Plan:
        """The same search, for another thread to go on with over other rows: it knows the bounds known so far."""
        other = Plan(self.queries, self.k, self.at, self.latest, self.epoch, self.capacity)
        other.codes, other.tables = self.codes, self.tables
        other.heap[:] = self.heap
        other.counters[:, 0] = self.counters[:, 0]
        return other

    def join(self, other: Plan) -> None:
        """Takes over what a fork has found in its rows.

        The k-th largest lower bound of either part bounds the whole's from below: the larger one stands.
        """
        for query in range(len(self.queries)):
            if other.least(query) > self.least(query):
                self.heap[query] = other.heap[query]
                self.counters[query, 0] = other.counters[query, 0]
            self.kept[query] += other.kept[query]
        self.counters[:, 3] += other.counters[:, 3]

    def keep(self, query: int, stretch: Stretch, rows: npt.NDArray[np.int64], bounds: Floats) -> None:
        """Remembers rows of a stretch that may be in the answer, with upper bounds of their log2 scores."""
        self.kept[query].append(Kept(stretch, rows, bounds))

    def drain(self, stretch: Stretch) -> None:
        """Takes what the compiled scan wrote out of its buffers."""
        for query, count in enumerate(self.counters[:, 1].tolist()):
            if count:
                self.keep(query, stretch, self.positions[query, :count].copy(), self.bounds[query, :count].copy())
        self.counters[:, 1] = 0

    def codes_for(self, table: Table) -> QueryCodes:
        """The queries for one table: quantised once a basis, with the table's own error and norm in the constants."""
        made = self.tables.get(id(table))
        if made is not None:
            return made
        known = self.codes.get(id(table.basis))
        if known is None:
            known = self.codes[id(table.basis)] = (table.basis, query_codes(self.queries, table.basis))
        shared = known[1]
        constants = shared.constants.copy()
        constants[:, 3] += shared.constants[:, 7] * np.float32(table.error) + np.float32(table.basis.slack)
        constants[:, 6] = table.norm * (1 + 1e-6)
        made = self.tables[id(table)] = QueryCodes(shared.narrow, shared.wide, constants, shared.zero)
        return made


def query_codes(queries: Singles, basis: Basis) -> QueryCodes:
    """7-bit-row queries as int8 in the basis and as int16 over the whole vector; see docs/scoring.md, "Two bounds".

    constants: scale, zero, residual norm, first slack, scale of the wide codes, second slack, norm bound, and the
    projection's norm, which `Plan.codes_for` multiplies with a segment's quantisation error.
    """
    count, dim = queries.shape
    quads = -(-basis.size // 4)
    # 255 · level · dim must fit the 32 bits that the products are summed in
    most = min(32767, (2**31 - 1) // (255 * dim))
    narrow = np.zeros((count, quads * 4), np.int8)
    module = kernel.load()
    if module is not None:
        width = 0 if basis.columns is None else basis.columns.shape[1]
        wide, constants, zero = np.empty((count, dim), np.int16), np.empty((count, 8), np.float32), np.empty(count, int)
        module.query_codes(
            queries, basis.columns, count, dim, basis.size, width, quads, _NORM, basis.slack, most, _ROUNDING,
            narrow, wide, constants, zero,
        )  # fmt: skip
        return QueryCodes(narrow, wide, constants, zero)
    projected = basis.project(queries)
    step = np.maximum(np.abs(projected).max(axis=1), np.float32(1e-30)) / np.float32(_NARROW_QUERY_MOST)
    levels = np.rint(projected / step[:, None])
    narrow[:, : basis.size] = levels
    missed = np.linalg.norm(projected - levels * step[:, None], axis=1)
    wide_step = np.maximum(np.abs(queries).max(axis=1), np.float32(1e-30)) / np.float32(most)
    wide = np.rint(queries / wide_step[:, None]).astype(np.int16)
    wide_missed = np.linalg.norm(queries - wide * wide_step[:, None], axis=1)
    constants = np.zeros((count, 8), np.float32)
    constants[:, 0] = step
    constants[:, 1] = NARROW_ZERO * levels.sum(axis=1)
    constants[:, 2] = basis.residual(projected, _NORM)
    # The rows' codes have norms of at most 1.1: that is what the query's own rounding is multiplied with
    constants[:, 3] = missed * 1.1 + _ROUNDING
    constants[:, 4] = wide_step
    constants[:, 5] = wide_missed * 1.1 + _ROUNDING
    constants[:, 7] = np.linalg.norm(projected, axis=1) * 1.001
    zero = 128 * wide.astype(np.int64).sum(axis=1)
    return QueryCodes(narrow, wide, constants, zero)
