"""What this version of the operator does not do yet: what would be unsafe to ignore stops everything, the rest is
told by conditions."""

from __future__ import annotations

from collections.abc import Iterator

from soma_operator.api import Mode, Problem, SomaMemorySpec
from soma_operator.api.endpoints import Qdrant
from soma_operator.api.references import ClientTLS, TLSMode

Unbuilt = tuple[str, bool, str, str]


def unsafe_to_ignore(spec: SomaMemorySpec) -> list[Problem]:
    """Fields that promise safety, or another way of working, which this version does not deliver."""
    wanted = [
        *_unchecked(spec),
        (
            "spec.endpoints.qdrant.tls.clientCertificateSecretName",
            spec.mode is Mode.DISTRIBUTED and _shows_certificate(spec.endpoints.qdrant),
            "a client certificate for Qdrant is not implemented yet",
            "remove it and use apiKeySecretRef",
        ),
        (
            "spec.access.tls",
            spec.access.tls is not None,
            "serving TLS is not implemented yet",
            "remove it and put a mesh or an ingress in front",
        ),
        ("spec.access.jwt", spec.access.jwt is not None, "JWT is not implemented yet", "remove it and use the token"),
        ("spec.access.opa", spec.access.opa is not None, "OPA is not implemented yet", "remove it and use the token"),
        (
            "spec.encryption",
            spec.encryption is not None,
            "encryption of payloads is not implemented yet",
            "remove it and encrypt the volume",
        ),
        (
            "spec.bootstrap",
            spec.bootstrap is not None,
            "beginning from a backup is not implemented yet",
            "remove it and import instead",
        ),
    ]
    return [Problem(field, reason, remedy) for field, asked, reason, remedy in wanted if asked]


def _shows_certificate(server: Qdrant | None) -> bool:
    return server is not None and server.tls.client_certificate_secret_name is not None


def _unchecked(spec: SomaMemorySpec) -> Iterator[Unbuilt]:
    """Of TLS to a back end only PostgreSQL's client knows the halves: the others verify all or encrypt nothing."""
    servers = spec.endpoints
    found: list[tuple[str, ClientTLS | None]] = [
        ("redis", servers.redis.tls if servers.redis else None),
        ("qdrant", servers.qdrant.tls if servers.qdrant else None),
        ("kafka", servers.kafka.tls if servers.kafka else None),
        ("graph", servers.graph.tls if servers.graph else None),
    ]
    for name, tls in found:
        half = tls is not None and tls.mode in (TLSMode.REQUIRED, TLSMode.VERIFY_CA)
        yield (
            f"spec.endpoints.{name}.tls.mode",
            spec.mode is Mode.DISTRIBUTED and half,
            "only VerifyFull and Disabled are implemented for this back end",
            "set VerifyFull and name the authority in caSecretRef",
        )
