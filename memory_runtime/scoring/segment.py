"""A segment: rows that no longer move, sorted by partition, type and weight, so that each query reads one run from its
top.

All partitions share a segment. A run is the rows of one (tenant, namespace, type), by descending L; a zone is a
stretch of a run whose weights fit float32 beside one whole-number reference, so that no range of ages overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes, kernel
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.codes import Bytes, Coded
from memory_runtime.scoring.formula import LogWeight, log_weight, static_log
from memory_runtime.scoring.kernel import GROUP
from memory_runtime.scoring.params import Profile, ScoringParams
from memory_runtime.scoring.room import empty, is_mapped
from memory_runtime.scoring.rows import Floats, Ids, Ints, RowBatch, Singles, hash_ids

ZONE_SPAN: Final = 100.0
WEIGHT_FLOOR: Final = np.float32(2.0**-120)
"""A weight of this means 'at most this': the kernel takes no lower bound from it."""

Vectors = npt.NDArray[np.floating]
_SUM_LIMIT: Final = 2.0**26


class Runs(NamedTuple):
    """Where each (tenant, namespace, type) lies: run r is rows start[r]..start[r+1], zones zone[r]..zone[r+1].

    `partition` is tenant and namespace as one ascending number.
    """

    tenant: npt.NDArray[np.int32]
    namespace: npt.NDArray[np.int32]
    memory_type: npt.NDArray[np.int32]
    start: Ints
    zone: Ints
    partition: Ints


class Guard(Protocol):
    """Checks mapped rows before their first use; `broken` once it has found damage."""

    broken: bool

    def __call__(self, rows: npt.NDArray[np.int64], /) -> None:
        """Raises SnapshotUnusable where a byte of these rows has changed."""


@dataclass(slots=True, eq=False)
class Segment:
    """The columns of n sorted rows; shapes as in kernel/scan.h. Only deaths (`dead` of them) change once it is made."""

    name: str
    basis: Basis
    ids: Ids
    importance: Floats
    features: Floats
    vectors: Vectors
    records: Bytes
    prefix: Bytes
    head: Singles
    weight: Singles
    error: float
    norm: float
    runs: Runs
    zone_start: Ints
    zone_reference: Floats
    latest: Floats
    hashes: npt.NDArray[np.uint64]
    hash_order: npt.NDArray[np.uint32]
    dead: int = 0
    check: Guard | None = None
    file: Path | None = None
    layout: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, ids: Ids, epoch: int, hashed: npt.NDArray[np.uint64] | None = None) -> Ints:
        """Positions of the rows alive at `epoch`, or -1; fastest where `hashed`, the hashes of the ids, ascend."""
        wanted = hash_ids(ids) if hashed is None else hashed
        found = np.full(len(ids), -1, np.int64)
        module = kernel.load()
        if module is not None:
            stride = self.records.shape[1]
            module.find(self.hashes, self.hash_order, self.ids, self.records, stride, epoch, ids, wanted, found)
            return found
        at = np.searchsorted(self.hashes, wanted)
        pending = np.flatnonzero(at < len(self.hashes))
        dead = codes.deaths(self.records)
        # Equal hashes stand side by side: the versions of one id that died here, and the rare collision
        while len(pending):
            pending = pending[self.hashes[at[pending]] == wanted[pending]]
            position = self.hash_order[at[pending]].astype(np.int64)
            death = dead[position]
            hit = (self.ids[position] == ids[pending]).all(axis=1) & ((death == 0) | (death > epoch))
            found[pending[hit]] = position[hit]
            pending = pending[~hit]
            at[pending] += 1
            pending = pending[at[pending] < len(self.hashes)]
        return found

    def batch(self, rows: npt.NDArray[np.intp], *, with_vectors: bool = True) -> RowBatch:
        """These rows as they were given; vectors are [n, 0] unless wanted (mapped ones are checked all the same)."""
        if self.check is not None:
            self.check(np.asarray(rows, np.int64))
        run = np.searchsorted(self.runs.start, rows, side="right") - 1
        return RowBatch(
            ids=self.ids[rows],
            tenant=self.runs.tenant[run],
            namespace=self.runs.namespace[run],
            memory_type=self.runs.memory_type[run],
            importance=self.importance[rows],
            event_time=codes.times(self.records)[rows],
            expires_at=codes.expiries(self.records)[rows],
            features=self.features[rows],
            vectors=self.vectors[rows].astype(np.float32, copy=False)
            if with_vectors
            else np.zeros((len(rows), 0), np.float32),
        )

    def resident_bytes(self) -> int:
        """Bytes held in memory; columns mapped from a file are not counted."""
        return sum(column.nbytes for column in self._columns() if not is_mapped(column))

    def stored_bytes(self) -> int:
        """Bytes of all columns, mapped or not."""
        return sum(column.nbytes for column in self._columns())

    def _columns(self) -> Iterator[npt.NDArray[Any]]:
        yield from (self.ids, self.importance, self.features, self.vectors, self.records, self.prefix, self.head)
        yield from (self.weight, self.hashes, self.hash_order)


def log_weights(batch: RowBatch, params: ScoringParams) -> LogWeight:
    """L of every row under its own profile."""
    pairs = (batch.tenant.astype(np.int64) << 31) | batch.memory_type
    kinds, member = np.unique(pairs, return_inverse=True)
    chosen = [params.profile(int(kind >> 31), int(kind & 0x7FFFFFFF)) for kind in kinds]
    distinct = list(dict.fromkeys(chosen))
    group = np.array([distinct.index(profile) for profile in chosen], np.int64)[member] if len(kinds) else member
    result = LogWeight(np.zeros(len(batch)), np.zeros(len(batch)))
    for number, profile in enumerate(distinct):
        rows = np.flatnonzero(group == number)
        part = _weights_of(batch, rows, profile)
        result.whole[rows], result.fraction[rows] = part
    return result


def _weights_of(batch: RowBatch, rows: npt.NDArray[np.intp], profile: Profile) -> LogWeight:
    static = static_log(batch.importance[rows], batch.features[rows], profile)
    return log_weight(static, batch.event_time[rows], profile.key_half_life)


def linear_weights(log2_weight: Floats) -> Singles:
    """2^x as float32, rounded up and floored: an upper bound of the weight."""
    linear = np.exp2(np.maximum(log2_weight, -126.0)).astype(np.float32)
    return np.maximum(np.nextafter(linear, np.float32(np.inf)), WEIGHT_FLOOR)


def order_of(batch: RowBatch, weight: LogWeight) -> tuple[npt.NDArray[np.intp], Runs]:
    """The sorted order, and where the runs begin in it (zones not yet)."""
    total = weight.whole + weight.fraction
    keys = np.stack([batch.tenant, batch.namespace, batch.memory_type])
    # Beyond 2^26 half-lives the sum would lose the fraction's bits, and the order with them
    wide = bool(len(batch)) and float(np.abs(weight.whole).max()) > _SUM_LIMIT
    descending = (-weight.fraction, -weight.whole) if wide else (-total,)
    if not wide and len(batch) and (keys == keys[:, :1]).all():
        order = np.argsort(-total, kind="stable")
        first = np.zeros(1, np.int64)
    else:
        order = np.lexsort((*descending, *keys[::-1]))
        ordered = keys[:, order]
        changed = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
        first = np.concatenate([np.zeros(min(1, len(batch)), np.int64), np.flatnonzero(changed) + 1])
    tenant, namespace, memory_type = keys[:, order[first]]
    bounds = np.append(first, len(batch)).astype(np.int64)
    partition = (tenant.astype(np.int64) << 31) | namespace
    return order, Runs(tenant, namespace, memory_type, bounds, np.zeros(0, np.int64), partition)


def zones_of(weight: LogWeight, starts: Ints) -> tuple[Ints, Floats, Ints]:
    """(zone starts with the end, their whole-number references, first zone of each run with the end)."""
    zone_start: list[int] = []
    reference: list[float] = []
    run_zone: list[int] = []
    for first, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        start = first
        run_zone.append(len(zone_start))
        while start < end:
            top = float(weight.whole[start])
            zone_start.append(start)
            reference.append(top)
            if weight.whole[end - 1] >= top - ZONE_SPAN:
                break
            start += int(np.searchsorted(-weight.whole[start:end], ZONE_SPAN - top, side="right"))
    ends = [int(starts[-1])] if len(starts) else [0]
    return (
        np.array(zone_start + ends, np.int64),
        np.array(reference, np.float64),
        np.array([*run_zone, len(zone_start)], np.int64),
    )


class Material(Protocol):
    """What a segment's rows are made from: their columns in a given order of rows."""

    def vectors(self, order: npt.NDArray[np.intp]) -> Vectors:
        """The stored vectors."""

    def records(self, order: npt.NDArray[np.intp], vectors: Vectors) -> Bytes:
        """The records, every row alive; `vectors` are what `vectors(order)` gave."""

    def coded(self, order: npt.NDArray[np.intp], vectors: Vectors) -> Coded:
        """The first-bound codes in the new segment's basis."""


