"""Kafka over mutual TLS and over SASL, and what is said where either is set up wrongly; and `config.updates`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.events.connecting import reach
from memory_runtime.events.dlq import DeadLetterQueue
from memory_runtime.events.watching import ConfigUpdate, ConfigWatcher
from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError, SMFSettings, load_settings
from memory_runtime.tests.integration.conftest import Serve
from memory_runtime.tests.integration.events.conftest import (
    NewSite,
    Secure,
    Site,
    create_topics,
    eventually,
    producing,
)
from memory_runtime.tests.integration.events.test_events_pipeline import stored

pytestmark = pytest.mark.integration


def mutual(secure: Secure) -> dict[str, Any]:
    """Settings for TLS with a client certificate."""
    return {
        "kafka_bootstrap_servers": secure.broker.mutual,
        "kafka_security_protocol": "SSL",
        "kafka_ssl_ca_location": secure.authority,
        "kafka_ssl_certificate_location": secure.certificate,
        "kafka_ssl_key_location": secure.key,
    }


def sasl(secure: Secure) -> dict[str, Any]:
    """Settings for SASL over TLS."""
    return {
        "kafka_bootstrap_servers": secure.broker.sasl,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_ssl_ca_location": secure.authority,
        "kafka_sasl_username": secure.broker.user,
        "kafka_sasl_password": secure.broker.password,
    }


@pytest.mark.parametrize("way", ["mutual TLS", "PLAIN", "SCRAM-SHA-512"])
async def test_events_pass_over_a_secured_listener(kafka_secure: Secure, new_site: NewSite, way: str) -> None:
    name = uuid.uuid4().hex
    topics = {"kafka_memory_events_topic": f"{name}.events", "kafka_dlq_topic": f"{name}.dlq"}
    await create_topics(kafka_secure.broker.service.url, *topics.values())
    how = mutual(kafka_secure) if way == "mutual TLS" else sasl(kafka_secure) | {"kafka_sasl_mechanism": way}
    one, two = await new_site(**topics, **how), await new_site(**topics, **how)
    await stored(one)
    async with one.relaying() as relay, two.consuming():
        await asyncio.wait_for(relay.caught_up(), 30)
        await eventually(lambda: two.count("applied") == 1)
    assert await DeadLetterQueue(one.settings).entries() == []


def wrong(secure: Secure, case: str) -> dict[str, Any]:
    """Settings with one mistake."""
    return {
        "another CA": mutual(secure) | {"kafka_ssl_ca_location": secure.other_authority},
        "no client certificate": mutual(secure)
        | {"kafka_ssl_certificate_location": None, "kafka_ssl_key_location": None},
        "no CA file": mutual(secure) | {"kafka_ssl_ca_location": Path("/nowhere/ca.crt")},
        "a CA that is none": mutual(secure) | {"kafka_ssl_ca_location": secure.key},
        "no key file": mutual(secure) | {"kafka_ssl_key_location": Path("/nowhere/key.pem")},
        "a key that is none": mutual(secure) | {"kafka_ssl_key_location": secure.authority},
        "a wrong password": sasl(secure) | {"kafka_sasl_password": "not-the-secret"},
        "a wrong SCRAM password": sasl(secure)
        | {"kafka_sasl_password": "not-the-secret", "kafka_sasl_mechanism": "SCRAM-SHA-512"},
        "TLS to a plain listener": mutual(secure) | {"kafka_bootstrap_servers": secure.broker.service.url},
    }[case]


@pytest.mark.parametrize(
    ("case", "setting"),
    [
        ("another CA", "kafka_ssl_ca_location"),
        ("no client certificate", "kafka_ssl_certificate_location"),
        ("no CA file", "kafka_ssl_ca_location"),
        ("a CA that is none", "kafka_ssl_ca_location"),
        ("no key file", "kafka_ssl_key_location"),
        ("a key that is none", "kafka_ssl_certificate_location"),
        ("a wrong password", "kafka_sasl_password"),
        ("a wrong SCRAM password", "kafka_sasl_password"),
    ],
)
async def test_a_wrong_credential_names_its_setting_and_keeps_its_secret(
    kafka_secure: Secure, case: str, setting: str
) -> None:
    with pytest.raises(SettingsError, match=setting) as caught:
        await asyncio.wait_for(reach(SMFSettings(**wrong(kafka_secure, case))), 30)
    assert caught.value.setting == setting
    assert "not-the-secret" not in str(caught.value)


async def test_a_listener_of_another_protocol_is_said_to_be_one(kafka_secure: Secure) -> None:
    with pytest.raises((SettingsError, Unavailable)) as caught:
        await asyncio.wait_for(reach(SMFSettings(**wrong(kafka_secure, "TLS to a plain listener"))), 40)
    assert "kafka_security_protocol" in f"{caught.value} {getattr(caught.value, 'remedy', '')}"


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "u"}, "kafka_sasl_password"),
        ({"kafka_security_protocol": "TLS"}, "kafka_security_protocol"),
        ({"kafka_sasl_mechanism": "GSSAPI"}, "kafka_sasl_mechanism"),
        ({"kafka_ssl_key_location": "k.pem"}, "kafka_ssl_certificate_location"),
        ({"kafka_memory_events_topic": "memory events"}, "kafka_memory_events_topic"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings: dict[str, str], names: str) -> None:
    with pytest.raises(SettingsError, match=names):
        load_settings(environ={f"SOMA_{name.upper()}": value for name, value in settings.items()})


def test_the_names_of_the_service_we_replace_are_taken() -> None:
    found = load_settings(
        environ={
            "MEMORY_MODE": "evented_enterprise",
            "SOMA_EMBEDDING_PROVIDER": "hash",
            "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
            "KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
            "KAFKA_SSL_CA_LOCATION": "/etc/soma/tls/kafka/ca.crt",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": "u",
            "KAFKA_SASL_PASSWORD": "hidden",
            "KAFKA_MEMORY_EVENTS_TOPIC": "m.e",
            "KAFKA_CONSUMER_GROUP": "g",
            "CONSUMER_METRICS_PORT": "8002",
        }
    )
    settings = found.settings
    assert (settings.mode, settings.eventing_enabled, settings.kafka_memory_events_topic) == (
        "distributed",
        True,
        "m.e",
    )
    assert (settings.kafka_security_protocol, settings.consumer_metrics_port) == ("SASL_SSL", 8002)
    assert "hidden" not in str(found.summary())
    assert found.warnings == ()


async def test_a_configuration_update_is_heard_by_every_process(site: Site) -> None:
    topic = f"{uuid.uuid4().hex}.config"
    await create_topics(site.settings.kafka_bootstrap_servers or "", topic, partitions=2)
    settings = site.settings.model_copy(update={"kafka_config_updates_topic": topic})
    heard: list[list[Sequence[ConfigUpdate]]] = [[], []]
    watchers = [ConfigWatcher(settings, broken, listener(into)) for into in heard]
    for watcher in watchers:
        watcher.start()
    await eventually(lambda: all(heard))  # each is told once that it listens
    async with producing(settings) as producer:
        await producer.send_and_wait(topic, b'{"rate_limit_max": 5}', b"settings")
        await producer.send_and_wait(topic, b"\xff", b"flags")
    expected = {("settings", 5), ("flags", None)}

    def keys(into: list[Sequence[ConfigUpdate]]) -> set[Any]:
        return {(one.key, one.value and one.value["rate_limit_max"]) for updates in into for one in updates}

    await eventually(lambda: all(keys(into) == expected for into in heard))
    for watcher in watchers:
        await watcher.stop()


async def test_a_server_takes_over_its_settings_when_it_is_told_to_look(
    site: Site, serve: Serve, tmp_path: Path
) -> None:
    topic, address = f"{uuid.uuid4().hex}.config", site.settings.kafka_bootstrap_servers or ""
    await create_topics(address, topic)
    file = tmp_path / "soma.yaml"
    file.write_text("top_k_max: 10\n")
    how = {
        "SOMA_KAFKA_BOOTSTRAP_SERVERS": address,
        "SOMA_KAFKA_CONFIG_UPDATES_TOPIC": topic,
        "EVENTING_ENABLED": "false",
    }
    server = serve("--config", str(file), **how)

    def bound() -> str | None:
        with server.client() as client:
            return client.post("/recall", json={"query": "tea", "top_k": 20}).headers.get("X-Soma-Top-K")

    assert await asyncio.to_thread(bound) == "10"
    await eventually(lambda: any("config updates" in line["message"] for line in server.log_lines()))
    async with producing(site.settings) as producer:
        file.write_text("top_k_max: ten\n")
        await producer.send_and_wait(topic, b"{}")
        await eventually(lambda: any("stay as they were" in line["message"] for line in server.log_lines()))
        file.write_text("top_k_max: 30\nhttp_port: 1\n")
        await producer.send_and_wait(topic, b"{}")
        await eventually(lambda: any("settings changed: top_k_max" in line["message"] for line in server.log_lines()))
    assert await asyncio.to_thread(bound) is None
    assert server.stop() == 0


async def broken(updates: Sequence[ConfigUpdate]) -> None:
    """A listener that fails takes nothing from the others."""
    raise ValueError("cannot be taken")


def listener(into: list[Sequence[ConfigUpdate]]) -> Any:
    async def hear(updates: Sequence[ConfigUpdate]) -> None:
        into.append(updates)

    return hear
