"""How Neo4j is reached: the driver that the settings describe, and what its exceptions mean."""

from __future__ import annotations

import logging
import urllib.parse
from typing import Any, Final

import neo4j
from neo4j import exceptions
from neo4j.auth_management import AsyncClientCertificateProviders, ClientCertificate

from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.resilience import Failure, socket_failure

SCHEMES: Final = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
_LOST: Final = (
    exceptions.ServiceUnavailable,
    exceptions.SessionExpired,
    exceptions.ConnectionPoolError,
    exceptions.DatabaseUnavailable,
    exceptions.IncompleteCommit,
)


def classify(error: Exception) -> Failure | None:
    """What a failed call says of Neo4j; every call of ours may be repeated, so nothing hangs on AWAY or UNSENT."""
    if isinstance(error, _LOST):
        return Failure.AWAY
    if isinstance(error, exceptions.TransientError):
        # deadlocks and lock time-outs undid the work; what the server lacks (memory, a leader) it lacks for others too
        locked = (error.code or "").startswith("Neo.TransientError.Transaction.")
        return Failure.CONTENDED if locked else Failure.AWAY
    if isinstance(error, (exceptions.Neo4jError, exceptions.DriverError)):
        return Failure.AWAY if error.is_retryable() else Failure.REFUSED
    return socket_failure(error)


def connect(settings: SMFSettings) -> neo4j.AsyncDriver:
    """A driver that has not connected yet. Raises SettingsError naming the setting."""
    if settings.neo4j_url is None:
        raise SettingsError(
            "neo4j_url: is missing, and graph_backend is neo4j",
            setting="neo4j_url",
            remedy="set SOMA_NEO4J_URL, such as neo4j+s://graph.example:7687",
        )
    logging.getLogger("neo4j").setLevel(logging.CRITICAL)  # its lines repeat what the guard counts and says
    scheme, host, user, password = _parts(settings)
    encrypted, tls = _tls(settings, scheme)
    return neo4j.AsyncGraphDatabase.driver(
        f"{encrypted}://{host}",
        auth=None if user is None else neo4j.basic_auth(user, password or ""),
        connection_timeout=settings.neo4j_timeout_seconds,
        connection_acquisition_timeout=settings.neo4j_timeout_seconds,
        max_connection_pool_size=settings.neo4j_pool_size,
        max_connection_lifetime=600.0,
        liveness_check_timeout=30.0,
        keep_alive=True,
        telemetry_disabled=True,
        user_agent="soma-memory",
        notifications_min_severity="OFF",
        **tls,
    )


def _parts(settings: SMFSettings) -> tuple[str, str, str | None, str | None]:
    url = urllib.parse.urlsplit(settings.neo4j_url.get_secret_value() if settings.neo4j_url else "")
    if url.scheme not in SCHEMES or not url.hostname or url.path.strip("/"):
        # the URL itself may hold a password: it is not repeated
        raise SettingsError(
            f"neo4j_url: is not SCHEME://HOST:PORT with one of {', '.join(SCHEMES)}",
            setting="neo4j_url",
            remedy="write it as neo4j+s://graph.example:7687, and the database in SOMA_NEO4J_DATABASE",
        )
    user = settings.neo4j_username or (urllib.parse.unquote(url.username) if url.username else None)
    given = settings.neo4j_password.get_secret_value() if settings.neo4j_password else None
    password = given or (urllib.parse.unquote(url.password) if url.password else None)
    return url.scheme, url.netloc.rpartition("@")[2], user, password


def _tls(settings: SMFSettings, scheme: str) -> tuple[str, dict[str, Any]]:
    """Scheme and options that say how the connection is encrypted: the driver takes a CA with plain schemes only."""
    plain, _, security = scheme.partition("+")
    if settings.neo4j_cert is not None and settings.neo4j_key is not None:
        pair = ClientCertificate(settings.neo4j_cert, settings.neo4j_key)
        client = {"client_certificate": AsyncClientCertificateProviders.static(pair)}
    else:
        client = {}
    for name in ("neo4j_ca_cert", "neo4j_cert", "neo4j_key"):
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise SettingsError(f"{name}: {path} is not a file", setting=name, remedy="mount it, or correct the path")
        if path is not None and not security:
            raise SettingsError(
                f"{name}: says TLS, and neo4j_url says none",
                setting=name,
                remedy=f"write the URL as {plain}+s://…, or leave {name} out",
            )
    if security == "s" and (settings.neo4j_ca_cert is not None or client):
        trust = (
            neo4j.TrustSystemCAs()
            if settings.neo4j_ca_cert is None
            else neo4j.TrustCustomCAs(str(settings.neo4j_ca_cert))
        )
        return plain, {"encrypted": True, "trusted_certificates": trust, **client}
    if security == "ssc" and client:
        return plain, {"encrypted": True, "trusted_certificates": neo4j.TrustAll(), **client}
    return scheme, {}
