"""The rate limit that all replicas share, where the settings name a Redis to keep it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.telemetry.backends import BackendMetrics

if TYPE_CHECKING:
    from memory_runtime.stores.redis.rate import SharedRate

PATIENCE_SECONDS: Final = 0.25
"""How long a request waits to be counted; then this process counts it alone."""


def build_shared_rate(settings: SMFSettings, metrics: BackendMetrics) -> SharedRate | None:
    """None where no Redis is named. Connects nothing. Raises SettingsError."""
    if settings.redis_url is None and settings.redis_host is None and not settings.redis_nodes:
        return None
    try:
        from memory_runtime.stores.redis.connecting import redis_target
        from memory_runtime.stores.redis.failures import redis_failure
        from memory_runtime.stores.redis.rate import SharedRate
        from memory_runtime.stores.resilience import Guard, GuardPolicy
    except ImportError:
        raise SettingsError(
            "redis_url: Redis needs packages that are not installed",
            setting="redis_url",
            remedy="install soma-memory-operator[distributed], or remove REDIS_URL",
        ) from None
    target = redis_target(settings)
    assert target is not None  # noqa: S101 -- the settings name it
    policy = GuardPolicy(
        attempts=2, attempt_timeout=PATIENCE_SECONDS, timeout=PATIENCE_SECONDS, places=target.pool_size
    )
    return SharedRate(target.client(), Guard("redis-rate", policy, classify=redis_failure, metrics=metrics))
