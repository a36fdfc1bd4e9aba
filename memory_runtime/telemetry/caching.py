"""What is counted of the cache of hot reads."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

_MEMORY: Final = 0.999
"""Share of the hit ratio that a lookup leaves as it was: it speaks of about the last thousand."""


class CacheMetrics:
    """Lookups by result: hit, miss, stale (there, but older than what this process has heard), away."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lookups = Counter(
            "soma_cache_lookups_total", "Memories looked for in the read cache.", ("result",), registry=registry
        )
        for result in ("hit", "miss", "stale", "away"):
            self.lookups.labels(result)
        self.hit_ratio = Gauge(
            "soma_cache_hit_ratio", "Share of about the last 1,000 lookups that the cache answered.", registry=registry
        )
        self._seen = 0
        self._ratio = 0.0

    def record(self, result: str, times: int = 1) -> None:
        """So many lookups ended like this."""
        self.lookups.labels(result).inc(times)
        for _ in range(min(times, 1000)):
            self._seen = min(self._seen + 1, round(1 / (1 - _MEMORY)))
            self._ratio += ((1.0 if result == "hit" else 0.0) - self._ratio) / self._seen
        self.hit_ratio.set(self._ratio)
