"""How the pods reach the back ends: settings, credentials by Secret reference, certificates as files.

No value of a Secret passes through here: a setting that is secret becomes an environment variable that the kubelet
fills, and a certificate becomes a mounted file whose path is the setting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as with_default
from typing import Any
from urllib.parse import quote

from soma_operator.api import Mode, SomaMemorySpec
from soma_operator.api.endpoints import Graph, Kafka, PostgreSQL, Qdrant, Redis
from soma_operator.api.references import ClientTLS, CredentialsRef, SecretKeyRef, TLSMode

HTTP_PORT = 9595
TLS_DIR = "/etc/soma/tls"
_CA, _CERTIFICATE, _KEY = "ca.crt", "tls.crt", "tls.key"
_SSL_MODES = {
    TLSMode.DISABLED: "disable",
    TLSMode.REQUIRED: "require",
    TLSMode.VERIFY_CA: "verify-ca",
    TLSMode.VERIFY_FULL: "verify-full",
}


@dataclass(frozen=True, slots=True)
class SecretUse:
    """A Secret that the spec names at `field`, and the keys that it must have."""

    field: str
    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """One back end. `variables` maps environment variables to keys of Secrets."""

    name: str
    field: str
    tls: ClientTLS
    settings: Mapping[str, Any]
    variables: Mapping[str, SecretKeyRef] = with_default(default_factory=dict)
    certificate_settings: tuple[str, str, str] = ("", "", "")
    """Settings that hold the paths of the authority, the client's certificate and its key."""

    @property
    def folder(self) -> str:
        """Where its certificates are mounted."""
        return f"{TLS_DIR}/{self.name}"

    def resolved(self) -> dict[str, Any]:
        """Its settings, with the paths of the certificates that there are."""
        authority, certificate, key = self.certificate_settings
        found = dict(self.settings)
        if self.tls.ca_secret_ref is not None:
            found[authority] = f"{self.folder}/{_CA}"
        if self.tls.client_certificate_secret_name is not None:
            found |= {certificate: f"{self.folder}/{_CERTIFICATE}", key: f"{self.folder}/{_KEY}"}
        return found

    def environment(self) -> list[dict[str, Any]]:
        """Variables as a container writes them."""
        return [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}}}
            for name, reference in self.variables.items()
        ]

    def volume(self) -> dict[str, Any] | None:
        """Its certificates as a volume; None where the authorities of the image are trusted and none is presented."""
        sources = []
        if self.tls.ca_secret_ref is not None:
            items = [{"key": self.tls.ca_secret_ref.key, "path": _CA}]
            sources.append({"secret": {"name": self.tls.ca_secret_ref.name, "items": items}})
        if self.tls.client_certificate_secret_name is not None:
            items = [{"key": name, "path": name} for name in (_CERTIFICATE, _KEY)]
            sources.append({"secret": {"name": self.tls.client_certificate_secret_name, "items": items}})
        if not sources:
            return None
        return {"name": f"tls-{self.name}", "projected": {"defaultMode": 288, "sources": sources}}

    def secrets(self) -> Iterator[SecretUse]:
        """The Secrets that it needs."""
        for reference in self.variables.values():
            yield SecretUse(self.field, reference.name, (reference.key,))
        if self.tls.ca_secret_ref is not None:
            yield SecretUse(f"{self.field}.tls.caSecretRef", self.tls.ca_secret_ref.name, (self.tls.ca_secret_ref.key,))
        if self.tls.client_certificate_secret_name is not None:
            place = f"{self.field}.tls.clientCertificateSecretName"
            yield SecretUse(place, self.tls.client_certificate_secret_name, (_CERTIFICATE, _KEY))


def connections(spec: SomaMemorySpec) -> list[Connection]:
    """The back ends that a spec names; none in embedded mode."""
    if spec.mode is Mode.EMBEDDED:
        return []
    endpoints = spec.endpoints
    found = [_postgresql(endpoints.postgresql)] if endpoints.postgresql else []
    found += [_redis(endpoints.redis)] if endpoints.redis else []
    found += [_qdrant(endpoints.qdrant, spec)] if endpoints.qdrant else []
    found += [_kafka(endpoints.kafka, spec)] if endpoints.kafka and spec.events.enabled else []
    found += [_graph(endpoints.graph)] if endpoints.graph else []
    return found


def secrets_used(spec: SomaMemorySpec) -> list[SecretUse]:
    """Every Secret of a back end that the spec names, in a fixed order."""
    return [use for connection in connections(spec) for use in connection.secrets()]


