"""Rows as bytes: 7-bit codes in a basis for the first bound, 8-bit codes of the whole vector for the second.

The layouts are those of kernel/scan.h. A code never has to be good, only its error has to be known: each is stored
with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import kernel
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.kernel import GROUP, TAIL_BYTES
from memory_runtime.scoring.rows import Floats, RowBatch, Singles

Bytes = npt.NDArray[np.uint8]
NARROW_ZERO: Final = 64
NARROW_MOST: Final = 63
_WIDE_MOST: Final = 127
_BLOCK: Final = 8192


@dataclass(slots=True, eq=False)
class Narrow:
    """First-bound codes in row order: `codes` uint8 [n, size], `scale` and `residual` float32 [n], `error` for all."""

    basis: Basis
    codes: Bytes
    scale: Singles
    residual: Singles
    error: float

    def take(self, index: npt.NDArray[np.intp]) -> Narrow:
        """The rows at these positions."""
        return Narrow(self.basis, self.codes[index], self.scale[index], self.residual[index], self.error)


class Rows(Protocol):
    """float32 [n, dim] that can be read a slice of rows at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Singles: ...


def narrow_codes(vectors: Rows, basis: Basis, norm: float) -> Narrow:
    """Codes 1..127 of the projected rows: value = (code - 64)·scale; `error` bounds |projection - values|."""
    n, size = len(vectors), basis.size
    codes = np.empty((n, size), np.uint8)
    scale, residual = np.empty(n, np.float32), np.empty(n, np.float32)
    error = 0.0
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        projected = basis.project(vectors[part])
        step = np.maximum(np.abs(projected).max(axis=1), np.float32(1e-30)) / np.float32(NARROW_MOST)
        levels = np.rint(projected / step[:, None])
        codes[part] = (levels + NARROW_ZERO).astype(np.uint8)
        miss = projected - levels * step[:, None]
        error = max(error, float(np.sqrt(np.einsum("ij,ij->i", miss, miss).max())))
        scale[part] = step
        residual[part] = np.nextafter(basis.residual(projected, norm).astype(np.float32), np.float32(np.inf))
    return Narrow(basis, codes, scale, residual, error * 1.001 + 1e-6)


def interleave(codes: Bytes) -> Bytes:
    """[n, size] → [groups, size/4, 16, 4]; missing rows and dimensions get the code of zero."""
    n, size = codes.shape
    groups, quads = -(-n // GROUP), -(-size // 4)
    if n % GROUP or size % 4:
        padded = np.full((groups * GROUP, quads * 4), NARROW_ZERO, np.uint8)
        padded[:n, :size] = codes
        codes = padded
    return np.ascontiguousarray(codes.reshape(groups, GROUP, quads, 4).transpose(0, 2, 1, 3))


def deinterleave(prefix: Bytes, n: int, size: int) -> Bytes:
    """The inverse of `interleave` for n rows."""
    groups, quads = prefix.shape[:2]
    return np.ascontiguousarray(prefix.transpose(0, 2, 1, 3).reshape(groups * GROUP, quads * 4)[:n, :size])


def heads(scale: Singles, residual: Singles) -> Singles:
    """[groups, 2, 16]: scales and residuals of each group side by side; missing rows get zeros."""
    groups = -(-len(scale) // GROUP)
    both = np.zeros((2, groups * GROUP), np.float32)
    both[0, : len(scale)], both[1, : len(residual)] = scale, residual
    return np.ascontiguousarray(both.reshape(2, groups, GROUP).transpose(1, 0, 2))


def stride_of(dim: int) -> int:
    """Bytes of one record: codes, padded to 8, then the tail."""
    return -(-dim // 8) * 8 + TAIL_BYTES


def empty_records(n: int, dim: int) -> Bytes:
    """Zeroed records, whose start is aligned to 8 bytes (the kernel reads the tail in place)."""
    return np.zeros(n * stride_of(dim) // 8, np.uint64).view(np.uint8).reshape(n, stride_of(dim))


def records_of(batch: RowBatch, vectors: Singles) -> Bytes:
    """The records of new, living rows."""
    n, dim = vectors.shape
    records = empty_records(n, dim)
    _fill_wide(records, vectors)
    times(records)[:] = batch.event_time
    expiries(records)[:] = batch.expires_at
    return records


def _fill_wide(records: Bytes, vectors: Singles) -> None:
    n, dim = vectors.shape
    module = kernel.load()
    if module is not None and n:
        module.wide_codes(np.ascontiguousarray(vectors), n, dim, records, records.shape[1])
        return
    for start in range(0, n, _BLOCK):
        rows, out = vectors[start : start + _BLOCK], records[start : start + _BLOCK]
        scale = np.maximum(np.abs(rows).max(axis=1), np.float32(1e-30)) / np.float32(_WIDE_MOST)
        levels = np.rint(rows / scale[:, None])
        out[:, :dim] = (levels + 128).astype(np.uint8)
        miss = rows - levels * scale[:, None]
        _tail(out, 0, np.float32)[:] = scale
        _tail(out, 4, np.float32)[:] = np.sqrt(np.einsum("ij,ij->i", miss, miss)) * np.float32(1.001) + np.float32(1e-6)


def _tail(records: Bytes, offset: int, kind: npt.DTypeLike) -> npt.NDArray[np.generic]:
    start = records.shape[1] - TAIL_BYTES + offset
    return records[:, start : start + np.dtype(kind).itemsize].view(kind)[:, 0]


def times(records: Bytes) -> Floats:
    """Event times, as a view into the records."""
    return _tail(records, 8, np.float64)  # type: ignore[return-value]


def expiries(records: Bytes) -> Floats:
    """Expiries, as a view into the records."""
    return _tail(records, 16, np.float64)  # type: ignore[return-value]


def deaths(records: Bytes) -> npt.NDArray[np.uint64]:
    """The write that deleted each row, 0 while it lives; a view into the records."""
    return _tail(records, 24, np.uint64)  # type: ignore[return-value]