class Given(NamedTuple):
    """New rows: everything is made from them. `kind` is what vectors are stored as."""

    batch: RowBatch
    basis: Basis
    norm: float
    kind: npt.DTypeLike

    def vectors(self, order: npt.NDArray[np.intp]) -> Vectors:
        """The stored vectors."""
        placed = empty(self.batch.vectors.shape, self.kind)
        if self.batch.vectors.dtype == self.kind:
            return np.take(self.batch.vectors, order, axis=0, out=placed, mode="clip")
        placed[:] = self.batch.vectors[order]
        return placed

    def records(self, order: npt.NDArray[np.intp], vectors: Vectors) -> Bytes:
        """The records, every row alive; `vectors` are what `vectors(order)` gave."""
        return codes.records_of(self.batch.event_time[order], self.batch.expires_at[order], vectors)

    def coded(self, order: npt.NDArray[np.intp], vectors: Vectors) -> Coded:
        """The first-bound codes."""
        return codes.encoded(vectors, self.basis, self.norm)


def build(
    name: str, batch: RowBatch, params: ScoringParams, basis: Basis, norm: float, material: Material | None = None
) -> Segment:
    """Sorts living rows into a segment; the batch's vectors are not looked at where `material` has what is wanted."""
    kind = np.float16 if params.vector_storage == "float16" else np.float32
    material = material or Given(batch, basis, norm, kind)
    weight = log_weights(batch, params)
    order, runs = order_of(batch, weight)
    weight = weight.take(order)
    zone_start, reference, run_zone = zones_of(weight, runs.start)
    sizes = np.diff(zone_start)
    linear = linear_weights(weight.whole - np.repeat(reference, sizes) + weight.fraction)
    ids, event_time = batch.ids[order], batch.event_time[order]
    hashes = hash_ids(ids)
    hash_order = np.argsort(hashes, kind="stable").astype(np.uint32)
    vectors = material.vectors(order)
    coded = material.coded(order, vectors)
    return Segment(
        name=name,
        basis=basis,
        ids=ids,
        importance=batch.importance[order],
        features=batch.features[order],
        vectors=vectors,
        records=material.records(order, vectors),
        prefix=coded.prefix,
        head=coded.head,
        weight=pad_group(linear),
        error=coded.error,
        norm=norm,
        runs=runs._replace(zone=run_zone),
        zone_start=zone_start,
        zone_reference=reference,
        latest=np.maximum.reduceat(event_time, runs.start[:-1]) if len(batch) else np.zeros(0),
        hashes=hashes[hash_order],
        hash_order=hash_order,
    )


def pad_group(weight: Singles) -> Singles:
    """Weights padded with zeros (hidden rows) to whole groups."""
    padded = np.zeros(-(-len(weight) // GROUP) * GROUP, np.float32)
    padded[: len(weight)] = weight
    return padded
