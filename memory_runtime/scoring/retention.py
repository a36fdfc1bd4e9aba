"""What may go when a store outgrows its bounds: the retention score R of source document 002, section 4.

    R = g1·x^alpha + g2·2^(-(now - t_access)/τ_r) + g3·log(1 + c)/log(1 + C_max) - g4·cost

x is the importance without its floor, (i - floor)/(1 - floor): the floor keeps a memory findable, not worth its place.
Recall's score asks what answers a question; R asks what is worth its place. It is a sum, so it does move with time:
a background sweep computes it. Memories that are pinned or under a legal hold count towards a bound and never go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.scoring.rows import Floats, Ints

TTL: Final = "ttl"
ROWS: Final = "rows"
BYTES: Final = "bytes"


@dataclass(frozen=True, slots=True)
class RetentionWeights:
    """g1 to g4 (importance, recency, frequency, cost), τ_r in seconds, alpha, and the floor that i was made with."""

    importance: float = 0.4
    recency: float = 0.3
    frequency: float = 0.3
    cost: float = 0.1
    access_half_life: float = 30 * 86400.0
    importance_exponent: float = 1.0
    importance_floor: float = 0.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not math.isfinite(value) or value < 0:
                raise InvalidArgument(
                    f"{one.name} must be zero or more, not {value!r}", field=one.name, remedy="0 leaves the term out"
                )
        if self.access_half_life == 0:
            raise InvalidArgument(
                "access_half_life must be greater than zero", field="access_half_life", remedy="give one such as 30d"
            )


class RetentionRows(NamedTuple):
    """n memories column by column: `row` is the ledger's number; times are epoch seconds; `exempt` is pinned or held.

    `stored` is when the memory was last stored; `own_ttl` says that it expires by itself.
    """

    row: Ints
    importance: Floats
    accessed: Floats
    accesses: Ints
    size: Ints
    stored: Floats
    exempt: npt.NDArray[np.bool_]
    own_ttl: npt.NDArray[np.bool_]

    def take(self, which: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> RetentionRows:
        """The rows at these positions, or under this mask."""
        return RetentionRows._make(column[which] for column in self)


@dataclass(frozen=True, slots=True)
class Extent:
    """What the memories of one namespace come to: the bounds of R's terms, and what there is to count."""

    rows: int = 0
    bytes: int = 0
    exempt_rows: int = 0
    exempt_bytes: int = 0
    ttl_rows: int = 0
    ttl_bytes: int = 0
    most_accesses: int = 0
    largest: int = 0

    def with_rows(self, rows: RetentionRows, *, stored_before: float) -> Extent:
        """This extent and these rows more; `stored_before` is the moment before which a memory is over its time."""
        if not len(rows.row):
            return self
        over = past_ttl(rows, stored_before)
        return Extent(
            rows=self.rows + len(rows.row),
            bytes=self.bytes + int(rows.size.sum()),
            exempt_rows=self.exempt_rows + int(rows.exempt.sum()),
            exempt_bytes=self.exempt_bytes + int(rows.size[rows.exempt].sum()),
            ttl_rows=self.ttl_rows + int(over.sum()),
            ttl_bytes=self.ttl_bytes + int(rows.size[over].sum()),
            most_accesses=max(self.most_accesses, int(rows.accesses.max())),
            largest=max(self.largest, int(rows.size.max())),
        )

    def excess(self, max_rows: int, max_bytes: int) -> tuple[int, int]:
        """(rows, bytes) beyond the bounds once what is over its time has gone; 0 as a bound is none."""
        rows = max(0, self.rows - self.ttl_rows - max_rows) if max_rows else 0
        size = max(0, self.bytes - self.ttl_bytes - max_bytes) if max_bytes else 0
        return rows, size


def past_ttl(rows: RetentionRows, stored_before: float) -> npt.NDArray[np.bool_]:
    """Which rows are over the namespace's time; one with a ttl of its own keeps to that."""
    return np.asarray((rows.stored <= stored_before) & ~rows.exempt & ~rows.own_ttl)


