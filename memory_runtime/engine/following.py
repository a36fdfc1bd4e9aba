"""Keeps what is in memory equal to the ledger: index, counts, coordinate collections, sequence."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_runtime.engine.collections import CoordinateCollections
from memory_runtime.engine.type_bound import types_of
from memory_runtime.engine.vectors.residency import Residency
from memory_runtime.model.records import Scope
from memory_runtime.scoring import PINNED, ExactIndex, Partition, Profile, RowBatch, ScoringParams
from memory_runtime.scoring.rows import Floats, as_ids
from memory_runtime.scoring.search import View
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Applied, Collection, Delete, Link, Put, Rows
from memory_runtime.stores.sessions import Loaded
from memory_runtime.stores.values import CountKey, Facts

log = logging.getLogger(__name__)


class Codes:
    """Small integers for names, in order of first sight; the index knows tenants, namespaces and types by them."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._codes = {name: code for code, name in enumerate(names)}
        self._names = list(self._codes)

    def code(self, name: str) -> int:
        """The name's code, a new one at first sight. Only the one follower thread calls this."""
        code = self._codes.get(name)
        if code is None:
            code = len(self._names)
            self._names.append(name)
            self._codes[name] = code
        return code

    def names(self) -> tuple[str, ...]:
        """All names, in order of their codes."""
        return tuple(self._names)

    def known(self, name: str) -> int | None:
        """The name's code, or None: then no row has it."""
        return self._codes.get(name)

    def name(self, code: int) -> str:
        """The name of a code that was given."""
        return self._names[code]


def scoring_params(settings: SMFSettings, types: Codes) -> ScoringParams:
    """The formula's parameters as the settings say."""
    names = tuple(sorted(settings.feature_weights))
    weights = tuple(settings.feature_weights[name] for name in names)

    def profile(half_life: float | None) -> Profile:
        return Profile(settings.importance_exponent, settings.similarity_exponent, half_life, weights)

    by_type = {types.code(name): profile(half_life) for name, half_life in settings.half_life_by_type.items()}
    return ScoringParams(
        default=profile(settings.half_life),
        by_type=by_type,
        feature_names=names,
        residual_penalty=settings.residual_penalty,
    )


class Names(NamedTuple):
    """The names behind the codes that rows of an index carry, in order of their codes."""

    tenants: tuple[str, ...]
    namespaces: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """An index as of one sequence, and what its codes mean: `view` stays as it is while the index goes on."""

    index: ExactIndex
    view: View
    seq: int
    names: Names


