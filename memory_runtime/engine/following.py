"""Keeps what is in memory equal to the ledger: index, counts, coordinate collections, sequence."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from memory_runtime.engine.collections import CoordinateCollections
from memory_runtime.model.records import Scope
from memory_runtime.scoring import ExactIndex, Partition, Profile, RowBatch, ScoringParams
from memory_runtime.scoring.rows import Floats, as_ids
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Applied, Collection, Delete, Link, Put, Rows

log = logging.getLogger(__name__)

CountKey = tuple[str, str, str, int]


class Codes:
    """Small integers for names, in order of first sight; the index knows tenants, namespaces and types by them."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._codes = {name: code for code, name in enumerate(names)}

    def code(self, name: str) -> int:
        """The name's code, a new one at first sight. Only the one follower thread calls this."""
        return self._codes.setdefault(name, len(self._codes))

    def known(self, name: str) -> int | None:
        """The name's code, or None: then no row has it."""
        return self._codes.get(name)


def scoring_params(settings: SMFSettings, types: Codes) -> ScoringParams:
    """The formula's parameters as the settings say."""
    names = tuple(sorted(settings.feature_weights))
    weights = tuple(settings.feature_weights[name] for name in names)

    def profile(half_life: float | None) -> Profile:
        return Profile(settings.importance_exponent, settings.similarity_exponent, half_life, weights)

    by_type = {types.code(name): profile(half_life) for name, half_life in settings.half_life_by_type.items()}
    return ScoringParams(default=profile(settings.half_life), by_type=by_type, feature_names=names)


