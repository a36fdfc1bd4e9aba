"""The one builder: every part of an engine is made here, from settings, and handed to the parts that need it."""

from __future__ import annotations

import time
from collections.abc import Callable

from memory_runtime.embedding import EmbeddingProvider, build_provider
from memory_runtime.embedding.switching import SwitchingProvider
from memory_runtime.engine.engine import MemoryEngine
from memory_runtime.engine.following import Follower
from memory_runtime.model.errors import SomaError
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.sqlite import SQLiteLedger
from memory_runtime.telemetry.metrics import Metrics


def build_engine(
    settings: SMFSettings,
    *,
    provider: EmbeddingProvider | None = None,
    metrics: Metrics | None = None,
    clock: Callable[[], float] = time.time,
) -> MemoryEngine:
    """An engine that has not been started. `provider`, `metrics` and `clock` (epoch seconds) replace the usual ones.

    Raises SettingsError (exit 2) for settings that this version cannot serve.
    """
    if settings.mode == "distributed":
        raise SettingsError(
            "mode: distributed mode is not implemented in this version",
            setting="mode",
            remedy="set SOMA_MODE=embedded, which needs no other service",
        )
    try:
        embedding = provider if provider is not None else build_provider(settings)
    except SomaError as error:
        raise SettingsError(error.message, setting=error.field, remedy=error.remedy) from None
    follower = Follower(settings, clock)
    ledger = SQLiteLedger(settings.data_dir, normalisers=_normaliser, observer=follower.apply)
    return MemoryEngine(settings, ledger, follower, SwitchingProvider(embedding), metrics or Metrics(), clock)


def _normaliser(state: str | None) -> ImportanceNormaliser:
    return ImportanceNormaliser() if state is None else ImportanceNormaliser.loads(state)
