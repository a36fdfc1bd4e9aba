"""The exact index: upsert, delete and search over the live rows of one process.

First version: rows in arrays, every search by the oracle. The interface is final.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable

import numpy as np
import numpy.typing as npt

from memory_runtime.model.errors import InvalidArgument, NotFound
from memory_runtime.scoring import formula
from memory_runtime.scoring.oracle import brute_force
from memory_runtime.scoring.params import UNSET, ScoringParams, Unset
from memory_runtime.scoring.rows import Ids, Partition, RowBatch, ScoredRow, as_ids, id_bytes, unit_rows


class ExactIndex:
    """Thread-safe for one writer and many readers; one per process. `clock` gives epoch seconds."""

    def __init__(self, dim: int, params: ScoringParams, clock: Callable[[], float] = time.time) -> None:
        self.dim = dim
        self.params = params
        self._clock = clock
        self._lock = threading.Lock()
        self._rows = self.batch([], np.zeros((0, dim)), event_time=0.0)
        self._where: dict[bytes, int] = {}

    def batch(
        self, ids: Iterable[bytes | uuid.UUID] | Ids, vectors: npt.ArrayLike, **columns: npt.ArrayLike | None
    ) -> RowBatch:
        """`RowBatch.of` with this index's dimension and features."""
        return RowBatch.of(as_ids(ids), vectors, dim=self.dim, feature_count=len(self.params.feature_names), **columns)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._where)

    def upsert(self, rows: RowBatch) -> None:
        """Inserts, or replaces rows of the same id (the last of a repeated id wins); visible when this returns."""
        with self._lock:
            start = len(self._rows)
            self._rows = RowBatch.concatenate([self._rows, rows])
            for offset, key in enumerate(id_bytes(rows.ids)):
                self._where[key] = start + offset

    def delete(self, ids: Iterable[bytes | uuid.UUID] | Ids) -> int:
        """Removes these rows and says how many there were; invisible when this returns."""
        with self._lock:
            return sum(self._where.pop(key, None) is not None for key in id_bytes(as_ids(ids)))

    def _live(self) -> RowBatch:
        with self._lock:
            return self._rows.take(np.fromiter(self._where.values(), np.intp, len(self._where)))

    def search(
        self,
        queries: npt.ArrayLike,
        *,
        top_k: int,
        partition: Partition,
        types: Collection[int] | None = None,
        now: float | None = None,
        as_of: float | None = None,
        half_life: float | Unset | None = UNSET,
        only: Iterable[bytes | uuid.UUID] | Ids | None = None,
        deadline: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[list[ScoredRow]]:
        """The exact top k of each query (float [q, dim]), best first, ties by id."""
        del deadline, cancelled
        if top_k < 1:
            raise InvalidArgument("top_k must be at least 1", field="top_k", remedy="ask for one or more")
        return brute_force(
            self._live(),
            queries,
            params=self.params,
            k=top_k,
            partition=partition,
            now=self._clock() if now is None else now,
            as_of=as_of,
            types=types,
            half_life=half_life,
            only=None if only is None else as_ids(only),
        )

    def explain(
        self,
        row: bytes | uuid.UUID,
        query: npt.ArrayLike,
        *,
        now: float | None = None,
        as_of: float | None = None,
        half_life: float | Unset | None = UNSET,
    ) -> formula.Explanation:
        """Every factor of one live row's score. Raises NotFound."""
        key = row.bytes if isinstance(row, uuid.UUID) else row
        with self._lock:
            at = self._where.get(key)
            if at is None:
                raise NotFound("no such row in the index", field="id", remedy="it may have been deleted")
            one = self._rows.take(np.array([at]))
        profile = self.params.profile(int(one.tenant[0]), int(one.memory_type[0]))
        return formula.explain(
            similarity=float(formula.exact_dot(one.vectors, unit_rows(query, self.dim, "query")[0])[0]),
            importance=float(one.importance[0]),
            features=one.features[0],
            feature_names=self.params.feature_names,
            event_time=float(one.event_time[0]),
            at=(self._clock() if now is None else now) if as_of is None else as_of,
            profile=profile,
            half_life=formula.effective_half_life(profile, half_life),
        )
