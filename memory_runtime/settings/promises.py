"""What the given settings ask for and the process would not do: protection that is absent stops the start, and so does
a ledger that would not be used; what is merely without effect is a warning.

Pure functions of the settings and of where each value came from. `loading` calls them; nothing here reads a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from memory_runtime.settings.aliases import COMPAT_PROFILE
from memory_runtime.settings.schema import SettingsError, SMFSettings

_OFF: Final = frozenset({"", "0", "false", "no", "off", "n", "f", "none", "null"})
_PROTECTION: Final = re.compile(
    r"_(?:JWT|JWKS|OPA|OIDC|OAUTH2?|SAML|LDAP|AUTH|AUTHN|AUTHZ|RBAC|ACL|MTLS|TLS|SSL|HTTPS|VAULT|KMS"
    r"|ENCRYPT|ENCRYPTION|ENCRYPTED|ALLOWLIST|WHITELIST|DENYLIST|BLACKLIST)(?:_|$)"
)
_REMEDIES: Final = {
    "JWT": "this service knows one bearer token (SOMA_API_TOKEN_FILE): remove it, and check JWTs in a proxy before it",
    "OPA": "this service asks no policy server: remove it, and decide in a proxy before it",
    "VAULT": "this service reads no vault: mount the secrets, name their directory in SOMA_SECRETS_DIR, and remove it",
}


def refuse_absent_protection(unknown: Mapping[str, str], nearest: Callable[[str], str]) -> None:
    """Raises SettingsError for a variable that is no setting and asks for protection, such as SOMA_JWT_ENABLED=true.

    To serve without what it asks for would be to serve open. One that says `false`, or nothing, asks for none.
    """
    for variable, value in sorted(unknown.items()):
        found = _PROTECTION.search(variable)
        if found is None or value.strip().lower() in _OFF:
            continue
        kind = found.group(0).strip("_")
        if unknown.get(f"SOMA_{kind}_ENABLED", "on").strip().lower() in _OFF:
            continue
        raise SettingsError(
            f"{variable}: asks for protection that this service does not have, and it will not start without it",
            setting=variable,
            remedy=_REMEDIES.get(kind) or f"remove it, or correct its name: {nearest(variable)}",
        )


def refuse_false_promises(settings: SMFSettings, origins: Mapping[str, str]) -> None:
    """Raises SettingsError where what was set says one thing and the process would do another that nobody would see."""
    if settings.postgres_url is not None and "mode" not in origins:
        raise SettingsError(
            f"postgres_url: names a PostgreSQL ledger (from {origins.get('postgres_url', 'the settings')}), "
            "and without a mode the ledger would be SQLite",
            setting="postgres_url",
            remedy="set SOMA_MODE=distributed to use it, or SOMA_MODE=embedded if SQLite is meant",
        )
    named = origins.get("model_name")
    if named not in {None, "compat profile"} and settings.embedding_provider == "auto" and settings.model_dir is None:
        raise SettingsError(
            f"model_name: names {settings.model_name} (from {named}), and without its weights text would be hashed",
            setting="model_name",
            remedy="set SOMA_MODEL_DIR to the directory of its weights, or say SOMA_EMBEDDING_PROVIDER=hash",
        )
    _refuse_open_connections(settings)


class _Protection(NamedTuple):
    """Settings that protect a connection, which `open_` says is not protected; and what would protect it."""

    names: tuple[str, ...]
    open_: Callable[[SMFSettings], bool]
    why: str
    remedy: str


_KAFKA_TLS: Final = (
    "kafka_ssl_ca_location",
    "kafka_ssl_certificate_location",
    "kafka_ssl_key_location",
    "kafka_ssl_key_password",
)
_PROTECTIONS: Final = (
    _Protection(
        _KAFKA_TLS,
        lambda s: s.kafka_bootstrap_servers is not None and not s.kafka_security_protocol.endswith("SSL"),
        "kafka_security_protocol says that Kafka is spoken to unencrypted",
        "set KAFKA_SECURITY_PROTOCOL=SSL, or SASL_SSL",
    ),
    _Protection(
        ("kafka_sasl_username", "kafka_sasl_password"),
        lambda s: s.kafka_bootstrap_servers is not None and not s.kafka_security_protocol.startswith("SASL"),
        "kafka_security_protocol says that Kafka is spoken to without a user",
        "set KAFKA_SECURITY_PROTOCOL=SASL_SSL",
    ),
    _Protection(
        ("redis_ca_cert", "redis_cert", "redis_key", "redis_tls_verify"),
        lambda s: _redis_named(s) and not _redis_encrypted(s),
        "Redis is spoken to unencrypted",
        "set SOMA_REDIS_TLS=true, or write a rediss:// URL",
    ),
    _Protection(
        ("qdrant_tls_cert",),
        lambda s: _qdrant_named(s) and not _qdrant_encrypted(s),
        "Qdrant is spoken to unencrypted",
        "set QDRANT_TLS=true, or write an https:// URL",
    ),
    _Protection(
        ("postgres_ssl_root_cert", "postgres_ssl_cert", "postgres_ssl_key"),
        lambda s: s.mode == "distributed" and s.postgres_ssl_mode in {"disable", "prefer"},
        "postgres_ssl_mode checks nothing",
        "set POSTGRES_SSL_MODE=verify-full",
    ),
    _Protection(
        ("etcd_ca_cert", "etcd_cert", "etcd_key"),
        lambda s: bool(s.etcd_endpoints) and not any(one.startswith("https://") for one in s.etcd_endpoints),
        "etcd is spoken to unencrypted",
        "write https:// in SOMA_ETCD_ENDPOINTS",
    ),
)


def _refuse_open_connections(settings: SMFSettings) -> None:
    for protection in _PROTECTIONS:
        if not protection.open_(settings):
            continue
        for name in protection.names:
            if getattr(settings, name) != SMFSettings.model_fields[name].default:
                message = f"{name}: is given, but {protection.why}"
                raise SettingsError(message, setting=name, remedy=f"{protection.remedy}, or remove {name}")


def _redis_named(settings: SMFSettings) -> bool:
    return settings.redis_url is not None or settings.redis_host is not None or bool(settings.redis_nodes)


def _redis_encrypted(settings: SMFSettings) -> bool:
    url = settings.redis_url.get_secret_value() if settings.redis_url is not None else ""
    return settings.redis_tls or url.startswith("rediss://")


def _qdrant_named(settings: SMFSettings) -> bool:
    return settings.qdrant_url is not None or settings.qdrant_host is not None


def _qdrant_encrypted(settings: SMFSettings) -> bool:
    url = settings.qdrant_url.get_secret_value() if settings.qdrant_url is not None else ""
    return settings.qdrant_tls or url.startswith("https://")


class _Group(NamedTuple):
    """Settings that begin with `prefix` and need what `used` asks of the settings."""

    prefix: str
    used: Callable[[SMFSettings], bool]
    why: str


_GROUPS: Final = (
    _Group(
        "postgres_",
        lambda s: s.mode == "distributed",
        "embedded mode keeps its ledger in SQLite; set SOMA_MODE=distributed for PostgreSQL",
    ),
    _Group("redis_", _redis_named, "no Redis is named; set SOMA_REDIS_URL or SOMA_REDIS_HOST"),
    _Group("qdrant_", _qdrant_named, "no Qdrant is named; set SOMA_QDRANT_URL or SOMA_QDRANT_HOST"),
    _Group(
        "kafka_", lambda s: s.kafka_bootstrap_servers is not None, "no broker is named; set KAFKA_BOOTSTRAP_SERVERS"
    ),
    _Group(
        "neo4j_", lambda s: s.graph_backend == "neo4j", "walks are not asked of Neo4j; set SOMA_GRAPH_BACKEND=neo4j"
    ),
    _Group("etcd_", lambda s: bool(s.etcd_endpoints), "no etcd is named; set SOMA_ETCD_ENDPOINTS"),
    _Group("retention_", lambda s: s.retention_enabled, "nothing is forgotten; set SOMA_RETENTION_ENABLED=true"),
)


def without_effect(settings: SMFSettings, origins: Mapping[str, str]) -> list[str]:
    """A sentence for each group of given settings that change nothing as things are, and for the silent fall-back."""
    heard = []
    for group in _GROUPS:
        if group.used(settings):
            continue
        given = [
            f"{name} (from {origin})"
            for name, origin in sorted(origins.items())
            if name.startswith(group.prefix) and _differs(settings, name)
        ]
        if given:
            heard.append(f"{', '.join(given)}: no effect, because {group.why}")
    if settings.embedding_provider == "auto" and settings.model_dir is None:
        heard.append(
            "model_dir: not set, so text is embedded by hashing, which finds words and not meaning; set SOMA_MODEL_DIR "
            "to the weights' directory, or SOMA_EMBEDDING_PROVIDER=hash if that is meant"
        )
    if settings.previous_model_dir is not None and not settings.reembed:
        heard.append("previous_model_dir: no effect, because nothing is re-embedded; set SOMA_REEMBED=true")
    return heard


def _differs(settings: SMFSettings, name: str) -> bool:
    field = SMFSettings.model_fields[name]
    default: Any = field.get_default(call_default_factory=True)
    return name not in COMPAT_PROFILE and getattr(settings, name) != default