def retention_scores(rows: RetentionRows, weights: RetentionWeights, extent: Extent, now: float) -> Floats:
    """R of each row, float64 [n]. `cost` is the row's share of the largest row's bytes; C_max the extent's."""
    idle = np.maximum(now - rows.accessed, 0.0)
    recency = np.exp2(-idle / weights.access_half_life)
    ceiling = math.log1p(extent.most_accesses)
    frequency = np.log1p(rows.accesses) / ceiling if ceiling > 0 else np.zeros(len(rows.row))
    cost = rows.size / extent.largest if extent.largest else np.zeros(len(rows.row))
    return np.asarray(
        weights.importance * _above(rows.importance, weights.importance_floor) ** weights.importance_exponent
        + weights.recency * recency
        + weights.frequency * frequency
        - weights.cost * cost
    )


def _above(importance: Floats, floor: float) -> Floats:
    """Where i lies between the floor and 1, in [0, 1]."""
    if floor >= 1.0:
        return np.ones_like(importance)
    return np.asarray(np.clip((importance - floor) / (1.0 - floor), 0.0, 1.0))


class Chosen(NamedTuple):
    """One memory that would go: its row in the ledger, its R, its bytes, and why."""

    row: int
    score: float
    size: int
    reason: str


class Lowest:
    """The rows to go of one namespace, gathered run by run in bounded memory: those over their time, then by rising R.

    Ties go by age, then by row, so that two runs over the same ledger at the same time choose alike.
    """

    def __init__(self, weights: RetentionWeights, extent: Extent, now: float, stored_before: float, most: int) -> None:
        self._weights = weights
        self._extent = extent
        self._now = now
        self._before = stored_before
        self._most = max(1, most)
        self._over: list[Chosen] = []
        self._rows: RetentionRows | None = None
        self._scores: Floats = np.zeros(0)

    def add(self, rows: RetentionRows) -> None:
        """Considers these rows."""
        over = past_ttl(rows, self._before)
        for at in np.flatnonzero(over)[: self._most - len(self._over)]:
            one = rows.take(np.array([at]))
            score = float(retention_scores(one, self._weights, self._extent, self._now)[0])
            self._over.append(Chosen(int(one.row[0]), score, int(one.size[0]), TTL))
        rest = rows.take(~over & ~rows.exempt)
        scores = np.concatenate([self._scores, retention_scores(rest, self._weights, self._extent, self._now)])
        if self._rows is not None:
            rest = RetentionRows._make(np.concatenate(pair) for pair in zip(self._rows, rest, strict=True))
        order = np.lexsort((rest.row, rest.stored, scores))[: self._most]
        self._rows, self._scores = rest.take(order), scores[order]

    def chosen(self, max_rows: int, max_bytes: int) -> list[Chosen]:
        """What goes, in order: at most `most` rows, so a large excess takes several rounds."""
        more_rows, more_bytes = self._extent.excess(max_rows, max_bytes)
        gone: list[Chosen] = list(self._over)
        if self._rows is None:
            return gone
        for row, size, score in zip(self._rows.row, self._rows.size, self._scores, strict=True):
            if (more_rows <= 0 and more_bytes <= 0) or len(gone) >= self._most:
                break
            gone.append(Chosen(int(row), float(score), int(size), ROWS if more_rows > 0 else BYTES))
            more_rows -= 1
            more_bytes -= int(size)
        return gone


def rows_of(found: Sequence[tuple[int, float, float, int, int, float, int, int]]) -> RetentionRows:
    """Columns from (row, i, t_access, c, bytes, stored, exempt, own ttl)."""
    table = np.array(found, dtype=np.float64).reshape(-1, 8)
    whole = table[:, [0, 3, 4]].astype(np.int64)
    flags = table[:, [6, 7]].astype(bool)
    return RetentionRows(
        whole[:, 0], table[:, 1], table[:, 2], whole[:, 1], whole[:, 2], table[:, 5], flags[:, 0], flags[:, 1]
    )
