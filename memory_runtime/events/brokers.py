"""Which brokers, and whether changes go to them: asked before a Kafka client is imported."""

from __future__ import annotations

from memory_runtime.settings import SettingsError, SMFSettings


def brokers(settings: SMFSettings) -> str:
    """The bootstrap servers. Raises SettingsError where none are named."""
    if not settings.kafka_bootstrap_servers:
        raise SettingsError(
            "kafka_bootstrap_servers: no brokers are named",
            setting="kafka_bootstrap_servers",
            remedy="set KAFKA_BOOTSTRAP_SERVERS=host:port, or SOMA_EVENTING_ENABLED=false",
        )
    for part in settings.kafka_bootstrap_servers.split(","):
        host, _, port = part.strip().rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise SettingsError(
                f"kafka_bootstrap_servers: {part.strip()!r} is not host:port",
                setting="kafka_bootstrap_servers",
                remedy="write host:port, separated by commas",
            )
    return settings.kafka_bootstrap_servers


def publishes(settings: SMFSettings) -> bool:
    """Whether changes go to Kafka. Raises SettingsError where they are to, and no brokers are named."""
    if settings.eventing_enabled is False or (
        settings.eventing_enabled is None and not settings.kafka_bootstrap_servers
    ):
        return False
    return bool(brokers(settings))


def without_the_extra(setting: str) -> SettingsError:
    """The refusal where the packages for Kafka are not installed."""
    return SettingsError(
        f"{setting}: needs packages that are not installed",
        setting=setting,
        remedy="install the extra `distributed`: pip install 'soma-memory-operator[runtime,distributed]'",
    )
