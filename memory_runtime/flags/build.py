"""The flags that the settings describe. Drivers are imported only where the settings name what they drive."""

from __future__ import annotations

from memory_runtime.flags.flags import Apply, Flags
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.telemetry.backends import BackendMetrics
from memory_runtime.telemetry.supervision import Supervisor


def build_flags(
    settings: SMFSettings,
    apply: Apply,
    metrics: BackendMetrics | None = None,
    tasks: Supervisor | None = None,
) -> Flags:
    """Flags that have not been started; without etcd they are what is configured. Raises SettingsError."""
    if not settings.etcd_endpoints:
        return Flags(settings, apply)
    try:
        from memory_runtime.flags.etcd import Etcd
        from memory_runtime.stores.keyvalue.redis import RedisKeyValueStore
        from memory_runtime.stores.redis.connecting import redis_target
    except ImportError:
        raise SettingsError(
            "etcd_endpoints: flags need packages that are not installed",
            setting="etcd_endpoints",
            remedy="install soma-memory-operator[distributed], or leave etcd_endpoints out",
        ) from None
    target = redis_target(settings)
    cache = None if target is None else RedisKeyValueStore(target.client(), target.guard(metrics), prefix="soma:")
    return Flags(settings, apply, etcd=Etcd(settings, metrics), cache=cache, tasks=tasks)
