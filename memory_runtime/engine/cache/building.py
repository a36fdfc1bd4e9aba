"""The cache as the settings want it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from memory_runtime.engine.cache.changes import RecentChanges
from memory_runtime.engine.cache.reading import Entries, RecordCache
from memory_runtime.engine.following import Follower
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.sessions import Ledger
from memory_runtime.telemetry.metrics import Metrics


def wants_cache(settings: SMFSettings) -> bool:
    """Whether the settings name Redis, and let it cache."""
    named = settings.redis_url is not None or settings.redis_host is not None or bool(settings.redis_nodes)
    return named and settings.cache_ttl_seconds > 0


def build_cache(
    settings: SMFSettings,
    ledger: Ledger,
    follower: Follower,
    changes: RecentChanges,
    metrics: Metrics,
) -> RecordCache:
    """One that asks Redis if `wants_cache`; else one that asks the ledger alone. Raises SettingsError."""
    entries, shut = None, None
    if wants_cache(settings):
        entries, shut = _entries(settings, metrics)
    return RecordCache(
        ledger, follower, changes, entries, ttl=settings.cache_ttl_seconds, metrics=metrics.cache, shut=shut
    )


def _entries(settings: SMFSettings, metrics: Metrics) -> tuple[Entries, Callable[[], Coroutine[Any, Any, None]]]:
    try:
        from memory_runtime.stores.redis.connecting import redis_target
        from memory_runtime.stores.redis.marked import MarkedEntries
    except ImportError:
        raise SettingsError(
            "redis_url: Redis needs packages that are not installed",
            setting="redis_url",
            remedy="install soma-memory-operator[distributed], or remove REDIS_URL",
        ) from None
    target = redis_target(settings)
    assert target is not None  # noqa: S101 -- the settings name it
    limit = settings.cache_timeout_ms / 1000
    client = target.client()
    guard = target.guard(metrics.backends, attempt_timeout=limit, timeout=limit)
    return MarkedEntries(client, guard, prefix="soma:cache:"), client.aclose