def same_rows(built: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether rows read under the facts `built` are the ones that the facts `now` speak of.

    The first text brings an embedding, the first memory a dimension: that changes no row. A generation does.
    """
    return built.get(Facts.GENERATION) == now.get(Facts.GENERATION) and all(
        key not in built or built[key] == now.get(key) for key in Facts.OF_ROWS
    )


class Follower:
    """Applies durable changes in order of seq, on the ledger's writer thread; readers come from any thread."""

    def __init__(self, settings: SMFSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self.clock = clock
        self._tenants, self._namespaces = Codes(), Codes()
        self._types = Codes(sorted(settings.half_life_by_type))
        self.params = scoring_params(settings, self._types)
        self.residency = Residency(settings, clock)
        self.index = self.fresh_index()
        self.coordinates = CoordinateCollections()
        self.counts: Counter[CountKey] = Counter()
        self._living: dict[str, Counter[str]] = {}
        self.applied_seq = 0
        self.facts: Mapping[str, str] | None = None
        """The ledger's facts that the index's rows were read under; None while that is not certain."""
        self._in_step = True
        self.outdated = False
        self.losses = 0
        self.lost = False
        """Whether the index holds changes that the ledger has lost: nothing may be answered from it."""
        self.loaded_rows = 0
        self.load_seconds = 0.0
        self._lock = threading.Lock()

    @property
    def in_step(self) -> bool:
        """Whether the index follows the ledger; damage that a search finds in mapped files is out of step, too."""
        return self._in_step and not self.index.damaged

    @in_step.setter
    def in_step(self, value: bool) -> None:
        self._in_step = value

    def fresh_index(self) -> ExactIndex:
        """An empty index, as the settings want it."""
        index = ExactIndex(self._settings.vector_dim, self.params, self.clock)
        index.set_hot_tier(self._settings.hot_tier_mb * 2**20)
        return index

    def rebuild(self, found: Loaded, facts: Mapping[str, str]) -> None:
        """Puts a new index, filled from what was seen at one moment under these facts, in the place of the old one.

        No change may be applied meanwhile: at the start there is none, later it runs under `Ledger.exclusively`.
        """
        start = time.monotonic()
        index, loaded = self.fresh_index(), 0
        for run in found.rows:
            self.fill(index, run)
            loaded += len(run.ids)
        if loaded:
            index.compact()
            self.residency.settle_filling(index)
        self._put_in_place(index, found)
        self.facts = dict(facts)
        self.loaded_rows, self.load_seconds = loaded, time.monotonic() - start
        log.info("index built: %d rows in %.2f s", loaded, self.load_seconds)

    def _put_in_place(self, index: ExactIndex, found: Loaded) -> None:
        collections = CoordinateCollections()
        for identity, tenant, namespace, memory_type, text in found.coordinates:
            collections.put(identity, tenant, namespace, memory_type, text)
        with self._lock:
            self.index, self.coordinates = index, collections
            self.counts, self._living = Counter(found.counts), types_of(found.counts)
            self.applied_seq = found.seq
            self.in_step, self.outdated, self.lost = True, False, False

    def resume(self, index: ExactIndex, names: Names, pages: Iterable[Sequence[Applied]]) -> int:
        """Puts an index from a snapshot in place and applies the changes after it; returns how many there were.

        At the start only: nothing else may apply changes or read codes meanwhile. `settle` follows, or `forget`.
        """
        self._tenants, self._namespaces, self._types = (Codes(known) for known in names)
        replayed = 0
        self.index = index
        for page in pages:
            self._apply_rows(page)
            replayed += len(page)
        return replayed

    def settle(self, found: Loaded, facts: Mapping[str, str]) -> None:
        """After `resume`: counts, coordinates and sequence are those of `found`."""
        self._put_in_place(self.index, found)
        self.facts, self.loaded_rows = dict(facts), len(self.index)

    def forget(self) -> None:
        """Back to an empty index and no codes, for a rebuild."""
        self._tenants, self._namespaces = Codes(), Codes()
        self._types = Codes(sorted(self._settings.half_life_by_type))
        self.index = self.fresh_index()

    def checkpoint(self) -> Checkpoint:
        """The index as of now, for a snapshot; short: nothing is copied but the newest rows."""
        with self._lock:
            names = Names(self._tenants.names(), self._namespaces.names(), self._types.names())
            return Checkpoint(self.index, self.index.checkpoint(), self.applied_seq, names)

    def lose(self) -> None:
        """The ledger was restored, or failed over with a loss: what the index holds is not what the ledger holds."""
        self.lost, self.in_step = True, False
        self.losses += 1

    def outdate(self, generation: int) -> None:
        """Rows changed without a new seq (another replica put other importances or vectors in force): housekeeping
        builds the index anew. Until then the old order stands, whole, and readiness does not suffer.
        """
        log.info("the ledger's rows are of generation %d: the index will be built anew", generation)
        self.outdated = True

    def fill(self, index: ExactIndex, run: Rows) -> None:
        """Puts a run into an index; it is kept near its budget, unless it is in use: `keep_within_budget`."""
        with self._lock:
            batch = self._batch(run)
            if index is self.index:
                self.residency.touch(batch.ids)
                index.upsert(batch)
                return
        index.upsert(batch)
        self.residency.settle_filling(index)

    def batch(self, run: Rows) -> RowBatch:
        """The run as the index takes it."""
        with self._lock:
            return self._batch(run)

    def refresh(self, run: Rows) -> None:
        """Takes live rows as the ledger has them now; to be called where changes are applied."""
        with self._lock:
            self.index.upsert(self._batch(run))

    def keep_within_budget(self) -> int:
        """Gives up rows beyond the index's byte budget; blocking, beside writes and searches."""
        return self.residency.settle(self.index, self._lock, lambda: self.index)

    def replace_index(self, index: ExactIndex, facts: Mapping[str, str] | None) -> None:
        """Searches go to this index from now on, and changes too; its rows were read under these facts.

        None: they are not all there yet.
        """
        with self._lock:
            self.index, self.facts = index, None if facts is None else dict(facts)

    def _batch(self, run: Rows) -> RowBatch:
        features = [json.loads(text) if text else None for text in run.features] if self.params.feature_names else []
        return RowBatch(
            ids=as_ids(run.ids),
            tenant=_coded(run.tenants, self._tenants),
            namespace=_coded(run.namespaces, self._namespaces),
            memory_type=_pinned(_coded(run.memory_types, self._types), run.pinned),
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
        for change in changes:
            self._count(change)
        self._apply_rows(changes)

    def _apply_rows(self, changes: Sequence[Applied]) -> None:
        newest: dict[bytes, Applied] = {}
        for change in changes:
            if not isinstance(change.write, Link):
                newest[change.receipt.id.bytes] = change
        if newest:
            self.residency.touch(as_ids(list(newest)))
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
            self._add(write, 1)
        elif isinstance(write, Delete):
            self._add(write, -1)

    def _add(self, write: Put | Delete, change: int) -> None:
        """Counts a memory in or out; what has come to nothing is forgotten, or types that came and went would stay."""
        scope, memory_type = write.scope, write.memory_type
        counted: list[tuple[Counter[Any], Any]] = [
            (self.counts, (scope.tenant, scope.namespace, memory_type, int(write.collection))),
            (self._living.setdefault(scope.tenant, Counter()), memory_type),
        ]
        for counter, key in counted:
            counter[key] += change
            if not counter[key]:
                del counter[key]
        if not self._living[scope.tenant]:
            del self._living[scope.tenant]

    def living_types(self, tenant: str) -> Counter[str]:
        """Memories of each type that the tenant has, over its namespaces; not to be changed."""
        return self._living.get(tenant) or Counter()

    def _upsert(self, changes: Sequence[Applied]) -> None:
        # read from the stream after its memory was deleted, a put has no vector any more: the delete follows
        changes = [one for one in changes if isinstance(one.write, Put) and one.write.vector is not None]
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
                memory_type=_pinned(
                    _coded([put.memory_type for put in puts], self._types), [put.pinned for put in puts]
                ),
                importance=np.array([change.importance_norm for change in changes]),
                event_time=np.array([put.event_time for put in puts]),
                expires_at=np.array([math.inf if put.ends_at is None else put.ends_at for put in puts]),
                features=self._feature_columns([put.features for put in puts], len(puts)),
                vectors=np.stack(vectors),
            )
        )

    def partition(self, scope: Scope) -> Partition | None:
        """The scope's codes; None where it holds nothing."""
        tenant, namespace = self._tenants.known(scope.tenant), self._namespaces.known(scope.namespace)
        return None if tenant is None or namespace is None else Partition(tenant, namespace)

    def type_codes(self, memory_type: str) -> list[int]:
        """The codes of the type's memories, without and with a pin; none where no memory has the type."""
        code = self._types.known(memory_type)
        return [] if code is None else [code, code | PINNED]

    def type_name(self, code: int) -> str:
        """The type of a code, with or without a pin."""
        return self._types.name(code & ~PINNED)

    def count(self, scope: Scope) -> int:
        """Live memories of the scope."""
        counts = dict(self.counts)
        return sum(
            n
            for (tenant, namespace, _, kind), n in counts.items()
            if (tenant, namespace, kind) == (scope.tenant, scope.namespace, 0)
        )


def _pinned(codes: NDArray[np.int32], pinned: Sequence[bool]) -> NDArray[np.int32]:
    return codes | np.where(pinned, np.int32(PINNED), np.int32(0)) if any(pinned) else codes


def _coded(names: Sequence[str], codes: Codes) -> NDArray[np.int32]:
    distinct = {name: codes.code(name) for name in dict.fromkeys(names)}
    return np.array([distinct[name] for name in names], np.int32)