class Follower:
    """Applies durable changes in order of seq, on the ledger's writer thread; readers come from any thread."""

    def __init__(self, settings: SMFSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._tenants, self._namespaces = Codes(), Codes()
        self._types = Codes(sorted(settings.half_life_by_type))
        self.params = scoring_params(settings, self._types)
        self.index = self.fresh_index()
        self.coordinates = CoordinateCollections()
        self.counts: Counter[CountKey] = Counter()
        self.applied_seq = 0
        self.in_step = True
        self.loaded_rows = 0
        self.load_seconds = 0.0
        self._lock = threading.Lock()

    def fresh_index(self) -> ExactIndex:
        """An empty index, as the settings want it."""
        index = ExactIndex(self._settings.vector_dim, self.params, self._clock)
        index.set_hot_tier(self._settings.hot_tier_mb * 2**20)
        return index

    def rebuild(
        self,
        rows: Iterable[Rows],
        coordinates: Iterable[tuple[bytes, str, str, str, str]],
        counts: Mapping[CountKey, int],
        seq: int,
    ) -> None:
        """Puts a new index, filled from a scan that saw exactly what was done up to `seq`, in the place of the old one.

        No change may be applied meanwhile: at the start there is none, later it runs on the ledger's writer thread.
        """
        start = time.monotonic()
        index, collections, loaded = self.fresh_index(), CoordinateCollections(), 0
        for run in rows:
            self.fill(index, run)
            loaded += len(run.ids)
        if loaded:
            index.compact()
        for identity, tenant, namespace, memory_type, text in coordinates:
            collections.put(identity, tenant, namespace, memory_type, text)
        with self._lock:
            self.index, self.coordinates = index, collections
            self.counts = Counter(dict(counts))
            self.applied_seq = seq
            self.in_step = True
        self.loaded_rows, self.load_seconds = loaded, time.monotonic() - start
        log.info("index built: %d rows in %.2f s", loaded, self.load_seconds)

    def fill(self, index: ExactIndex, run: Rows) -> None:
        """Puts a run into another index than the one in use."""
        with self._lock:
            batch = self._batch(run)
        index.upsert(batch)

    def replace_index(self, index: ExactIndex) -> None:
        """Searches go to this index from now on, and changes too."""
        with self._lock:
            self.index = index

    def _batch(self, run: Rows) -> RowBatch:
        features = [json.loads(text) if text else None for text in run.features] if self.params.feature_names else []
        return RowBatch(
            ids=as_ids(run.ids),
            tenant=_coded(run.tenants, self._tenants),
            namespace=_coded(run.namespaces, self._namespaces),
            memory_type=_coded(run.memory_types, self._types),
            importance=np.array(run.importance),
            event_time=np.array(run.event_time),
            expires_at=np.array(run.expires_at),
            features=self._feature_columns(features, len(run.ids)),
            vectors=run.vectors,
        )

    def _feature_columns(self, features: Sequence[Mapping[str, float] | None], count: int) -> Floats:
        names = self.params.feature_names
        if not names:
            return np.ones((count, 0))
        return np.array([[(one or {}).get(name, 1.0) for name in names] for one in features], dtype=float)

    def apply(self, changes: Sequence[Applied]) -> None:
        """The ledger's observer. An error leaves `in_step` False: readiness says so, and housekeeping rebuilds."""
        with self._lock:
            try:
                self._apply(changes)
            except BaseException:
                self.in_step = False
                raise
            self.applied_seq = changes[-1].receipt.seq

    def _apply(self, changes: Sequence[Applied]) -> None:
        newest: dict[bytes, Applied] = {}
        for change in changes:
            if isinstance(change.write, Link):
                continue
            newest[change.receipt.id.bytes] = change
            self._count(change)
        puts = [one for one in newest.values() if isinstance(one.write, Put)]
        self._upsert(
            [one for one in puts if isinstance(one.write, Put) and one.write.collection is Collection.MEMORIES]
        )
        for one in puts:
            if isinstance(one.write, Put) and one.write.collection is Collection.COORDINATES:
                put = one.write
                self.coordinates.put(
                    put.id.bytes, put.scope.tenant, put.scope.namespace, put.memory_type, put.coordinate
                )
        gone = [identity for identity, one in newest.items() if isinstance(one.write, Delete)]
        if gone:
            self.index.delete(gone)
            self.coordinates.delete(gone)

    def _count(self, change: Applied) -> None:
        write = change.write
        if isinstance(write, Put) and change.receipt.created:
            self.counts[(write.scope.tenant, write.scope.namespace, write.memory_type, int(write.collection))] += 1
        elif isinstance(write, Delete):
            self.counts[(write.scope.tenant, write.scope.namespace, write.memory_type, int(write.collection))] -= 1

    def _upsert(self, changes: Sequence[Applied]) -> None:
        puts = [change.write for change in changes if isinstance(change.write, Put)]
        vectors = [put.vector for put in puts if put.vector is not None]
        if not puts:
            return
        # built as it is: what the ledger has committed was checked, and checking row by row would double the latency
        self.index.upsert(
            RowBatch(
                ids=as_ids([put.id for put in puts]),
                tenant=_coded([put.scope.tenant for put in puts], self._tenants),
                namespace=_coded([put.scope.namespace for put in puts], self._namespaces),
                memory_type=_coded([put.memory_type for put in puts], self._types),
                importance=np.array([change.importance_norm for change in changes]),
                event_time=np.array([put.event_time for put in puts]),
                expires_at=np.array([math.inf if put.expires_at is None else put.expires_at for put in puts]),
                features=self._feature_columns([put.features for put in puts], len(puts)),
                vectors=np.stack(vectors),
            )
        )

    def partition(self, scope: Scope) -> Partition | None:
        """The scope's codes; None where it holds nothing."""
        tenant, namespace = self._tenants.known(scope.tenant), self._namespaces.known(scope.namespace)
        return None if tenant is None or namespace is None else Partition(tenant, namespace)

    def type_code(self, memory_type: str) -> int | None:
        """The type's code; None where no memory has it."""
        return self._types.known(memory_type)

    def count(self, scope: Scope) -> int:
        """Live memories of the scope."""
        counts = dict(self.counts)
        return sum(
            n
            for (tenant, namespace, _, kind), n in counts.items()
            if (tenant, namespace, kind) == (scope.tenant, scope.namespace, 0)
        )


def _coded(names: Sequence[str], codes: Codes) -> NDArray[np.int32]:
    distinct = {name: codes.code(name) for name in dict.fromkeys(names)}
    return np.array([distinct[name] for name in names], np.int32)
