"""What goes into the index and what comes out of it, with every check that keeps a bad value from being stored."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.scoring import kernel

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

NEVER: Final = math.inf
_LEAST_NORM: Final = 1e-12
_LANES: Final = 32
_SORTED_FROM: Final = 64


class Partition(NamedTuple):
    """Whose rows a query sees: integer codes that the caller assigns. Nothing crosses from one partition to another."""

    tenant: int
    namespace: int


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One answer: `id` is 16 bytes (a UUID's), `score` is in (0, 1], and `log2_score` says it where a float cannot.

    `similarity` is the dot product of the unit vectors before any exponent; `segment` names where the row was found.
    """

    id: bytes
    score: float
    log2_score: float
    similarity: float
    segment: str = ""

    @property
    def uuid(self) -> uuid.UUID:
        """The id as a UUID."""
        return uuid.UUID(bytes=self.id)


def as_ids(ids: Iterable[bytes | uuid.UUID] | Ids) -> Ids:
    """uint64 [n, 2] (high and low half, so that comparing pairs compares ids). Raises InvalidArgument."""
    if isinstance(ids, np.ndarray):
        if ids.dtype != np.uint64 or ids.ndim != 2 or ids.shape[1] != 2:
            raise InvalidArgument("ids must be uint64 [n, 2]", field="ids", remedy="give UUIDs, or their 16 bytes")
        return np.ascontiguousarray(ids)
    raw = [one.bytes if isinstance(one, uuid.UUID) else bytes(one) for one in ids]
    if any(len(one) != 16 for one in raw):
        raise InvalidArgument("an id has 16 bytes", field="ids", remedy="give UUIDs, or their 16 bytes")
    return np.frombuffer(b"".join(raw), dtype=">u8").astype(np.uint64).reshape(-1, 2)


def id_bytes(ids: Ids) -> list[bytes]:
    """The 16 bytes of each id of a uint64 [n, 2] array."""
    raw = ids.astype(">u8").tobytes()
    return [raw[at : at + 16] for at in range(0, len(raw), 16)]


def hash_ids(ids: Ids) -> npt.NDArray[np.uint64]:
    """One well-mixed 64-bit number an id: ids need not be random for the look-up to stay fast."""
    module = kernel.load()
    if module is not None:
        hashes = np.empty(len(ids), np.uint64)
        module.hash_ids(np.ascontiguousarray(ids), hashes)
        return hashes
    with np.errstate(over="ignore"):
        mixed = ids[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ (ids[:, 1] + np.uint64(0xD1B54A32D192ED03))
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xBF58476D1CE4E5B9)
        return np.asarray(mixed ^ (mixed >> np.uint64(29)))


def unit_rows(vectors: npt.ArrayLike, dim: int, field: str = "vector") -> Singles:
    """float32 [n, dim] with unit norms. Raises InvalidArgument on NaN, infinity, zero and a wrong dimension."""
    given = np.asarray(vectors)
    single = given.dtype == np.float32
    given = np.ascontiguousarray(np.atleast_2d(given if single else given.astype(np.float64, copy=False)))
    if given.ndim != 2 or given.shape[1] != dim:
        raise InvalidArgument(
            f"{field} has {given.shape[-1]} dimensions, the index has {dim}",
            field=field,
            remedy="embed with the model this store was made with",
        )
    with np.errstate(all="ignore"):
        unit, norms = _normalised(given, single)
    if not np.isfinite(norms).all():
        raise InvalidArgument(f"{field} holds NaN or infinity", field=field, remedy="send finite numbers")
    if norms.size and norms.min() < _LEAST_NORM:
        raise InvalidArgument(
            f"{field} is zero: it has no direction", field=field, remedy="send a vector that is not zero"
        )
    return unit


