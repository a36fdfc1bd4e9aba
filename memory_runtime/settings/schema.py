"""The settings' schema: every key, its type, its bound, its default and what it is for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from memory_runtime.model.weights import exceed_one
from memory_runtime.settings import kinds
from memory_runtime.settings.kinds import (
    HalfLife,
    Name,
    OptionalDuration,
    OptionalTopic,
    Port,
    PositiveDuration,
    Secret,
    Topic,
    Weight,
)


class SettingsError(Exception):
    """A setting that cannot be used: one sentence that names the setting and the remedy; the process exits with 2."""

    exit_code = 2

    def __init__(self, message: str, *, setting: str | None = None, remedy: str | None = None) -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.setting = setting
        self.remedy = remedy


def _wants_events(values: Any) -> Any:
    if isinstance(values, dict) and str(values.get("mode", "")).lower() == "evented_enterprise":
        return {"eventing_enabled": True} | values
    return values


class SMFSettings(BaseSettings):
    """All that can be set, with prefix `SOMA_` in the environment.

    Constructing it reads neither environment nor file: only `load_settings` does, once, at the start.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="SOMA_", protected_namespaces=(), validate_default=True
    )

    mode: Annotated[Literal["embedded", "distributed"], BeforeValidator(kinds.mode)] = Field(
        "embedded", description="Embedded keeps everything on one volume; distributed uses the named back ends."
    )
    compat_profile: bool = Field(
        False, description="Restores the defaults of the service we replace: 768 dimensions, hybrid recall, limits."
    )
    namespace: Name = Field("api_ns", description="The namespace of requests that name none.")
    default_tenant: Name = Field("default", description="The tenant of requests that name none.")
    data_dir: Path = Field(Path("soma-data"), description="The directory that holds the ledger and the snapshots.")

    http_host: str = Field("0.0.0.0", description="The address that HTTP listens on.")  # noqa: S104
    http_port: Port = Field(9595, description="The port that HTTP listens on; 0 takes a free one.")
    grpc_host: str = Field("0.0.0.0", description="The address that gRPC listens on.")  # noqa: S104
    grpc_port: Port = Field(50053, description="The port that gRPC listens on; 0 takes a free one.")
    api_token: Secret = Field(None, description="The bearer token that callers must present.")
    api_token_file: Path | None = Field(None, description="A file that holds the bearer token; read again on change.")
    auth_disabled: bool = Field(False, description="Serves without a token. Must be said: no token is an error.")
    stats_open: bool = Field(False, description="Whether /stats gives its four old counts without a token.")
    cors_origins: list[str] = Field(default_factory=list, description="Origins that a browser may call from.")
    max_request_body_mb: float = Field(5.0, gt=0, le=1024, description="The largest request body, in MiB.")
    request_timeout_seconds: float = Field(30.0, gt=0, description="The longest that a request may take.")
    rate_limit_max: int = Field(0, ge=0, description="Requests per caller and window; 0 is no limit.")
    rate_limit_window_seconds: float = Field(60.0, gt=0, description="The window of the rate limit.")
    drain_seconds: float = Field(20.0, ge=0, description="How long a stopping process finishes its requests.")

    vector_dim: int = Field(384, ge=1, le=4096, description="The dimension of every vector; fixed with the first row.")
    embedding_provider: Literal["auto", "transformer", "hash", "client"] = Field(
        "auto", description="What turns text into vectors; auto takes the transformer where its weights are present."
    )
    model_dir: Path | None = Field(None, description="The directory of the transformer's weights; never downloaded.")
    model_name: str = Field("sentence-transformers/all-MiniLM-L6-v2", description="The transformer's name.")
    model_revision: str | None = Field(None, description="The pinned revision that the weights must have.")
    reembed: bool = Field(
        False, description="Whether another embedding than the stored one may take its place, in the background."
    )
    previous_model_dir: Path | None = Field(
        None, description="The weights that the stored memories were embedded by, while reembed replaces them."
    )
    embedding_timeout_seconds: float = Field(10.0, gt=0, description="The longest that an embedding may take.")

    half_life: HalfLife = Field(None, description="The half-life of every memory, such as 30d; none is no decay.")
    half_life_by_type: dict[str, HalfLife] = Field(
        default_factory=dict, description="Half-lives of memory types that differ from half_life."
    )
    importance_exponent: float = Field(1.0, ge=0.0, le=8.0, description="Alpha: how much importance counts.")
    importance_floor: float = Field(
        0.8, gt=0.0, le=1.0, description="The least normalised importance; 1 makes every memory as important as any."
    )
    similarity_exponent: float = Field(1.0, gt=0.0, le=8.0, description="Beta: how much similarity counts.")
    feature_weights: dict[str, Weight] = Field(
        default_factory=dict, description="Exponents of the feature channels; their sum is at most 1."
    )
    hybrid_recall_default: bool = Field(False, description="Whether recall mixes in keyword hits unless told.")
    hybrid_boost: float = Field(2.0, ge=1.0, le=100.0, description="How much a keyword hit counts in hybrid recall.")
    top_k_max: int = Field(1000, ge=1, le=10_000, description="The largest top_k that a request may ask for.")

    max_memory_size: int = Field(0, ge=0, description="The most memories a tenant's namespace may hold; 0 is no cap.")
    max_memory_types: int = Field(
        1000, ge=1, le=1_000_000, description="The most memory types a tenant may have; each costs its every recall."
    )
    max_response_body_mb: float = Field(
        32.0, gt=0, le=1024, description="The most MiB of memories that one answer may hold; more is a 413."
    )
    history_versions: int = Field(
        16, ge=0, le=1000, description="Superseded versions kept of a memory, for as_of; 0 keeps none."
    )
    history_age: OptionalDuration = Field(
        90 * 86400.0, validate_default=False, description="How long a superseded version is kept; none is no bound."
    )
    retention_enabled: bool = Field(False, description="Whether anything is forgotten; the bounds below say what.")
    retention_ttl: OptionalDuration = Field(
        None, description="Memories stored longer ago than this, and without a ttl of their own, are forgotten."
    )
    retention_max_rows: int = Field(0, ge=0, description="Memories that a tenant's namespace keeps; 0 is no bound.")
    retention_max_bytes: int = Field(0, ge=0, description="Bytes that a tenant's namespace keeps; 0 is no bound.")
    retention_importance_weight: float = Field(0.4, ge=0, le=100, description="Gamma 1: importance in R.")
    retention_recency_weight: float = Field(0.3, ge=0, le=100, description="Gamma 2: recency of access in R.")
    retention_frequency_weight: float = Field(0.3, ge=0, le=100, description="Gamma 3: frequency of access in R.")
    retention_cost_weight: float = Field(0.1, ge=0, le=100, description="Gamma 4: bytes, taken from R.")
    retention_access_half_life: PositiveDuration = Field(
        30 * 86400.0, validate_default=False, description="Tau_r: the half-life of an access in R, such as 30d."
    )
    retention_interval_seconds: float = Field(60.0, gt=0, description="Time from one retention sweep to the next.")
    retention_round_rows: int = Field(20_000, ge=1, description="Memories that a sweep looks at before it rests.")
    retention_round_ms: float = Field(100.0, gt=0, description="Milliseconds that a sweep works before it rests.")
    retention_archive_dir: Path | None = Field(
        None, description="Where what is forgotten is archived first; data_dir/archive where it is left out."
    )
    gates_apply_allowed: bool = Field(False, description="Whether a gate's change may be applied, and stays applied.")
    recall_sample_rate: float = Field(
        0.001, ge=0, le=1, description="Share of recalls compared with the float64 oracle; 0 is none."
    )
    index_snapshot_seconds: float = Field(
        300.0, ge=0, description="How often the index is saved to data_dir/index, for a quick start; 0 is never."
    )
    index_snapshot_min_rows: int = Field(
        10_000, ge=0, description="A smaller index is not saved: it is built from the ledger in a moment."
    )
    hot_tier_mb: float = Field(64.0, gt=0, description="Size of the hot tier that hot_tier_hit_ratio is told for, MiB.")

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)
    ] = Field("INFO", description="The least severe level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="Log lines as JSON objects or as text.")
    metrics_enabled: bool = Field(True, description="Whether /metrics answers.")
    metrics_names: bool = Field(
        False, description="Whether /metrics, which asks for no token, names tenants, namespaces and link types."
    )
    debug_faults: bool = Field(False, description="Lets failpoints end this process: for tests, never in production.")
    failpoints: Annotated[str, AfterValidator(kinds.known_failpoints)] = Field(
        "", description="Where a test harness ends this process; refused without debug_faults."
    )

    otel_exporter_otlp_endpoint: str | None = Field(
        None, pattern=r"^https?://", description="The OTLP/HTTP collector that spans go to; none is no traces."
    )
    otel_service_name: Name = Field("soma-memory", description="The name that traces give this service.")

    postgres_url: Secret = Field(None, description="PostgreSQL of distributed mode.")
    postgres_ssl_mode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] | None = Field(
        None, description="How PostgreSQL's connection is encrypted and checked; left out, what postgres_url says."
    )
    postgres_ssl_root_cert: Path | None = Field(None, description="The CA that PostgreSQL's certificate must be from.")
    postgres_ssl_cert: Path | None = Field(None, description="The client certificate shown to PostgreSQL.")
    postgres_ssl_key: Path | None = Field(None, description="The private key of postgres_ssl_cert.")
    postgres_pool_size: int = Field(15, ge=1, le=1000, description="The most connections of one process to PostgreSQL.")
    postgres_connect_timeout_seconds: float = Field(5.0, gt=0, description="The longest that connecting may take.")
    postgres_statement_timeout_seconds: float = Field(30.0, gt=0, description="The longest that a statement may run.")
    postgres_lock_timeout_seconds: float = Field(5.0, gt=0, description="The longest wait for a lock.")
    postgres_statement_cache: Literal["auto", "on", "off"] = Field(
        "auto", description="Prepared statements; off behind a pooler in transaction mode, which auto detects."
    )
    postgres_migrate_at_start: bool = Field(
        False, description="Whether a start may migrate the database; else `soma migrate` is run before it."
    )
    redis_url: Secret = Field(None, description="Redis of distributed mode; wins over redis_host and redis_port.")
    redis_host: str | None = Field(None, description="Redis's host, where no redis_url is given.")
    redis_port: Port = Field(6379, description="Redis's port.")
    redis_db: int = Field(0, ge=0, le=1023, description="Redis's database number; a cluster has 0 alone.")
    redis_username: str | None = Field(None, description="The ACL user; left out, redis_url's, or the default user.")
    redis_password: Secret = Field(None, description="The password of redis_username; left out, redis_url's.")
    redis_topology: Literal["standalone", "sentinel", "cluster"] = Field(
        "standalone", description="One Redis, a primary that Sentinels name, or a Redis Cluster."
    )
    redis_nodes: list[str] = Field(
        default_factory=list, description="host:port of the Sentinels, or of some nodes of the cluster."
    )
    redis_sentinel_master: str = Field("mymaster", description="The name that the Sentinels know the primary by.")
    redis_sentinel_username: str | None = Field(None, description="The ACL user of the Sentinels themselves.")
    redis_sentinel_password: Secret = Field(None, description="The password of the Sentinels themselves.")
    redis_tls: bool = Field(False, description="Whether Redis is spoken to over TLS; a rediss:// URL says so too.")
    redis_tls_verify: Literal["full", "ca", "none"] = Field(
        "full",
        description="What of Redis's certificate is checked: chain and host name, the chain, or nothing.",
    )
    redis_ca_cert: Path | None = Field(None, description="The CA of Redis's certificate; left out, the system's.")
    redis_cert: Path | None = Field(None, description="The client certificate shown to Redis.")
    redis_key: Path | None = Field(None, description="The private key of redis_cert.")
    redis_pool_size: int = Field(50, ge=1, le=10_000, description="The most connections of one process to Redis.")
    redis_timeout_seconds: float = Field(1.0, gt=0, description="The longest that a call to Redis may take.")
    cache_enabled: bool = Field(True, description="Whether reads look in Redis before the ledger.")
    cache_ttl_seconds: float = Field(
        300.0, ge=0, description="How long Redis keeps a memory that was read; 0 caches nothing."
    )
    cache_timeout_ms: float = Field(
        20.0, gt=0, description="The longest that a read waits for the cache before it asks the ledger, milliseconds."
    )
    qdrant_url: Secret = Field(None, description="Qdrant's REST URL, which wins over qdrant_host and qdrant_port.")
    qdrant_host: str | None = Field(None, description="Qdrant's host, where no qdrant_url is given.")
    qdrant_port: Port = Field(6333, description="Qdrant's REST port.")
    qdrant_grpc_port: Port = Field(6334, description="Qdrant's gRPC port.")
    qdrant_prefer_grpc: bool = Field(True, description="Whether Qdrant is spoken to over gRPC; else over REST.")
    qdrant_api_key: Secret = Field(None, description="The API key that Qdrant asks for.")
    qdrant_tls: bool = Field(False, description="Whether Qdrant is spoken to over TLS; an https:// URL says so too.")
    qdrant_tls_cert: Path | None = Field(None, description="The CA of Qdrant's certificate; left out, the system's.")
    qdrant_collection: Name | None = Field(None, description="Qdrant's collection; left out, the namespace's name.")
    qdrant_shard_number: int | None = Field(None, ge=1, le=1024, description="Shards; left out, Qdrant's choice.")
    qdrant_replication_factor: int | None = Field(
        None, ge=1, le=64, description="Copies of each shard; left out, Qdrant's choice."
    )
    qdrant_write_consistency_factor: int | None = Field(
        None, ge=1, le=64, description="Copies that must have a write; left out, Qdrant's choice."
    )
    qdrant_quantization: Literal["none", "int8"] = Field(
        "none", description="How Qdrant compresses the vectors that its graph is searched by."
    )
    qdrant_timeout_seconds: float = Field(5.0, gt=0, description="The longest that a call to Qdrant may take.")
    qdrant_batch_size: int = Field(500, ge=1, le=10_000, description="The most points in one write to Qdrant.")
    qdrant_queue_limit: int = Field(
        10_000, ge=1, description="Updates that Qdrant may have queued before the relay slows down."
    )
    qdrant_band_width: float = Field(
        1.0, gt=0, le=16, description="The width of a band of L, in doublings of the weight (docs/qdrant.md)."
    )
    qdrant_reconcile_seconds: float = Field(
        900.0, ge=0, description="Time from one comparison of Qdrant with the ledger to the next; 0 is never."
    )
    index_budget_mb: float = Field(
        0.0, ge=0, description="MiB of rows kept in memory; the lightest beyond it are found through Qdrant. 0: all."
    )
    residual_penalty: float = Field(
        1.0, gt=0, le=1, description="Factor on the score of what the approximate route found (gate G5)."
    )

    eventing_enabled: bool | None = Field(
        None, description="Whether changes are published to Kafka; left out, they are where brokers are named."
    )
    event_embeddings: bool = Field(
        True, description="Whether events carry the memory's vector; without it consumers embed the text again."
    )
    kafka_bootstrap_servers: str | None = Field(None, description="Kafka brokers: host:port, separated by commas.")
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
        BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v),
    ] = Field("PLAINTEXT", description="How Kafka is spoken to.")
    kafka_ssl_ca_location: Path | None = Field(
        None, description="The CA of the brokers' certificates; left out, the system's."
    )
    kafka_ssl_certificate_location: Path | None = Field(None, description="The client certificate shown to Kafka.")
    kafka_ssl_key_location: Path | None = Field(None, description="The private key of kafka_ssl_certificate_location.")
    kafka_ssl_key_password: Secret = Field(None, description="The password of kafka_ssl_key_location.")
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v),
    ] = Field("PLAIN", description="How a SASL user proves who it is.")
    kafka_sasl_username: str | None = Field(None, description="The SASL user.")
    kafka_sasl_password: Secret = Field(None, description="The password of kafka_sasl_username.")
    kafka_memory_events_topic: Topic = Field("memory.events", description="The topic of memory events.")
    kafka_dlq_topic: Topic = Field("memory.dlq", description="The topic of what can never be applied or published.")
    kafka_audit_topic: OptionalTopic = Field(
        None, description="The topic of the audit chain's lines; none: they stay in the ledger."
    )
    kafka_config_updates_topic: Topic = Field(
        "config.updates", description="The topic whose records make a process read its settings and flags again."
    )
    kafka_consumer_group: Name = Field("soma-consumer-group", description="The group of consumers.")
    kafka_max_message_bytes: int = Field(
        1_000_000, ge=1024, le=2**30, description="The largest event that is published; the topic must allow it."
    )
    kafka_schema_registry_url: Secret = Field(
        None, description="A Confluent-compatible schema registry; events are then framed with their schema's id."
    )
    consumer_in_serve: bool = Field(
        False, description="Whether `serve` consumes events too: for embedded mode, where one process has the ledger."
    )
    consumer_batch_size: int = Field(500, ge=1, le=10_000, description="The most events of one ledger commit.")
    consumer_batch_window_ms: float = Field(
        50.0, ge=0, description="How long a batch waits to be filled, milliseconds."
    )
    consumer_revoke_seconds: float = Field(
        20.0, gt=0, description="How long a batch may take to be finished when its partitions go to another consumer."
    )
    consumer_stall_seconds: float = Field(
        60.0, gt=0, description="How long the ledger may be away before the consumer leaves its group for a while."
    )
    consumer_metrics_port: Port = Field(8001, description="The port of the consumer's metrics; 0 takes a free one.")
    dlq_retry_seconds: float = Field(300.0, ge=0, description="The age at which a refused event is tried again.")
    dlq_max_attempts: int = Field(5, ge=1, description="Tries after which a refused event waits for a person.")

    graph_backend: Literal["sql", "networkx", "neo4j"] = Field(
        "sql", description="What walks over links are asked of; the ledger answers wherever another is away or behind."
    )
    graph_mirror_enabled: bool = Field(
        True, description="Whether walks over links ask graph_backend; false: SQL answers all, and it is fed meanwhile."
    )
    graph_max_edges: int = Field(
        1_000_000, ge=1, description="The most links that networkx keeps in memory, about 1 KB each; then SQL answers."
    )
    neo4j_url: Secret = Field(None, description="Neo4j 5, such as neo4j+s://HOST:7687; +s is TLS, verified.")
    neo4j_username: str | None = Field(None, description="The user; left out, neo4j_url's.")
    neo4j_password: Secret = Field(None, description="The password of neo4j_username; left out, neo4j_url's.")
    neo4j_database: str = Field("neo4j", min_length=1, description="The database; it should hold nothing else.")
    neo4j_ca_cert: Path | None = Field(None, description="The CA of Neo4j's certificate; left out, the system's.")
    neo4j_cert: Path | None = Field(None, description="The client certificate shown to Neo4j.")
    neo4j_key: Path | None = Field(None, description="The private key of neo4j_cert.")
    neo4j_pool_size: int = Field(20, ge=1, le=1000, description="The most connections of one process to Neo4j.")
    neo4j_timeout_seconds: float = Field(
        2.0, gt=0, description="The longest that a walk waits for Neo4j before SQL answers."
    )
    etcd_endpoints: list[str] = Field(
        default_factory=list, description="etcd's endpoints, such as https://HOST:2379; none: flags are the settings."
    )
    etcd_username: str | None = Field(None, description="The etcd user, where authentication is on.")
    etcd_password: Secret = Field(None, description="The password of etcd_username.")
    etcd_ca_cert: Path | None = Field(None, description="The CA of etcd's certificate; left out, the system's.")
    etcd_cert: Path | None = Field(None, description="The client certificate shown to etcd.")
    etcd_key: Path | None = Field(None, description="The private key of etcd_cert.")
    etcd_timeout_seconds: float = Field(1.0, gt=0, description="The longest that a call to etcd may take.")
    flags_prefix: str = Field(
        "/soma/", min_length=1, max_length=256, description="What the keys of feature flags begin with in etcd."
    )
    flags_ttl_seconds: float = Field(
        300.0, gt=0, description="How long a flag's value is trusted after etcd said it; then its setting counts."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only explicit values: `loading` gathers them with their origin, so that an error can name it."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _mode_says_more(cls, values: Any) -> Any:
        return _wants_events(values)

    @model_validator(mode="after")
    def _values_fit_together(self) -> SMFSettings:
        if exceed_one(self.feature_weights.values()):
            total = math.fsum(self.feature_weights.values())
            raise ValueError(f"feature_weights: the weights sum to {total:g}, more than 1; lower them")
        if self.api_token is not None and self.auth_disabled:
            raise ValueError("auth_disabled: contradicts api_token; remove one of the two")
        for cert, key in (
            ("postgres_ssl_cert", "postgres_ssl_key"),
            ("redis_cert", "redis_key"),
            ("neo4j_cert", "neo4j_key"),
            ("etcd_cert", "etcd_key"),
            ("kafka_ssl_certificate_location", "kafka_ssl_key_location"),
        ):
            if (getattr(self, cert) is None) != (getattr(self, key) is None):
                missing, given = (cert, key) if getattr(self, cert) is None else (key, cert)
                raise ValueError(f"{missing}: is missing beside {given}; a client certificate needs its private key")
        if self.qdrant_url is not None and self.qdrant_url.get_secret_value().partition("://")[0] not in {
            "http",
            "https",
        }:
            raise ValueError("qdrant_url: must be an http:// or https:// URL; the gRPC port is qdrant_grpc_port")
        if self.redis_topology != "standalone" and not self.redis_nodes and self.redis_url is None:
            raise ValueError(f"redis_nodes: {self.redis_topology} needs them; write host:port, separated by commas")
        return self

    @model_validator(mode="after")
    def _kafka_knows_who_asks(self) -> SMFSettings:
        sasl = self.kafka_security_protocol.startswith("SASL")
        for name in ("kafka_sasl_username", "kafka_sasl_password"):
            if sasl and getattr(self, name) is None:
                raise ValueError(f"{name}: is missing, and kafka_security_protocol is {self.kafka_security_protocol}")
        return self

    @model_validator(mode="after")
    def _faults_are_wanted(self) -> SMFSettings:
        if self.failpoints and not self.debug_faults:
            raise ValueError("failpoints: end the process on purpose; remove it, or set debug_faults in a test")
        return self

    def read_api_token(self) -> SecretStr | None:
        """The token in force: the file's where one is named (read anew at each call), else the given one.

        Raises SettingsError when the file cannot be read or is empty.
        """
        if self.api_token_file is None:
            return self.api_token
        remedy = "mount the token there or correct SOMA_API_TOKEN_FILE"
        try:
            token = self.api_token_file.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            message = f"api_token_file: cannot read {self.api_token_file}: {reason}"
            raise SettingsError(message, setting="api_token_file", remedy=remedy) from None
        if not token:
            message = f"api_token_file: {self.api_token_file} is empty"
            raise SettingsError(message, setting="api_token_file", remedy=remedy)
        return SecretStr(token)
