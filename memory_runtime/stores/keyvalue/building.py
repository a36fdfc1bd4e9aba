"""The key-value store that the settings name: PostgreSQL with Redis before it, one of the two, or memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.interfaces import IKeyValueStore
from memory_runtime.stores.keyvalue.memory import InMemoryKeyValueStore
from memory_runtime.telemetry.backends import BackendMetrics

if TYPE_CHECKING:
    from memory_runtime.stores.keyvalue.postgres import PostgresKeyValueStore

HYBRID_PATIENCE = 0.1
"""Seconds that the hybrid waits for Redis before it asks PostgreSQL."""


def build_key_value_store(settings: SMFSettings, metrics: BackendMetrics | None = None) -> IKeyValueStore:
    """A store that has not been started, and connects nothing before. Raises SettingsError naming the setting."""
    named = settings.redis_url is not None or settings.redis_host is not None or bool(settings.redis_nodes)
    if settings.postgres_url is None and not named:
        return InMemoryKeyValueStore()
    try:
        return _with_drivers(settings, metrics)
    except ImportError:
        setting = "redis_url" if settings.postgres_url is None else "postgres_url"
        raise SettingsError(
            f"{setting}: the packages of the back ends are not installed",
            setting=setting,
            remedy="install the extra named distributed, or remove the setting",
        ) from None


def _with_drivers(settings: SMFSettings, metrics: BackendMetrics | None) -> IKeyValueStore:
    from memory_runtime.stores.keyvalue.hybrid import PostgresRedisHybridStore
    from memory_runtime.stores.keyvalue.redis import RedisKeyValueStore
    from memory_runtime.stores.redis.connecting import redis_target

    cache = redis_target(settings)
    if settings.postgres_url is None:
        assert cache is not None  # noqa: S101 -- one of the two is named
        return RedisKeyValueStore(cache.client(), cache.guard(metrics))
    truth = _postgres(settings, metrics)
    if cache is None or settings.cache_ttl_seconds == 0:
        return truth
    guard = cache.guard(metrics, attempt_timeout=min(HYBRID_PATIENCE, cache.timeout))
    return PostgresRedisHybridStore(truth, cache.client(), guard, ttl=settings.cache_ttl_seconds)


def _postgres(settings: SMFSettings, metrics: BackendMetrics | None) -> PostgresKeyValueStore:
    from memory_runtime.stores.keyvalue.postgres import PostgresKeyValueStore, postgres_failure
    from memory_runtime.stores.postgres import connecting
    from memory_runtime.stores.resilience import Guard, GuardPolicy

    target = connecting.target(settings)
    probed: list[connecting.Target] = []

    async def connect() -> Any:
        if not probed:  # the first connection finds out whether a pooler is between
            probed.append(await connecting.probe(target, settings))
        return await probed[0].connect()

    policy = GuardPolicy(
        attempt_timeout=settings.postgres_statement_timeout_seconds + settings.postgres_connect_timeout_seconds,
        timeout=2 * settings.postgres_statement_timeout_seconds,
        places=settings.postgres_pool_size,
    )
    guard = Guard("postgres", policy, classify=postgres_failure, metrics=metrics)
    return PostgresKeyValueStore(connect, guard, pool_size=settings.postgres_pool_size)