def _normalised(given: npt.NDArray[np.floating], single: bool) -> tuple[Singles, Floats]:
    """(rows over their norms, norms), by the order of summation that `formula.exact_dot` fixes: the same bits on every
    CPU."""
    n, dim = given.shape
    module = kernel.load()
    if module is not None:
        unit, norms = np.empty((n, dim), np.float32), np.empty(n)
        module.unit_rows(given, not single, n, dim, unit, norms)
        return unit, norms
    wide = given.astype(np.float64, copy=False)
    padded = np.zeros((n, -(-dim // _LANES) * _LANES))
    padded[:, :dim] = wide * wide
    lanes = np.zeros((n, _LANES))
    for start in range(0, padded.shape[1], _LANES):
        lanes += padded[:, start : start + _LANES]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    norms = np.sqrt(lanes[:, 0])
    return (wide / norms[:, None]).astype(np.float32), norms


def _column(value: npt.ArrayLike | None, n: int, default: float, name: str, *, infinite: bool = False) -> Floats:
    column = np.full(n, default) if value is None else np.asarray(value, dtype=np.float64)
    # Checked first, because broadcasting one row costs as much as all the rest of its checks
    if column.shape != (n,) or not column.flags.c_contiguous:
        column = np.ascontiguousarray(np.broadcast_to(column, (n,)))
    good = ~np.isnan(column) if infinite else np.isfinite(column)
    if not good.all():
        raise InvalidArgument(
            f"{name} holds a value that is not a finite number", field=name, remedy="send finite numbers"
        )
    return column


def _codes(value: npt.ArrayLike, n: int, name: str) -> npt.NDArray[np.int32]:
    if type(value) is int and 0 <= value <= 2**31 - 1:
        return np.full(n, value, np.int32)
    codes = np.broadcast_to(np.asarray(value), (n,))
    if codes.dtype.kind not in "iu" or (n and (codes.min() < 0 or codes.max() > 2**31 - 1)):
        raise InvalidArgument(
            f"{name} must be codes from 0 to 2147483647", field=name, remedy="assign each name a small integer"
        )
    return np.ascontiguousarray(codes.astype(np.int32))


def _within_unit(values: Floats, name: str) -> None:
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise InvalidArgument(f"{name} is outside [0, 1]", field=name, remedy="normalise it before storing")


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """Checked rows, column by column; make one with `RowBatch.of`.

    Times are epoch seconds; `expires_at` is +inf for rows that stay; `features` is [n, number of feature names];
    `vectors` have unit norm.
    """

    ids: Ids
    tenant: npt.NDArray[np.int32]
    namespace: npt.NDArray[np.int32]
    memory_type: npt.NDArray[np.int32]
    importance: Floats
    event_time: Floats
    expires_at: Floats
    features: Floats
    vectors: Singles

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls,
        ids: Sequence[bytes | uuid.UUID] | Ids,
        vectors: npt.ArrayLike,
        *,
        dim: int,
        event_time: npt.ArrayLike,
        tenant: npt.ArrayLike = 0,
        namespace: npt.ArrayLike = 0,
        memory_type: npt.ArrayLike = 0,
        importance: npt.ArrayLike | None = None,
        expires_at: npt.ArrayLike | None = None,
        features: npt.ArrayLike | None = None,
        feature_count: int = 0,
    ) -> RowBatch:
        """Checks and normalises; scalars are broadcast; missing importance and features are 1 (neutral).

        Raises InvalidArgument naming the field: wrong dimension, NaN, zero vector, i or f outside [0, 1].
        """
        keys = as_ids(ids)
        n = len(keys)
        rows = unit_rows(vectors, dim) if n else np.zeros((0, dim), np.float32)
        if len(rows) != n:
            raise InvalidArgument(
                f"{len(rows)} vectors for {n} ids", field="vector", remedy="send one vector for each id"
            )
        weights = _column(importance, n, 1.0, "importance")
        _within_unit(weights, "importance")
        channels = np.ones((n, feature_count)) if features is None else np.asarray(features, dtype=np.float64)
        if channels.shape != (n, feature_count):
            raise InvalidArgument(
                f"features has the shape {channels.shape}, expected {(n, feature_count)}",
                field="features",
                remedy="send one value for each configured feature",
            )
        if np.isnan(channels).any():
            raise InvalidArgument("features holds NaN", field="features", remedy="send numbers in [0, 1]")
        _within_unit(channels, "features")
        return cls(
            ids=keys,
            tenant=_codes(tenant, n, "tenant"),
            namespace=_codes(namespace, n, "namespace"),
            memory_type=_codes(memory_type, n, "memory_type"),
            importance=weights,
            event_time=_column(event_time, n, 0.0, "event_time"),
            expires_at=_column(expires_at, n, NEVER, "expires_at", infinite=True),
            features=np.ascontiguousarray(channels),
            vectors=rows,
        )

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> RowBatch:
        """The rows at these positions, in this order."""
        return RowBatch(*(getattr(self, name)[index] for name in self.__slots__))

    @classmethod
    def concatenate(cls, parts: Sequence[RowBatch]) -> RowBatch:
        """All rows of all parts, in order (the part itself where there is one)."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))


def last_of_each(rows: RowBatch) -> RowBatch:
    """The rows without earlier ones of the same id."""
    if len(rows) < 2:
        return rows
    # Equal ids have equal hashes, and sorting those is ten times as fast as sorting pairs
    ascending = np.sort(hash_ids(rows.ids))
    if (ascending[1:] != ascending[:-1]).all():
        return rows
    _, first = np.unique(rows.ids[::-1], axis=0, return_index=True)
    return rows if len(first) == len(rows) else rows.take(np.sort(len(rows) - 1 - first))


def by_hash(ids: Ids) -> tuple[Ids, npt.NDArray[np.uint64]]:
    """(ids, their hashes), ascending: neighbours in a look-up are then neighbours in memory."""
    hashed = hash_ids(ids)
    if len(ids) < _SORTED_FROM:
        return ids, hashed
    order = np.argsort(hashed)
    return ids[order], hashed[order]
