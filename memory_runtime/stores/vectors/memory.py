"""Vectors in this process's memory, searched exactly: for tests, and as the yardstick of approximate stores."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory_runtime.model.errors import InvalidArgument, Unavailable
from memory_runtime.model.records import Scope, Vector
from memory_runtime.stores.interfaces import VectorFilter, VectorHit, VectorPoint, VectorRemoval

Similarity = Callable[[Vector, Vector], NDArray[np.float64]]
"""float64 [n]: the dot products of float32 rows [n, dim] with a float32 query [dim]; `scoring.formula.exact_dot`."""
_NORM_ERROR: Final = 1e-3
_NONE: Final = (-1, -1)


class InMemoryVectorStore:
    """Gone with the process. Remembers what was removed, so that an older upsert brings nothing back.

    At most `most` points and as many removed ids; an upsert beyond that raises Unavailable. A search looks at every
    point of its scope: O(points · dim).
    """

    def __init__(self, dimension: int, similarity: Similarity, *, most: int = 200_000) -> None:
        self._dimension, self._similarity, self._most = dimension, similarity, most
        self._scopes: dict[Scope, dict[uuid.UUID, VectorPoint]] = {}
        self._home: dict[uuid.UUID, Scope] = {}
        self._removed: dict[uuid.UUID, tuple[int, int]] = {}
        self._closed = False

    @property
    def approximate(self) -> bool:
        """False: the best are found."""
        return False

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Forgets everything."""
        self._closed = True
        self._scopes.clear()
        self._home.clear()
        self._removed.clear()

    async def ping(self) -> bool:
        """Whether it is open."""
        return not self._closed

    async def upsert(self, points: Sequence[VectorPoint]) -> None:
        """O(n), all or none."""
        self._check_open()
        for at, point in enumerate(points):
            self._check_vector(point.vector, f"points[{at}].vector")
        if len(self._home.keys() | {point.id for point in points}) > self._most:
            raise Unavailable(f"memory: holds {self._most} points already", remedy="use Qdrant", retry_after=60.0)
        for point in points:
            held = self._held(point.id)
            known = max(_NONE if held is None else (held.epoch, held.seq), self._removed.get(point.id, _NONE))
            if (point.epoch, point.seq) > known:
                self._drop(point.id)
                self._removed.pop(point.id, None)
                self._home[point.id] = point.scope
                self._scopes.setdefault(point.scope, {})[point.id] = point

    async def remove(self, removals: Sequence[VectorRemoval]) -> None:
        """O(n)."""
        self._check_open()
        for removal in removals:
            held = self._held(removal.id)
            order = (removal.epoch, removal.seq)
            if held is None or (held.epoch, held.seq) <= order:
                self._drop(removal.id)
                self._removed[removal.id] = max(order, self._removed.pop(removal.id, _NONE))
        while len(self._removed) > self._most:
            del self._removed[next(iter(self._removed))]

    async def search(
        self, scope: Scope, query: Vector, limit: int, *, where: VectorFilter | None = None, weighted: bool = False
    ) -> list[VectorHit]:
        """O(points of the scope · dim)."""
        self._check_open()
        self._check_vector(query, "query")
        if limit < 1:
            raise InvalidArgument("limit: must be at least 1", field="limit", remedy="ask for one or more")
        points = [point for point in self._scopes.get(scope, {}).values() if _passes(point, where or VectorFilter())]
        if not points:
            return []
        cosine = self._similarity(np.stack([point.vector for point in points]), query)
        weight = np.array([point.log2_weight for point in points])
        positive = np.flatnonzero(cosine > 0)
        # in logarithms: 2^log2_weight overflows within days at short half-lives
        key = np.log2(cosine[positive]) + (weight[positive] if weighted else 0.0)
        order = sorted(range(len(positive)), key=lambda at: (-key[at], points[positive[at]].id.bytes))[:limit]
        best = [int(positive[at]) for at in order]
        return [VectorHit(points[at].id, float(cosine[at]), points[at].log2_weight, points[at].seq) for at in best]

    async def seqs(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
        """O(n)."""
        self._check_open()
        held = ((one, self._held(one)) for one in ids)
        return {one: point.seq for one, point in held if point is not None}

    async def count(self, scope: Scope | None = None) -> int:
        """O(1)."""
        self._check_open()
        return len(self._home) if scope is None else len(self._scopes.get(scope, {}))

    def _held(self, identity: uuid.UUID) -> VectorPoint | None:
        scope = self._home.get(identity)
        return None if scope is None else self._scopes[scope].get(identity)

    def _drop(self, identity: uuid.UUID) -> None:
        scope = self._home.pop(identity, None)
        if scope is not None:
            self._scopes[scope].pop(identity, None)

    def _check_vector(self, vector: Vector, field: str) -> None:
        if vector.shape != (self._dimension,):
            raise InvalidArgument(
                f"{field}: has the shape {vector.shape}, this store holds {self._dimension} dimensions",
                field=field,
                remedy="embed with the model that this store was made with",
            )
        norm = float(np.linalg.norm(vector.astype(np.float64)))
        if not abs(norm - 1.0) <= _NORM_ERROR:  # NaN fails too
            raise InvalidArgument(f"{field}: is no unit vector", field=field, remedy="normalise it first")

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("memory: the store is closed", remedy="open it again")


def _passes(point: VectorPoint, where: VectorFilter) -> bool:
    return (
        (where.memory_types is None or point.memory_type in where.memory_types)
        and _within(point.event_time, where.event_time)
        and _within(point.log2_weight, where.log2_weight)
        and (where.at is None or point.expires_at is None or point.expires_at > where.at)
    )


def _within(value: float, bounds: tuple[float, float] | None) -> bool:
    return bounds is None or bounds[0] <= value < bounds[1]
