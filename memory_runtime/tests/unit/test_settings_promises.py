"""What settings promise: nothing asked for is silently left undone, and Kubernetes' variables are nobody's."""

from __future__ import annotations

import pytest

from memory_runtime.settings import LoadedSettings, SettingsError, SMFSettings, load_settings

HASH = {"SOMA_EMBEDDING_PROVIDER": "hash"}


def service_variables(service: str, port: int = 6379, protocol: str = "tcp", host: str = "10.0.0.1") -> dict[str, str]:
    """What the kubelet sets for a Service with one named port (pkg/kubelet/envvars)."""
    name = service.upper().replace("-", "_")
    at = f"{name}_PORT_{port}_{protocol.upper()}"
    shown = f"[{host}]" if ":" in host else host
    return {
        f"{name}_SERVICE_HOST": host,
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_SERVICE_PORT_HTTP": str(port),
        f"{name}_PORT": f"{protocol}://{shown}:{port}",
        at: f"{protocol}://{shown}:{port}",
        f"{at}_PROTO": protocol,
        f"{at}_PORT": str(port),
        f"{at}_ADDR": host,
    }


SERVICES = [
    "soma",
    "soma-http",
    "soma-grpc",
    "soma-redis",
    "soma-qdrant-grpc",
    "soma-memory",
    "soma-tls",
    "postgres",
    "redis",
    "qdrant",
    "kafka",
    "neo4j",
    "etcd",
    "uvicorn",
    "consumer-metrics",
]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::17"])
def test_what_kubernetes_sets_for_a_service_is_no_setting(service: str, host: str) -> None:
    loaded = load_settings(environ=HASH | service_variables(service, 9595, host=host))
    assert loaded == load_settings(environ=HASH)
    assert loaded.warnings == ()


def test_the_users_own_port_is_still_a_setting() -> None:
    environ = HASH | service_variables("redis") | {"REDIS_HOST": "redis", "REDIS_PORT": "6380"}
    assert load_settings(environ=environ).settings.redis_port == 6380


def refused(environ: dict[str, str]) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=HASH | environ)
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("environ", "setting"),
    [
        ({"SOMA_JWT_ENABLED": "true"}, "SOMA_JWT_ENABLED"),
        ({"SOMA_JWT_SECRET": "hunter2"}, "SOMA_JWT_SECRET"),
        ({"SOMA_OPA_URL": "http://opa:8181"}, "SOMA_OPA_URL"),
        ({"SOMA_VAULT_URL": "https://vault:8200"}, "SOMA_VAULT_URL"),
        ({"SOMA_TLS_CERT": "/tls/tls.crt"}, "SOMA_TLS_CERT"),
        ({"SOMA_AUTH_ENABLED": "1"}, "SOMA_AUTH_ENABLED"),
        ({"SOMA_ENCRYPTION_KEY": "hunter2"}, "SOMA_ENCRYPTION_KEY"),
        ({"SOMA_GRPC_TLS": "yes"}, "SOMA_GRPC_TLS"),
    ],
)
def test_protection_that_does_not_exist_stops_the_start(environ: dict[str, str], setting: str) -> None:
    error = refused(environ)
    assert error.setting == setting
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    "environ",
    [
        {"SOMA_JWT_ENABLED": "false", "SOMA_JWT_ISSUER": "https://issuer"},
        {"SOMA_OPA_URL": ""},
        {"SOMA_OPA_FAIL_OPEN": "false"},
    ],
)
def test_protection_that_is_said_to_be_off_is_a_warning_only(environ: dict[str, str]) -> None:
    loaded = load_settings(environ=HASH | environ)
    assert len(loaded.warnings) == len(environ)


def test_a_postgresql_that_would_not_be_used_stops_the_start() -> None:
    url = {"POSTGRES_URL": "postgresql://soma:hunter2@db/soma"}
    error = refused(url)
    assert (error.setting, "SOMA_MODE=distributed" in str(error)) == ("postgres_url", True)
    assert "hunter2" not in str(error)
    assert load_settings(environ=HASH | url | {"SOMA_MODE": "distributed"}).warnings == ()
    meant = load_settings(environ=HASH | url | {"SOMA_MODE": "embedded"})
    assert [one for one in meant.warnings if "postgres_url" in one and "SQLite" in one]


