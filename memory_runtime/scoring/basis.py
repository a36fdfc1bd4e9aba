"""The few directions that carry most of the vectors' energy: the first, cheap bound of the scan lives in them.

For any matrix P with orthonormal rows, q·v = Pq·Pv + q'·v' with |q'|² = |q|² - |Pq|² (v' likewise), so
q·v <= Pq·Pv + |q'|·|v'| (Cauchy-Schwarz). P only decides how tight that is, never whether it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from memory_runtime.scoring import kernel
from memory_runtime.scoring.rows import Floats, Singles

SAMPLE: Final = 8_192
_PROBE: Final = 2_048
_ROUNDS: Final = 5
LEAST_ROWS: Final = 4_096
_ENERGY: Final = 0.8
_WORTHWHILE: Final = 0.55
_UNIT: Final = 2.0**-24


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """`rows` float32 [m, dim], nearly orthonormal; None is the identity (every dimension, nothing left over).

    `slack` bounds what rounding may do to q·v when it is split: see docs/scoring.md, "Numbers". `columns` are the rows
    as the kernel reads them: float32 [dim, m rounded up to 16], a direction a column.
    """

    dim: int
    rows: Singles | None = None
    slack: float = 0.0
    columns: Singles | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.rows is not None:
            columns = np.zeros((self.dim, -(-len(self.rows) // 16) * 16), np.float32)
            columns[:, : len(self.rows)] = self.rows.T
            object.__setattr__(self, "columns", columns)

    @property
    def size(self) -> int:
        """How many directions."""
        return self.dim if self.rows is None else len(self.rows)

    def project(self, vectors: Singles) -> Singles:
        """float32 [n, size]."""
        return vectors if self.columns is None else product(vectors, self.columns)[:, : self.size]

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


def captured(vectors: Singles, basis: Basis) -> float:
    """The share of the vectors' energy (they have unit norms) that lies in the basis; 1 for the identity."""
    sample = vectors[:: max(1, len(vectors) // _PROBE)][:_PROBE].astype(np.float32, copy=False)
    projected = basis.project(sample)
    return float(np.einsum("ij,ij->", projected, projected)) / max(len(sample), 1)


def train(vectors: Singles) -> Basis:
    """The leading principal directions (uncentred) of a sample: as many as hold 80 % of the energy, at most a third.

    Where even a third of them holds little (vectors without structure), the identity: then all dimensions count.
    """
    n, dim = vectors.shape
    if n < LEAST_ROWS or dim < 32:
        return Basis(dim)
    sample = vectors[:: max(1, n // SAMPLE)][:SAMPLE].astype(np.float32, copy=False)
    spread = product(np.ascontiguousarray(sample.T), sample)
    most = max(16, dim // 3 // 16 * 16)
    directions = _leading(spread, most)
    energy = np.cumsum(np.einsum("ij,ij->i", product(directions, spread), directions)) / np.trace(spread)
    if energy[-1] < _WORTHWHILE:
        return Basis(dim)
    size = min(most, int(np.searchsorted(energy, _ENERGY) // 16 + 1) * 16)
    return from_rows(directions[:size])


def _leading(spread: Singles, count: int) -> Singles:
    """float32 [count, dim]: about the leading eigenvectors, by orthogonal iteration.

    All of them to the last bit would take fifty times as long, while writers wait; the bounds hold for any directions.
    """
    found = np.random.default_rng(0).standard_normal((count, len(spread)), np.float32)
    for _ in range(_ROUNDS):
        found = _orthonormal(product(found, spread))
    return found


def _orthonormal(rows: Singles) -> Singles:
    module = kernel.load()
    wide = rows.astype(np.float64)
    if module is None:
        return np.ascontiguousarray(np.linalg.qr(wide.T)[0].T.astype(np.float32))
    module.orthonormalise(wide, *wide.shape)
    return wide.astype(np.float32)


def product(rows: Singles, columns: Singles) -> Singles:
    """rows [n, m] times columns [m, w] in float32, on one thread where the kernel is at hand.

    A BLAS would split even one query over all cores and wait for the slowest: on a busy machine, for its turn.
    """
    module, (n, dim), width = kernel.load(), rows.shape, columns.shape[1]
    if module is None or width % 16 or not n:
        return rows @ columns
    out = np.empty((n, width), np.float32)
    module.project(np.ascontiguousarray(rows), np.ascontiguousarray(columns), n, dim, width, out)
    return out
