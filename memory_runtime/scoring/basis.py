"""The few directions that carry most of the vectors' energy: the first, cheap bound of the scan lives in them.

For any matrix P with orthonormal rows, q·v = Pq·Pv + q'·v' with |q'|² = |q|² - |Pq|² (v' likewise), so
q·v <= Pq·Pv + |q'|·|v'| (Cauchy-Schwarz). P only decides how tight that is, never whether it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from memory_runtime.scoring.rows import Floats, Singles

SAMPLE: Final = 20_000
LEAST_ROWS: Final = 4_096
_ENERGY: Final = 0.8
_WORTHWHILE: Final = 0.55
_UNIT: Final = 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """`rows` float32 [m, dim], nearly orthonormal; None is the identity (every dimension, nothing left over).

    `slack` bounds what rounding may do to q·v when it is split: see docs/scoring.md, "Numbers".
    """

    dim: int
    rows: Singles | None = None
    slack: float = 0.0

    @property
    def size(self) -> int:
        """How many directions."""
        return self.dim if self.rows is None else len(self.rows)

    def project(self, vectors: Singles) -> Singles:
        """float32 [n, size]."""
        return vectors if self.rows is None else vectors @ self.rows.T

    def residual(self, projected: Singles, norm: float) -> Floats:
        """float64 [n]: an upper bound of what the directions leave of vectors whose norms are at most `norm`."""
        if self.rows is None:
            return np.zeros(len(projected))
        wide = projected.astype(np.float64)
        kept = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        least = np.maximum(kept - self.slack, 0.0) / (1.0 + self.slack)
        return np.sqrt(np.maximum(norm * norm - least * least, 0.0)) + 1e-7  # type: ignore[no-any-return]


def from_rows(rows: Singles) -> Basis:
    """A basis of given directions, with its slack measured: distance from orthonormal, and rounding of the products."""
    size, dim = rows.shape
    wide = rows.astype(np.float64)
    skew = float(np.linalg.norm(wide @ wide.T - np.eye(size)))
    rounding = dim * _UNIT / (1 - dim * _UNIT) * np.sqrt(size)
    return Basis(dim, rows, 2.0 * (skew + float(rounding)) + 1e-6)


def train(vectors: Singles) -> Basis:
    """The leading principal directions (uncentred) of a sample: as many as hold 80 % of the energy, at most a third.

    Where even a third of them holds little (vectors without structure), the identity: then all dimensions count.
    """
    n, dim = vectors.shape
    if n < LEAST_ROWS or dim < 32:
        return Basis(dim)
    sample = vectors[:: max(1, n // SAMPLE)][:SAMPLE].astype(np.float64)
    values, directions = np.linalg.eigh(sample.T @ sample)
    energy = np.cumsum(values[::-1]) / values.sum()
    most = max(16, dim // 3 // 16 * 16)
    if energy[most - 1] < _WORTHWHILE:
        return Basis(dim)
    size = min(most, int(np.searchsorted(energy, _ENERGY) // 16 + 1) * 16)
    return from_rows(np.ascontiguousarray(directions[:, ::-1][:, :size].T.astype(np.float32)))