def test_a_model_that_is_named_needs_its_weights() -> None:
    named = {"SOMA_MODEL_NAME": "microsoft/codebert-base", "SOMA_EMBEDDING_PROVIDER": "auto"}
    error = refused(named)
    assert (error.setting, "SOMA_MODEL_DIR" in str(error)) == ("model_name", True)
    assert load_settings(environ=named | HASH).warnings == ()
    assert load_settings(environ=named | {"SOMA_MODEL_DIR": "/models"}).warnings == ()


@pytest.mark.parametrize("environ", [{}, {"SOMA_COMPAT_PROFILE": "true"}])
def test_hashing_for_want_of_weights_is_said(environ: dict[str, str]) -> None:
    assert [one for one in load_settings(environ=environ).warnings if one.startswith("model_dir: ") and "hash" in one]


@pytest.mark.parametrize(
    ("environ", "setting"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:9092", "KAFKA_SSL_CA_LOCATION": "/ca"}, "kafka_ssl_ca_location"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "k:9092", "KAFKA_SASL_PASSWORD": "hunter2"}, "kafka_sasl_password"),
        ({"REDIS_HOST": "r", "SOMA_REDIS_CA_CERT": "/ca"}, "redis_ca_cert"),
        ({"REDIS_URL": "redis://r", "SOMA_REDIS_TLS_VERIFY": "ca"}, "redis_tls_verify"),
        ({"QDRANT_URL": "http://q", "QDRANT_TLS_CERT": "/ca"}, "qdrant_tls_cert"),
        (
            {
                "SOMA_MODE": "distributed",
                "POSTGRES_URL": "postgresql://h/d",
                "POSTGRES_SSL_MODE": "disable",
                "POSTGRES_SSL_ROOT_CERT": "/ca",
            },
            "postgres_ssl_root_cert",
        ),
        ({"ETCD_ENDPOINTS": "http://e:2379", "SOMA_ETCD_CA_CERT": "/ca"}, "etcd_ca_cert"),
    ],
)
def test_a_certificate_or_user_beside_an_open_connection_stops_the_start(environ: dict[str, str], setting: str) -> None:
    error = refused(environ)
    assert error.setting == setting
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    "environ",
    [
        {"KAFKA_BOOTSTRAP_SERVERS": "k", "KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_CA_LOCATION": "/ca"},
        {"REDIS_URL": "rediss://r", "SOMA_REDIS_CA_CERT": "/ca"},
        {"REDIS_HOST": "r", "SOMA_REDIS_TLS": "true", "SOMA_REDIS_CA_CERT": "/ca"},
        {"QDRANT_URL": "http://q", "QDRANT_TLS": "true", "QDRANT_TLS_CERT": "/ca"},
        {"ETCD_ENDPOINTS": "https://e:2379", "SOMA_ETCD_CA_CERT": "/ca"},
        {"REDIS_HOST": "r", "SOMA_REDIS_TLS_VERIFY": "full"},
    ],
)
def test_a_protected_connection_is_accepted_without_a_word(environ: dict[str, str]) -> None:
    assert load_settings(environ=HASH | environ).warnings == ()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"NEO4J_URI": "neo4j://g"}, ("neo4j_url", "SOMA_GRAPH_BACKEND")),
        ({"REDIS_DB": "3"}, ("redis_db", "SOMA_REDIS_URL")),
        ({"QDRANT_COLLECTION": "c"}, ("qdrant_collection", "SOMA_QDRANT_URL")),
        ({"KAFKA_AUDIT_TOPIC": "a"}, ("kafka_audit_topic", "KAFKA_BOOTSTRAP_SERVERS")),
        ({"SOMA_ETCD_USERNAME": "u"}, ("etcd_username", "SOMA_ETCD_ENDPOINTS")),
        ({"SOMA_RETENTION_TTL": "30d"}, ("retention_ttl", "SOMA_RETENTION_ENABLED")),
        ({"SOMA_PREVIOUS_MODEL_DIR": "/m"}, ("previous_model_dir", "SOMA_REEMBED")),
    ],
)
def test_what_has_no_effect_is_said_with_what_would_give_it_one(
    environ: dict[str, str], words: tuple[str, ...]
) -> None:
    (warning,) = load_settings(environ=HASH | environ).warnings
    assert all(word in warning for word in words), warning


def test_defaults_that_are_written_out_are_no_cause_for_a_warning() -> None:
    written = LoadedSettings(SMFSettings(), dict.fromkeys(SMFSettings.model_fields, "file settings.yaml"), ())
    from memory_runtime.settings.promises import without_effect

    assert [one for one in without_effect(written.settings, written.origins) if not one.startswith("model_dir")] == []
