"""Where a search reads rows from: stretches of segments with descending weights, and small sets weighted on the spot.

A `Stretch` is one zone of one run (or rows weighted for this request). The driver takes the stretch whose next row has
the largest possible score, scans a block of it, and goes on until no stretch can hold a row that matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.codes import Bytes
from memory_runtime.scoring.formula import static_log
from memory_runtime.scoring.kernel import GROUP
from memory_runtime.scoring.params import Profile
from memory_runtime.scoring.rows import Floats, Ids, Singles
from memory_runtime.scoring.segment import ZONE_SPAN, Vectors, linear_weights

FIRST_BLOCK: Final = 1024
LARGEST_BLOCK: Final = 131_072


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The columns that scanning needs, whether of a segment or of the fresh rows; shapes as in kernel/scan.h."""

    name: str
    basis: Basis
    error: float
    norm: float
    ids: Ids
    importance: Floats
    features: Floats
    vectors: Vectors
    records: Bytes
    prefix: Bytes
    head: Singles
    check: Callable[[npt.NDArray[np.intp]], None] | None = None


@dataclass(slots=True, eq=False)
class Stretch:
    """Rows [cursor, end) of a table with their weights; `offset` turns log2(similarity · weight) into a log2 score.

    `profile` and `half_life` (the key's, seconds) are what the exact score of its rows is computed with.
    """

    table: Table
    profile: Profile
    half_life: float | None
    weight: Singles
    cursor: int
    end: int
    offset: float
    descending: bool
    latest: float
    allow: npt.NDArray[np.uint8] | None = None
    block: int = FIRST_BLOCK
    rest: Callable[[], Stretch] | None = None

    @property
    def slack(self) -> float:
        """What rounding may do to a log2 bound here: grows with the distance from the moment asked about."""
        return 1e-6 + 1e-13 * abs(self.offset)

    def ceiling(self) -> float:
        """The largest log2 score that a row not yet scanned can have (those of `rest` are lower still)."""
        if self.cursor >= self.end:
            return -math.inf
        # Weights on the spot are below 2 by construction; looking for their largest would cost a pass
        top = float(self.weight[self.cursor]) if self.descending else 2.0
        scaled = math.log2(top * self.table.norm) + 1e-4 + self.offset + self.slack
        return self.profile.similarity_exponent * scaled

    def next_end(self) -> int:
        """Where the next block ends; blocks double, because the first often holds the threshold."""
        end = min(self.end, self.cursor + self.block)
        self.block = min(self.block * 4, LARGEST_BLOCK)
        return end


def weighted_on_the_spot(
    table: Table,
    rows: npt.NDArray[np.intp],
    *,
    profile: Profile,
    half_life: float | None,
    at: float,
    latest: float,
) -> Stretch | None:
    """A stretch over chosen rows of a table, weighted for this request: ages at `at`, never negative.

    For rows without a sorted run: fresh ones, a half-life of the request's own, and rows whose time has not come.
    """
    if not len(rows):
        return None
    relative = static_log(table.importance[rows], table.features[rows], profile)
    if half_life is not None:
        relative = relative - np.maximum(at - codes.times(table.records)[rows], 0.0) / half_life
    return _band(rows, relative, table, profile, half_life, latest)


def _band(
    rows: npt.NDArray[np.intp],
    relative: Floats,
    table: Table,
    profile: Profile,
    half_life: float | None,
    latest: float,
) -> Stretch:
    """The rows whose L is within `ZONE_SPAN` of the largest; the others follow, if they are ever needed."""
    top = math.floor(float(relative.max()))
    inside = relative >= top - ZONE_SPAN
    later = None
    if not inside.all():
        order = np.argsort(-relative, kind="stable")
        rows, relative = rows[order], relative[order]
        cut = int(np.count_nonzero(inside))
        later = partial(_band, rows[cut:], relative[cut:], table, profile, half_life, latest)
        rows, relative = rows[:cut], relative[:cut]
    first, last = int(rows.min()), int(rows.max()) + 1
    weight = np.zeros(-(-last // GROUP) * GROUP, np.float32)
    weight[rows] = linear_weights(relative - top)
    return Stretch(
        table,
        profile,
        half_life,
        weight,
        first,
        last,
        float(top),
        descending=False,
        latest=latest,
        block=LARGEST_BLOCK,
        rest=later,
    )
