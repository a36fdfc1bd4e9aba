"""The one builder: every part of an engine is made here, from settings, and handed to the parts that need it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memory_runtime.embedding import EmbeddingProvider, build_provider
from memory_runtime.embedding.switching import SwitchingProvider
from memory_runtime.engine.cache import build_cache, wants_cache
from memory_runtime.engine.cache.changes import RecentChanges
from memory_runtime.engine.engine import MemoryEngine
from memory_runtime.engine.following import Follower
from memory_runtime.engine.graphs import GraphMark, Graphs, build_mirror
from memory_runtime.engine.ingesting import Ingestor
from memory_runtime.engine.starting import open_without_index
from memory_runtime.engine.vectors.backing import VectorBacking
from memory_runtime.model.errors import SomaError
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.contracts import Applied, NormaliserFactory, Observer
from memory_runtime.stores.sessions import Ledger
from memory_runtime.stores.sqlite import SQLiteLedger
from memory_runtime.telemetry.metrics import Metrics


def build_engine(
    settings: SMFSettings,
    *,
    provider: EmbeddingProvider | None = None,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = time.time,
    vector_store: VectorBacking | None = None,
) -> MemoryEngine:
    """An engine that has not been started.

    `provider`, `metrics`, `clock` (epoch seconds) and `vector_store` replace the usual ones.

    Raises SettingsError (exit 2) for settings that this version cannot serve.
    """
    embedding = provider if provider is not None else _provider(settings)
    follower = Follower(settings, clock)
    measured, mark, recent = metrics or Metrics(), GraphMark(), RecentChanges()
    measured.naming = settings.metrics_names
    mirror = build_mirror(settings, measured)
    # the cache hears of a change before the index does: it must never have heard less
    observers: list[Observer] = [recent.hear] if wants_cache(settings) else []
    observers += [follower.apply] if mirror is None else [follower.apply, mark]

    def observe(changes: Sequence[Applied]) -> None:
        for observer in observers:
            observer(changes)

    ledger = _ledger(settings, observe, measured)
    graphs = Graphs(ledger, settings.graph_backend, mirror, mark, measured)
    graphs.enabled = settings.graph_mirror_enabled
    cache = build_cache(settings, ledger, follower, recent, measured)
    cache.enabled = settings.cache_enabled

    def turn(generation: int) -> None:
        cache.outdate(generation)
        follower.outdate(generation)

    def turn_over(lost: bool) -> None:
        if lost:
            # first: until the index counts in the new history, nothing is answered from it, and nothing cached
            follower.lose()
            recent.forget()
            graphs.lose()
        cache.turn_over()

    ledger.on_generation, ledger.on_lineage = turn, turn_over
    store = vector_store if vector_store is not None else _vector_store(settings, measured)
    return MemoryEngine(settings, ledger, follower, SwitchingProvider(embedding), measured, graphs, cache, clock, store)


@dataclass(frozen=True, slots=True)
class Intake:
    """What applies events where no one recalls: a ledger without an index."""

    ledger: Ledger
    provider: SwitchingProvider
    ingestor: Ingestor
    settings: SMFSettings

    def open(self) -> None:
        """Opens the ledger and checks it against the settings. Blocking. Raises SettingsError or Unavailable."""
        open_without_index(self.ledger, self.provider, self.settings)

    def close(self) -> None:
        """Finishes queued commits. Blocking."""
        self.ledger.close()
        self.provider.close()


def build_intake(settings: SMFSettings, *, clock: Callable[[], float] = time.time) -> Intake:
    """An intake whose ledger has not been opened. Raises SettingsError."""
    provider = SwitchingProvider(_provider(settings))
    ledger = _ledger(settings, _nobody)
    return Intake(ledger, provider, Ingestor(ledger, provider, settings, clock), settings)


def _nobody(changes: Sequence[Applied]) -> None:
    """The observer where there is no index."""


def _provider(settings: SMFSettings) -> EmbeddingProvider:
    try:
        return build_provider(settings)
    except SomaError as error:
        raise SettingsError(error.message, setting=error.field, remedy=error.remedy) from None


def _vector_store(settings: SMFSettings, metrics: Metrics) -> VectorBacking | None:
    """The store that the settings name, not connected yet. Raises SettingsError."""
    if settings.qdrant_url is None and settings.qdrant_host is None:
        return None
    try:
        from memory_runtime.stores.qdrant import QdrantVectorStore, options_of
    except ImportError:
        raise SettingsError(
            "qdrant_url: the packages for Qdrant are not installed",
            setting="qdrant_url",
            remedy="install the extra named distributed, or remove the setting",
        ) from None
    options = options_of(settings)
    return None if options is None else QdrantVectorStore(options, metrics=metrics.backends)


def _ledger(settings: SMFSettings, observer: Observer, metrics: Metrics | None = None) -> Ledger:
    if settings.mode == "distributed":
        return _shared_ledger(settings, observer, metrics)
    return SQLiteLedger(settings.data_dir, normalisers=_normalisers(settings), observer=observer)


def _shared_ledger(settings: SMFSettings, observer: Observer, metrics: Metrics | None) -> Ledger:
    if settings.postgres_url is None:
        raise SettingsError(
            "postgres_url: distributed mode keeps its ledger in PostgreSQL, and none is named",
            setting="postgres_url",
            remedy="set POSTGRES_URL, or SOMA_MODE=embedded, which needs no other service",
        )
    if settings.retention_enabled and settings.retention_archive_dir is None:
        raise SettingsError(
            "retention_archive_dir: a replica's own directory goes with its pod, and the archives with it",
            setting="retention_archive_dir",
            remedy="name a directory on a volume that outlives the pod",
        )
    try:
        from memory_runtime.stores.postgres import PostgresLedger
    except ImportError as error:
        raise SettingsError(
            f"mode: distributed mode needs the package {error.name}",
            setting="mode",
            remedy="install soma-memory-operator[runtime,distributed]",
        ) from None
    backends = None if metrics is None else metrics.backends
    # where there is no index, what other replicas commit need not be read
    hears = None if observer is _nobody else observer
    return PostgresLedger(settings, normalisers=_normalisers(settings), observer=hears, metrics=backends)


def _normalisers(settings: SMFSettings) -> NormaliserFactory:
    floor = settings.importance_floor

    def normaliser(state: str | None) -> ImportanceNormaliser:
        return ImportanceNormaliser(floor) if state is None else ImportanceNormaliser.loads(state, floor)

    return normaliser
