"""The settings' schema: every key, its type, its bound, its default and what it is for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from memory_runtime.model.duration import parse_duration, parse_half_life
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import check_name

LEGACY_MODES = {
    "evented_enterprise": "distributed",
    "development": "embedded",
    "dev": "embedded",
    "test": "embedded",
    "on_demand": "embedded",
    "local_agent": "embedded",
    "enterprise": "embedded",
    "cloud_managed": "embedded",
}


class SettingsError(Exception):
    """A setting that cannot be used: one sentence that names the setting and the remedy; the process exits with 2."""

    exit_code = 2

    def __init__(self, message: str, *, setting: str | None = None, remedy: str | None = None) -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.setting = setting
        self.remedy = remedy


def _mode(value: Any) -> Any:
    return LEGACY_MODES.get(value.lower(), value.lower()) if isinstance(value, str) else value


def _half_life(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError("a half-life is a number with a unit, such as 30d, or none")
    try:
        return parse_half_life(value)
    except InvalidArgument as error:
        raise ValueError(f"{error.message} ({error.remedy})") from None


def _duration(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a duration is a number with a unit, such as 30d")  # noqa: TRY004 -- pydantic reports ValueError
    try:
        return parse_duration(value)
    except InvalidArgument as error:
        raise ValueError(f"{error.message} ({error.remedy})") from None


def _name(value: str) -> str:
    try:
        return check_name(value, field="name")
    except InvalidArgument as error:
        raise ValueError(error.message) from None


def _no_blank_secret(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


HalfLife = Annotated[float | None, BeforeValidator(_half_life)]
OptionalDuration = Annotated[float | None, BeforeValidator(_duration)]
PositiveDuration = Annotated[float, BeforeValidator(_duration), Field(gt=0)]
Name = Annotated[str, AfterValidator(_name)]
Secret = Annotated[SecretStr | None, BeforeValidator(_no_blank_secret)]
Port = Annotated[int, Field(ge=0, le=65535)]
Weight = Annotated[float, Field(ge=0.0, le=1.0)]


class SMFSettings(BaseSettings):
    """All that can be set, with prefix `SOMA_` in the environment.

    Constructing it reads neither environment nor file: only `load_settings` does, once, at the start.
    """

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="SOMA_", protected_namespaces=(), validate_default=True
    )

    mode: Annotated[Literal["embedded", "distributed"], BeforeValidator(_mode)] = Field(
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
    similarity_exponent: float = Field(1.0, gt=0.0, le=8.0, description="Beta: how much similarity counts.")
    feature_weights: dict[str, Weight] = Field(
        default_factory=dict, description="Exponents of the feature channels; their sum is at most 1."
    )
    hybrid_recall_default: bool = Field(False, description="Whether recall mixes in keyword hits unless told.")
    hybrid_boost: float = Field(2.0, ge=1.0, le=100.0, description="How much a keyword hit counts in hybrid recall.")
    top_k_max: int = Field(1000, ge=1, le=10_000, description="The largest top_k that a request may ask for.")

    max_memory_size: int = Field(0, ge=0, description="The most memories a tenant's namespace may hold; 0 is no cap.")
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
    hot_tier_mb: float = Field(64.0, gt=0, description="Size of the hot tier that hot_tier_hit_ratio is told for, MiB.")

    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda v: v.upper() if isinstance(v, str) else v)
    ] = Field("INFO", description="The least severe level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="Log lines as JSON objects or as text.")
    metrics_enabled: bool = Field(True, description="Whether /metrics answers.")

    postgres_url: Secret = Field(None, description="PostgreSQL of distributed mode.")
    redis_url: Secret = Field(None, description="Redis of distributed mode.")
    qdrant_url: Secret = Field(None, description="Qdrant of distributed mode.")
    kafka_bootstrap_servers: str | None = Field(None, description="Kafka brokers of distributed mode.")

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

    @model_validator(mode="after")
    def _values_fit_together(self) -> SMFSettings:
        total = math.fsum(self.feature_weights.values())
        if total > 1.0 + 1e-9:
            raise ValueError(f"feature_weights: the weights sum to {total:g}, more than 1; lower them")
        if self.api_token is not None and self.auth_disabled:
            raise ValueError("auth_disabled: contradicts api_token; remove one of the two")
        return self

    def read_api_token(self) -> SecretStr | None:
        """The token in force: the file's where one is named (read anew at each call), else the given one.

        Raises SettingsError when the file cannot be read or is empty.
        """
        if self.api_token_file is None:
            return self.api_token
        remedy = "mount the token there or correct SOMA_API_TOKEN_FILE"
        try:
            token = self.api_token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            message = f"api_token_file: cannot read {self.api_token_file}: {reason}"
            raise SettingsError(message, setting="api_token_file", remedy=remedy) from None
        if not token:
            message = f"api_token_file: {self.api_token_file} is empty"
            raise SettingsError(message, setting="api_token_file", remedy=remedy)
        return SecretStr(token)
