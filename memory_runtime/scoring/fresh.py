"""The rows that came last: appended, never moved, always scanned, and sealed into a segment when there are enough.

Readers see the first `count` rows of a view; the writer only writes behind them, so neither waits for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring import codes
from memory_runtime.scoring.basis import Basis
from memory_runtime.scoring.kernel import GROUP
from memory_runtime.scoring.rows import Ids, Ints, RowBatch, hash_ids, id_bytes
from memory_runtime.scoring.source import Table

CAPACITY: Final = 4096


class Fresh:
    """At most `CAPACITY` rows in order of arrival. One writer; readers use `table` with a count taken earlier."""

    def __init__(self, basis: Basis, feature_count: int, norm: float, kind: npt.DTypeLike) -> None:
        dim, size = basis.dim, basis.size
        self.basis, self.norm = basis, norm
        self.kind = kind
        self.name = "fresh"
        self.count = 0
        self.dead = 0
        self.error = 0.0
        self._where: dict[bytes, int] = {}
        self._run = np.zeros(CAPACITY, np.int32)
        self._runs: dict[tuple[int, int, int], int] = {}
        self._of_partition: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self.ids = np.zeros((CAPACITY, 2), np.uint64)
        self._importance = np.zeros(CAPACITY)
        self._features = np.zeros((CAPACITY, feature_count))
        self.vectors: npt.NDArray[np.floating] = np.zeros((CAPACITY, dim), kind)
        self.records = codes.empty_records(CAPACITY, dim)
        self.prefix = np.full((CAPACITY // GROUP, -(-size // 4), GROUP, 4), codes.NARROW_ZERO, np.uint8)
        self.head = np.zeros((CAPACITY // GROUP, 2, GROUP), np.float32)

    def __len__(self) -> int:
        return self.count

    @property
    def room(self) -> int:
        """How many rows still fit."""
        return CAPACITY - self.count

    @property
    def deaths(self) -> npt.NDArray[np.uint64]:
        """A view: the write that deleted each row."""
        return codes.deaths(self.records)

    def runs(self, tenant: int, namespace: int) -> list[tuple[int, int]]:
        """(memory type, run number) of each type that this partition has here."""
        # list(): the writer may add a run while a reader looks
        return list(self._of_partition.get((tenant, namespace), ()))

    def rows_of(self, runs: Sequence[int], count: int) -> npt.NDArray[np.intp]:
        """Positions below `count` of the rows of these runs."""
        held = self._run[:count]
        return np.flatnonzero(held == runs[0] if len(runs) == 1 else np.isin(held, runs))

    def table(self) -> Table:
        """The columns, for the scan; rows at or beyond a reader's count are not its own."""
        return Table(
            "fresh", self.basis, self.error, self.norm, self.ids, self._importance, self._features, self.vectors,
            self.records, self.prefix, self.head,
        )  # fmt: skip

    def append(self, batch: RowBatch) -> None:
        """Writes rows behind the last one; they show when the caller publishes a view with the new count."""
        start, end = self.count, self.count + len(batch)
        self.ids[start:end] = batch.ids
        self._importance[start:end] = batch.importance
        self._features[start:end] = batch.features
        self.vectors[start:end] = batch.vectors
        codes.write_records(self.records[start:end], batch.event_time, batch.expires_at, batch.vectors)
        self.error = max(
            self.error, codes.encode_into(self.prefix, self.head, start, batch.vectors, self.basis, self.norm)
        )
        self._where.update(zip(id_bytes(batch.ids), range(start, end), strict=True))
        keys = zip(batch.tenant.tolist(), batch.namespace.tolist(), batch.memory_type.tolist(), strict=True)
        self._run[start:end] = [self._run_number(key) for key in keys]
        self.count = end

    def _run_number(self, key: tuple[int, int, int]) -> int:
        number = self._runs.get(key)
        if number is None:
            number = self._runs[key] = len(self._runs)
            self._of_partition.setdefault(key[:2], []).append((key[2], number))
        return number

    def find(self, ids: Ids, epoch: int) -> Ints:
        """Positions of the living rows with these ids, -1 where there is none."""
        found = np.array([self._where.get(key, -1) for key in id_bytes(ids)], np.int64)
        death = self.deaths[np.maximum(found, 0)]
        found[(found >= 0) & (death != 0) & (death <= epoch)] = -1
        return found

    def among(self, ids: Ids, count: int, epoch: int) -> Ints:
        """Positions below `count` of the living rows with one of these ids, ascending; many ids cost little."""
        if len(ids) > count:
            # Fewer rows than ids: the rows look whether they may be meant
            hashed = hash_ids(ids)
            meant = ids[np.isin(hashed, hash_ids(self.ids[:count]))]
            ids = np.unique(meant, axis=0)
        found = self.find(ids, epoch)
        return np.unique(found[(found >= 0) & (found < count)])

    def batch(self, rows: npt.NDArray[np.intp], *, with_vectors: bool = True) -> RowBatch:
        """These rows as they were given; vectors [n, 0] unless wanted."""
        keys = np.array(list(self._runs) or np.zeros((0, 3)), np.int32).reshape(-1, 3)
        of_run = keys[self._run[rows]]
        return RowBatch(
            ids=self.ids[rows],
            tenant=of_run[:, 0],
            namespace=of_run[:, 1],
            memory_type=of_run[:, 2],
            importance=self._importance[rows],
            event_time=codes.times(self.records)[rows],
            expires_at=codes.expiries(self.records)[rows],
            features=self._features[rows],
            vectors=self.vectors[rows].astype(np.float32, copy=False)
            if with_vectors
            else np.zeros((len(rows), 0), np.float32),
        )

    def resident_bytes(self) -> int:
        """Bytes held, whether used or not."""
        columns = (self.ids, self._importance, self._features, self.vectors, self.records, self.prefix, self.head)
        return sum(column.nbytes for column in columns)