def _credentials(reference: CredentialsRef, user: str, password: str) -> dict[str, SecretKeyRef]:
    return {
        user: SecretKeyRef(name=reference.name, key=reference.username_key),
        password: SecretKeyRef(name=reference.name, key=reference.password_key),
    }


def _postgresql(server: PostgreSQL) -> Connection:
    # User and password as libpq's own variables: in a URL they would have to be percent-encoded, which no kubelet does.
    return Connection(
        "postgres",
        "spec.endpoints.postgresql",
        server.tls,
        {
            "postgres_url": f"postgresql://{server.host}:{server.port}/{quote(server.database, safe='')}",
            "postgres_ssl_mode": _SSL_MODES[server.tls.mode],
            "postgres_pool_size": server.pool_size,
        },
        _credentials(server.credentials_secret_ref, "PGUSER", "PGPASSWORD"),
        ("postgres_ssl_root_cert", "postgres_ssl_cert", "postgres_ssl_key"),
    )


_REDIS_VERIFY = {TLSMode.REQUIRED: "none", TLSMode.VERIFY_CA: "ca"}
"""What of the certificate is checked; everything, where nothing is said."""


def _redis(server: Redis) -> Connection:
    settings: dict[str, Any] = {
        "redis_host": server.host,
        "redis_port": server.port,
        "redis_db": server.database,
        "redis_tls": server.tls.mode is not TLSMode.DISABLED,
    }
    if server.username:
        settings["redis_username"] = server.username
    if server.tls.mode in _REDIS_VERIFY:
        settings["redis_tls_verify"] = _REDIS_VERIFY[server.tls.mode]
    variables = {"SOMA_REDIS_PASSWORD": server.password_secret_ref} if server.password_secret_ref else {}
    certificates = ("redis_ca_cert", "redis_cert", "redis_key")
    return Connection("redis", "spec.endpoints.redis", server.tls, settings, variables, certificates)


def _qdrant(server: Qdrant, spec: SomaMemorySpec) -> Connection:
    settings = {
        "qdrant_host": server.host,
        "qdrant_port": server.port,
        "qdrant_grpc_port": server.grpc_port,
        "qdrant_tls": server.tls.mode is not TLSMode.DISABLED,
        "qdrant_collection": server.collection or spec.tenancy.namespace,
    }
    variables = {"SOMA_QDRANT_API_KEY": server.api_key_secret_ref} if server.api_key_secret_ref else {}
    return Connection("qdrant", "spec.endpoints.qdrant", server.tls, settings, variables, ("qdrant_tls_cert", "", ""))


def _kafka(server: Kafka, spec: SomaMemorySpec) -> Connection:
    encrypted = server.tls.mode is not TLSMode.DISABLED
    events = spec.events
    settings: dict[str, Any] = {
        "eventing_enabled": True,
        "kafka_bootstrap_servers": ",".join(server.bootstrap_servers),
        "kafka_security_protocol": ("SASL_" if server.sasl else "") + ("SSL" if encrypted else "PLAINTEXT"),
        "kafka_memory_events_topic": events.topic,
        "kafka_dlq_topic": events.dead_letter_topic,
        "kafka_config_updates_topic": events.config_topic,
        "kafka_consumer_group": events.consumer_group,
        # Where the consumer answers probes: one port for every role.
        "consumer_metrics_port": HTTP_PORT,
    }
    if events.audit_topic:
        settings["kafka_audit_topic"] = events.audit_topic
    variables: dict[str, SecretKeyRef] = {}
    if server.sasl:
        settings["kafka_sasl_mechanism"] = server.sasl.mechanism.value
        reference = server.sasl.credentials_secret_ref
        variables = _credentials(reference, "SOMA_KAFKA_SASL_USERNAME", "SOMA_KAFKA_SASL_PASSWORD")
    certificates = ("kafka_ssl_ca_location", "kafka_ssl_certificate_location", "kafka_ssl_key_location")
    return Connection("kafka", "spec.endpoints.kafka", server.tls, settings, variables, certificates)


def _graph(server: Graph) -> Connection:
    scheme = "neo4j" if server.tls.mode is TLSMode.DISABLED else "neo4j+s"
    settings = {
        "graph_backend": "neo4j",
        "neo4j_url": f"{scheme}://{server.host}:{server.port}",
        "neo4j_database": server.database,
    }
    variables = _credentials(server.credentials_secret_ref, "SOMA_NEO4J_USERNAME", "SOMA_NEO4J_PASSWORD")
    certificates = ("neo4j_ca_cert", "neo4j_cert", "neo4j_key")
    return Connection("graph", "spec.endpoints.graph", server.tls, settings, variables, certificates)
