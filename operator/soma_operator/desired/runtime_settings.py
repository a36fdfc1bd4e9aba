"""The runtime's settings (settings.yaml) that a spec resolves to: only keys that the runtime's SMFSettings declares."""

from __future__ import annotations

from typing import Any

import yaml

from soma_operator.api import SomaMemorySpec
from soma_operator.api.scoring import Scoring, ScoringPreset
from soma_operator.api.values import amount
from soma_operator.desired.connections import HTTP_PORT, connections

__all__ = ["DATA_DIR", "GRPC_PORT", "HTTP_PORT", "ledger_settings", "quantity", "runtime_settings", "settings_text"]

GRPC_PORT = 50053
DATA_DIR = "/var/lib/soma"
_PRESET_HALF_LIFE = {
    ScoringPreset.SIMILARITY: "none",
    ScoringPreset.BALANCED: "30d",
    ScoringPreset.RECENT: "1d",
}


def runtime_settings(spec: SomaMemorySpec) -> dict[str, Any]:
    """Key → value, complete: what a spec leaves out is written with its default, so that the ConfigMap tells what is
    in force."""
    return {
        "mode": spec.mode.value,
        "namespace": spec.tenancy.namespace,
        "default_tenant": spec.tenancy.default_tenant,
        "data_dir": DATA_DIR,
        "http_port": HTTP_PORT,
        "grpc_port": GRPC_PORT,
        "cors_origins": list(spec.access.cors_origins),
        "max_request_body_mb": spec.api.max_request_body_megabytes,
        "request_timeout_seconds": spec.api.request_timeout_seconds,
        "top_k_max": spec.api.max_top_k,
        "rate_limit_max": spec.rate_limits.max_requests,
        "rate_limit_window_seconds": spec.rate_limits.window_seconds,
        "drain_seconds": drain_seconds(spec),
        "log_level": spec.observability.log_level.value,
        "log_format": spec.observability.log_format.value,
        "metrics_enabled": spec.observability.metrics_enabled,
        **_scoring(spec.scoring),
        **_retention(spec),
        **_connections(spec),
    }


def ledger_settings(spec: SomaMemorySpec) -> dict[str, Any]:
    """Those that a migration depends on."""
    return {key: value for key, value in runtime_settings(spec).items() if key.startswith("postgres_")}


def settings_text(spec: SomaMemorySpec) -> str:
    """The settings as YAML, keys in alphabetical order."""
    text: str = yaml.safe_dump(runtime_settings(spec), sort_keys=True, default_flow_style=False)
    return text


def drain_seconds(spec: SomaMemorySpec) -> int:
    """Time to finish requests: well within the grace period, so that the index is still saved before the kill."""
    return min(20, spec.pod_template.termination_grace_period_seconds // 2)


def _scoring(scoring: Scoring) -> dict[str, Any]:
    embedding = scoring.embedding
    values: dict[str, Any] = {
        "half_life": scoring.half_life or _PRESET_HALF_LIFE[scoring.preset],
        "half_life_by_type": dict(scoring.half_life_by_type),
        "importance_exponent": scoring.importance_exponent,
        "similarity_exponent": scoring.similarity_exponent,
        "feature_weights": dict(scoring.feature_weights),
        "hybrid_recall_default": scoring.hybrid.by_default,
        "hybrid_boost": scoring.hybrid.boost,
        "vector_dim": embedding.dimension,
        "embedding_provider": embedding.provider.value,
    }
    if embedding.model:
        values["model_name"] = embedding.model
    if embedding.revision:
        values["model_revision"] = embedding.revision
    return values


def _retention(spec: SomaMemorySpec) -> dict[str, Any]:
    retention = spec.retention
    values: dict[str, Any] = {
        # The runtime forgets nothing until told to: whoever writes a bound into the resource tells it.
        "retention_enabled": any((retention.ttl, retention.max_rows, retention.max_bytes)),
        "retention_max_rows": retention.max_rows or 0,
        "retention_max_bytes": _bound(retention.max_bytes) if retention.max_bytes else 0,
    }
    if retention.ttl:
        values["retention_ttl"] = retention.ttl
    return values


def _bound(text: str) -> int:
    """Bytes of a bound: at least 1, as 0 stands for none, and no more than the ledger can count to."""
    return min(max(1, quantity(text)), 2**63 - 1)


def _connections(spec: SomaMemorySpec) -> dict[str, Any]:
    return {key: value for connection in connections(spec) for key, value in connection.resolved().items()}


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity, rounded down."""
    return int(amount(text))
