"""Rows as bytes: 7-bit codes in a basis for the first bound, 8-bit codes of the whole vector for the second.

The layouts are those of kernel/scan.h. A code never has to be good, only its error has to be known: each is stored
with it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import kernel
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.kernel import GROUP, TAIL_BYTES
from memory_runtime.scoring.room import empty
from memory_runtime.scoring.rows import Floats, Singles

Bytes = npt.NDArray[np.uint8]
NARROW_ZERO: Final = 64
NARROW_MOST: Final = 63
_WIDE_MOST: Final = 127
_BLOCK: Final = 8192


class Coded(NamedTuple):
    """First-bound codes: `prefix` uint8 [groups, quads, 16, 4] (codes 1..127: value = (code - 64)·scale), `head`
    float32 [groups, 2, 16] (scale and residual norm of each row), and `error`, which bounds |projection - values|."""

    prefix: Bytes
    head: Singles
    error: float


def blank(rows: int, size: int) -> Coded:
    """Room for the codes of so many rows; missing rows and dimensions have the code of zero."""
    groups, quads = -(-rows // GROUP), -(-size // 4)
    prefix = empty((groups, quads, GROUP, 4), np.uint8)
    prefix[rows // GROUP :] = NARROW_ZERO
    if size % 4:
        prefix[:, -1] = NARROW_ZERO
    head = np.empty((groups, 2, GROUP), np.float32)
    head[rows // GROUP :] = 0.0
    return Coded(prefix, head, 0.0)


def encoded(vectors: npt.NDArray[np.floating], basis: Basis, norm: float) -> Coded:
    """The codes of these rows (float32 or float16 [n, dim], norms at most `norm`)."""
    made = blank(len(vectors), basis.size)
    return made._replace(error=encode_into(made.prefix, made.head, 0, vectors, basis, norm))


def encode_into(
    prefix: Bytes, head: Singles, first: int, vectors: npt.NDArray[np.floating], basis: Basis, norm: float
) -> float:
    """Writes the codes of these rows behind the first `first` ones; returns their `error`."""
    worst = 0.0
    module = kernel.load()
    for start in range(0, len(vectors), _BLOCK):
        part = np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32)
        if module is None:
            missed = _encode_block(prefix, head, first + start, part, basis, norm)
        else:
            width = 0 if basis.columns is None else basis.columns.shape[1]
            missed = module.narrow_codes(
                part, basis.columns, len(part), basis.dim, basis.size, width, prefix.shape[1], first + start, norm,
                basis.slack, prefix, head,
            )  # fmt: skip
        worst = max(worst, missed)
    return worst * 1.001 + 1e-6


def _encode_block(prefix: Bytes, head: Singles, first: int, vectors: Singles, basis: Basis, norm: float) -> float:
    projected = basis.project(vectors)
    step = np.maximum(np.abs(projected).max(axis=1), np.float32(1e-30)) / np.float32(NARROW_MOST)
    levels = np.rint(projected / step[:, None])
    here = first + np.arange(len(vectors))
    group, lane = here // GROUP, here % GROUP
    padded = np.full((len(vectors), prefix.shape[1] * 4), NARROW_ZERO, np.uint8)
    padded[:, : basis.size] = (levels + NARROW_ZERO).astype(np.uint8)
    prefix[group, :, lane, :] = padded.reshape(len(vectors), -1, 4)
    head[group, 0, lane] = step
    head[group, 1, lane] = np.nextafter(basis.residual(projected, norm).astype(np.float32), np.float32(np.inf))
    miss = projected - levels * step[:, None]
    return float(np.sqrt(np.einsum("ij,ij->i", miss, miss).max())) if len(vectors) else 0.0


def stride_of(dim: int) -> int:
    """Bytes of one record: codes, padded to 8, then the tail."""
    return -(-dim // 8) * 8 + TAIL_BYTES


def empty_records(n: int, dim: int) -> Bytes:
    """Zeroed records, whose start is aligned to 8 bytes (the kernel reads the tail in place)."""
    return np.zeros(n * stride_of(dim) // 8, np.uint64).view(np.uint8).reshape(n, stride_of(dim))


def records_of(event_time: Floats, expires_at: Floats, vectors: npt.NDArray[np.floating]) -> Bytes:
    """The records of new, living rows."""
    n, dim = vectors.shape
    records = empty((n, stride_of(dim)), np.uint8)
    records[:, dim:] = 0
    write_records(records, event_time, expires_at, vectors.astype(np.float32, copy=False))
    return records


def write_records(records: Bytes, event_time: Floats, expires_at: Floats, vectors: Singles) -> None:
    """Writes new rows into records whose deaths and padding are zero."""
    _fill_wide(records, vectors)
    times(records)[:] = event_time
    expiries(records)[:] = expires_at


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
