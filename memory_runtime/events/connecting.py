"""How Kafka is reached: options of every client from the settings, and failures in words that name the setting."""

from __future__ import annotations

import ssl
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError, SaslAuthenticationFailed

from memory_runtime.events.brokers import brokers
from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError, SMFSettings

REQUEST_TIMEOUT_MS: Final = 10_000
CLIENT_ID: Final = "soma"


def client_options(settings: SMFSettings) -> dict[str, Any]:
    """What aiokafka's producer, consumer and admin client share. Raises SettingsError."""
    options: dict[str, Any] = {
        "bootstrap_servers": brokers(settings),
        "client_id": CLIENT_ID,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol in {"SSL", "SASL_SSL"}:
        options["ssl_context"] = _tls(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        password = settings.kafka_sasl_password
        options["sasl_plain_password"] = password.get_secret_value() if password is not None else None
    return options


def _tls(settings: SMFSettings) -> ssl.SSLContext:
    authority = settings.kafka_ssl_ca_location
    try:
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as error:
        raise _unreadable("kafka_ssl_ca_location", str(authority), error) from None
    certificate, key = settings.kafka_ssl_certificate_location, settings.kafka_ssl_key_location
    if certificate is not None and key is not None:
        secret = settings.kafka_ssl_key_password
        # never None: OpenSSL would ask on the terminal for the password of an encrypted key
        password = "" if secret is None else secret.get_secret_value()
        for name, path in (("kafka_ssl_certificate_location", certificate), ("kafka_ssl_key_location", key)):
            if not path.is_file():
                raise _unreadable(name, str(path), FileNotFoundError(2, "no such file"))
        try:
            context.load_cert_chain(certificate, key, password)
        except (OSError, ssl.SSLError) as error:
            raise _unreadable("kafka_ssl_certificate_location", f"{certificate} with {key}", error) from None
    return context


def _unreadable(setting: str, what: str, error: OSError) -> SettingsError:
    reason = error.strerror or getattr(error, "reason", None) or "not PEM"
    return SettingsError(
        f"{setting}: cannot use {what}: {reason}",
        setting=setting,
        remedy="name PEM files that this process can read, and the key's password where it has one",
    )


async def reach(settings: SMFSettings) -> None:
    """Returns once one broker has answered.

    Raises SettingsError where the brokers refuse us or we them (naming the setting that is wrong), Unavailable where
    none answers.
    """
    options = client_options(settings)
    last: BaseException = KafkaError("no broker is named")
    for host, port, _ in collect_hosts(options.pop("bootstrap_servers")):
        try:
            (await create_conn(host, port, **options)).close()
        except (OSError, KafkaError, TimeoutError) as error:
            last = error
        else:
            return
    refusal = _refusal(settings, last)
    if refusal is not None:
        raise refusal
    raise Unavailable(
        f"no Kafka broker answers at {settings.kafka_bootstrap_servers}",
        field="kafka_bootstrap_servers",
        remedy="see that the brokers run, and that host, port and kafka_security_protocol are theirs",
        retry_after=5.0,
    ) from last


def _refusal(settings: SMFSettings, error: BaseException) -> SettingsError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return SettingsError(
            f"kafka_ssl_ca_location: the broker's certificate is not trusted: {error.verify_message}",
            setting="kafka_ssl_ca_location",
            remedy="name the CA that signed it, and brokers by a name that is in it",
        )
    if isinstance(error, SaslAuthenticationFailed):
        return SettingsError(
            f"kafka_sasl_password: the broker refuses user {settings.kafka_sasl_username!r}",
            setting="kafka_sasl_password",
            remedy="correct KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM",
        )
    certificate_shown = settings.kafka_ssl_certificate_location is not None
    if isinstance(error, KafkaConnectionError) and settings.kafka_security_protocol == "SSL" and not certificate_shown:
        # TLS 1.3 tells a client that its certificate is missed only after the handshake, by hanging up
        return SettingsError(
            "kafka_ssl_certificate_location: the broker hangs up on a client without a certificate",
            setting="kafka_ssl_certificate_location",
            remedy="name a client certificate and its key, or the listener that wants none",
        )
    if isinstance(error, ssl.SSLError):
        return SettingsError(
            f"kafka_security_protocol: TLS with the broker failed: {error.reason or error}",
            setting="kafka_security_protocol",
            remedy="see that the listener speaks TLS, and whether it wants kafka_ssl_certificate_location",
        )
    return None


async def topics_of(settings: SMFSettings) -> set[str]:
    """The topics that this user may see. Raises KafkaError."""
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        # Describing by name would create it where the brokers create topics on demand: asking for all does not.
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def require_topics(settings: SMFSettings, names: dict[str, str]) -> None:
    """Raises SettingsError, naming the setting, where a topic (setting → topic) does not exist or may not be seen."""
    known = await topics_of(settings)
    for setting, topic in names.items():
        if topic not in known:
            raise SettingsError(
                f"{setting}: the brokers have no topic {topic!r}",
                setting=setting,
                remedy="create it, let this user describe it, or name another",
            )
