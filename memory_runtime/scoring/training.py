"""When the directions of the first bound are learnt, and when again: rarely, because every code is made in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from memory_runtime.scoring.basis import LEAST_ROWS, SAMPLE, Basis, captured, train
from memory_runtime.scoring.rows import Singles
from memory_runtime.scoring.segment import Segment

_GROWTH: Final = 8
_ENERGY_LOST: Final = 0.03


class _Learnt(NamedTuple):
    """A basis, from how many rows it was learnt or found good, and what share of their energy it holds."""

    basis: Basis
    rows: int
    share: float


class Training:
    """The basis of an index. `basis` may be read at any time; everything else is the writer's or the merger's."""

    def __init__(self, dim: int) -> None:
        self._learnt = _Learnt(Basis(dim), 0, 1.0)

    @property
    def basis(self) -> Basis:
        """What new codes are made in."""
        return self._learnt.basis

    def begin(self, vectors: Singles) -> None:
        """Learns from the first rows, where they are enough: codes in the identity cost three times as much, and the
        first merge would make them again.
        """
        if not self._learnt.rows and len(vectors) >= LEAST_ROWS:
            self._learn(vectors, len(vectors))

    def adopt(self, segments: Sequence[Segment]) -> None:
        """Goes on with the basis of the largest segment."""
        if segments:
            largest = max(segments, key=len)
            some = largest.vectors[:: max(1, len(largest) // 64)]
            self._learnt = _Learnt(largest.basis, len(largest), captured(some, largest.basis))

    def for_merge(self, parts: Sequence[Segment]) -> Basis:
        """The basis that these segments are merged in: another one only where the rows have outgrown the old one."""
        known, rows = self._learnt, sum(len(part) for part in parts)
        if rows < max(LEAST_ROWS, known.rows * _GROWTH):
            return known.basis
        stride = max(1, rows // SAMPLE)
        for part in parts:
            if part.check is not None:
                part.check(np.arange(0, len(part), stride))
        sample = np.concatenate([part.vectors[::stride] for part in parts]).astype(np.float32, copy=False)
        if known.basis.rows is not None and captured(sample, known.basis) > known.share - _ENERGY_LOST:
            # As good as when it was made: another would make every code again for nothing
            self._learnt = known._replace(rows=rows)
            return known.basis
        return self._learn(sample, rows)

    def _learn(self, sample: Singles, rows: int) -> Basis:
        basis = train(sample)
        self._learnt = _Learnt(basis, rows, captured(sample, basis))
        return basis
