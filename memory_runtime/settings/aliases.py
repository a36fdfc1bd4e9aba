"""Other names that settings are known by: those of the service we replace (wire-compat.md, section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ALIASES: dict[str, str] = {
    "MEMORY_MODE": "mode",
    "SOMA_MEMORY_MODE": "mode",
    "SOMA_MEMORY_NAMESPACE": "namespace",
    "SOMA_MEMORY_DATA_DIR": "data_dir",
    "UVICORN_PORT": "http_port",
    "UVICORN_HOST": "http_host",
    "SOMA_RATE_LIMIT_WINDOW": "rate_limit_window_seconds",
    "POSTGRES_URL": "postgres_url",
    "SOMA_INFRA__POSTGRES": "postgres_url",
    "POSTGRES_SSL_MODE": "postgres_ssl_mode",
    "POSTGRES_SSL_ROOT_CERT": "postgres_ssl_root_cert",
    "POSTGRES_SSL_CERT": "postgres_ssl_cert",
    "POSTGRES_SSL_KEY": "postgres_ssl_key",
    "POSTGRES_POOL_SIZE": "postgres_pool_size",
    "REDIS_URL": "redis_url",
    "SOMA_INFRA__REDIS": "redis_url",
    "REDIS_HOST": "redis_host",
    "REDIS_PORT": "redis_port",
    "REDIS_DB": "redis_db",
    "QDRANT_URL": "qdrant_url",
    "SOMA_INFRA__QDRANT": "qdrant_url",
    "QDRANT_HOST": "qdrant_host",
    "QDRANT_PORT": "qdrant_port",
    "QDRANT_API_KEY": "qdrant_api_key",
    "QDRANT_TLS": "qdrant_tls",
    "QDRANT_TLS_CERT": "qdrant_tls_cert",
    "QDRANT_COLLECTION": "qdrant_collection",
    "NEO4J_URI": "neo4j_url",
    "NEO4J_URL": "neo4j_url",
    "NEO4J_USER": "neo4j_username",
    "NEO4J_PASSWORD": "neo4j_password",
    "ETCD_ENDPOINTS": "etcd_endpoints",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka_bootstrap_servers",
    "SOMA_INFRA__KAFKA": "kafka_bootstrap_servers",
    "EVENTING_ENABLED": "eventing_enabled",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "otel_exporter_otlp_endpoint",
    "OTEL_SERVICE_NAME": "otel_service_name",
    "KAFKA_SECURITY_PROTOCOL": "kafka_security_protocol",
    "KAFKA_SSL_CA_LOCATION": "kafka_ssl_ca_location",
    "KAFKA_SSL_CERTIFICATE_LOCATION": "kafka_ssl_certificate_location",
    "KAFKA_SSL_KEY_LOCATION": "kafka_ssl_key_location",
    "KAFKA_SSL_KEY_PASSWORD": "kafka_ssl_key_password",
    "KAFKA_SASL_MECHANISM": "kafka_sasl_mechanism",
    "KAFKA_SASL_USERNAME": "kafka_sasl_username",
    "KAFKA_SASL_PASSWORD": "kafka_sasl_password",
    "KAFKA_MEMORY_EVENTS_TOPIC": "kafka_memory_events_topic",
    "KAFKA_DLQ_TOPIC": "kafka_dlq_topic",
    "KAFKA_AUDIT_TOPIC": "kafka_audit_topic",
    "KAFKA_CONSUMER_GROUP": "kafka_consumer_group",
    "KAFKA_SCHEMA_REGISTRY_URL": "kafka_schema_registry_url",
    "CONSUMER_METRICS_PORT": "consumer_metrics_port",
}
"""Another name → the setting. A setting's own name (`SOMA_NAMESPACE`) wins over its alias."""


def _forced_hash(value: str) -> dict[str, Any]:
    return {"embedding_provider": "hash"} if value.strip().lower() in {"1", "true", "yes", "on"} else {}


DERIVED: dict[str, Callable[[str], dict[str, Any]]] = {"SOMA_FORCE_HASH_EMBEDDINGS": _forced_hash}
"""Names whose value becomes another setting's value."""

NOT_SETTINGS: frozenset[str] = frozenset({"SOMA_CONFIG_FILE", "SOMA_SECRETS_DIR", "SOMA_SECRETS_PATH"})
"""Where settings are found; not settings themselves."""

FOREIGN_PREFIXES: tuple[str, ...] = ("SOMA_OPERATOR_", "SOMA_TEST_", "SOMA_E2E_", "SOMA_BENCH_", "SOMA_DEMO_")
FOREIGN: frozenset[str] = frozenset({"SOMA_CACHE", "SOMA_PYTHON", "SOMA_URL", "SOMA_TOKEN", "SOMA_TENANT"})
"""Variables of our operator, our tests and our clients, which the runtime must not complain of."""

WITHOUT_EFFECT: dict[str, str] = {
    **dict.fromkeys(
        ("SOMA_CIRCUIT_FAILURE_THRESHOLD", "SOMA_CIRCUIT_RESET_INTERVAL"),
        "a back end's circuit opens after five failures in a row, and is probed after a second",
    ),
    **dict.fromkeys(
        ("SOMA_PRUNING_INTERVAL_SECONDS", "SFM_FAST_CORE", "SOMA_FAST_CORE_INITIAL_CAPACITY"),
        "the exact index needs no pruning and no separate core",
    ),
    **dict.fromkeys(
        ("SOMA_SIMILARITY_METRIC", "SOMA_SIMILARITY_ALLOW_NEGATIVE"),
        "similarity is the cosine, and negative similarity scores zero",
    ),
    **dict.fromkeys(
        (
            "SOMA_IMPORTANCE_RESERVOIR_MAX",
            "SOMA_IMPORTANCE_RECOMPUTE_STRIDE",
            "SOMA_IMPORTANCE_WINSOR_DELTA",
            "SOMA_IMPORTANCE_LOGISTIC_TARGET_RATIO",
            "SOMA_IMPORTANCE_LOGISTIC_K_MAX",
        ),
        "the importance normaliser uses these constants as published",
    ),
    **dict.fromkeys(
        (
            "SOMA_DECAY_AGE_HOURS_WEIGHT",
            "SOMA_DECAY_RECENCY_HOURS_WEIGHT",
            "SOMA_DECAY_ACCESS_WEIGHT",
            "SOMA_DECAY_IMPORTANCE_WEIGHT",
            "SOMA_DECAY_THRESHOLD",
        ),
        "decay never deletes here; set SOMA_HALF_LIFE for decayed recall",
    ),
    **dict.fromkeys(
        ("SOMA_ENABLE_BATCH_UPSERT", "SOMA_BATCH_SIZE", "SOMA_BATCH_FLUSH_MS"),
        "concurrent writes share a commit without being told to",
    ),
    "QDRANT_EXTRA_COLLECTION": "one collection holds every namespace, told apart by its points' fields",
    "SOMA_HYBRID_CANDIDATE_MULTIPLIER": "hybrid recall searches the whole index",
    "UVICORN_WORKERS": "one process serves; the index lives in it",
}
"""Settings of the service we replace that are accepted and change nothing, each with the reason."""

COMPAT_PROFILE: dict[str, Any] = {
    "vector_dim": 768,
    "model_name": "microsoft/codebert-base",
    "hybrid_recall_default": True,
    "importance_exponent": 0.0,
    "max_memory_size": 100_000,
    "rate_limit_max": 60,
    "stats_open": True,
}
"""The defaults of the service we replace, in force with `compat_profile` where nothing else is said."""
