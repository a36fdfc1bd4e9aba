"""Apache Kafka in KRaft mode from its published artifacts: one broker or several, on loopback."""

from __future__ import annotations

import secrets
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hack.services.certificates import Authority
from hack.services.maven import jars
from hack.services.service import Service, ServiceError, answers, free_port

VERSION = "4.1.1"
_HEAP = "-Xmx384m"
_ARTIFACTS = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.slf4j:slf4j-simple:1.7.36")


def kafka_jars() -> Path:
    """The folder of Kafka's jars, collected on first use; raises ServiceError when they cannot be had."""
    return jars(f"kafka-{VERSION}-logged", _ARTIFACTS, wanted_for="the Kafka tests")


def _properties(node: int, ports: list[tuple[int, int]], logs: Path) -> dict[str, object]:
    voters = ",".join(f"{index}@127.0.0.1:{controller}" for index, (_, controller) in enumerate(ports, start=1))
    broker, controller = ports[node - 1]
    replicas = min(3, len(ports))
    return {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": logs,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 3,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": max(1, replicas - 1),
        "min.insync.replicas": max(1, replicas - 1),
        "default.replication.factor": replicas,
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
    }


def _cluster_id() -> str:
    """16 bytes in base64url, the first of them zero: one that begins with a dash is an option to Kafka's formatter."""
    return urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")


def _ready(port: int, log: Path) -> bool:
    return answers(port) and "Kafka Server started" in log.read_text(errors="replace")


def start_kafka(directory: Path, *, brokers: int = 1) -> list[Service]:
    """Start `brokers` brokers that form one cluster below `directory`; each service's url is ``host:port``.

    Raises:
        ServiceError: when the artifacts cannot be had or a broker does not start.
    """
    ports = [(free_port(), free_port()) for _ in range(brokers)]
    cluster_id = _cluster_id()
    with ThreadPoolExecutor() as together:
        nodes = range(1, brokers + 1)
        services = list(together.map(lambda node: _broker(directory, node, ports, cluster_id), nodes))
    return _start_together(services)


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """One broker with two more listeners beside the plain one of `service`.

    Attributes:
        service: the broker; its url is the plain listener.
        mutual: ``host:port`` of TLS that demands a client certificate of the authority.
        sasl: ``host:port`` of SASL over TLS: PLAIN and SCRAM-SHA-512.
        user: the SASL user.
        password: its password.
    """

    service: Service
    mutual: str
    sasl: str
    user: str
    password: str


def start_secure_kafka(directory: Path, authority: Authority) -> SecureKafka:
    """Start one broker whose certificate, and whose clients' certificates, are of `authority`.

    Raises:
        ServiceError: when the artifacts cannot be had or the broker does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    user, password, mutual, sasl = "soma", secrets.token_hex(16), free_port(), free_port()
    ports = [(free_port(), free_port())]
    pair = authority.issue("kafka")
    keystore = directory / "kafka.pem"
    keystore.write_text(pair.key.read_text() + pair.certificate.read_text())
    plain = f"PLAINTEXT://127.0.0.1:{ports[0][0]}"
    clients = f"{plain},MUTUAL://127.0.0.1:{mutual},PASSWORD://127.0.0.1:{sasl}"
    module = "org.apache.kafka.common.security"
    extra = {
        "listeners": f"{clients},CONTROLLER://127.0.0.1:{ports[0][1]}",
        "advertised.listeners": clients,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,MUTUAL:SSL,PASSWORD:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keystore,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority.certificate,
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.password.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.password.plain.sasl.jaas.config": (
            f'{module}.plain.PlainLoginModule required user_{user}="{password}";'
        ),
        "listener.name.password.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
    }
    cluster_id = _cluster_id()
    scram = ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
    broker = _broker(directory, 1, ports, cluster_id, extra=extra, formatting=scram)
    _start_together([broker])
    return SecureKafka(broker, f"127.0.0.1:{mutual}", f"127.0.0.1:{sasl}", user, password)


def _broker(
    directory: Path,
    node: int,
    ports: list[tuple[int, int]],
    cluster_id: str,
    *,
    extra: Mapping[str, object] | None = None,
    formatting: Sequence[str] = (),
) -> Service:
    """A formatted broker that has not been started."""
    classpath = f"{kafka_jars()}/*"
    java = ["java", _HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", classpath]
    home = directory / f"kafka-{node}"
    home.mkdir(parents=True)
    properties = home / "server.properties"
    values = _properties(node, ports, home / "logs") | dict(extra or {})
    properties.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    properties.chmod(0o600)
    storage = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties), *formatting]
    done = subprocess.run(storage, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServiceError(f"Kafka's storage could not be formatted: {done.stderr.strip()[-300:]}")
    return Service(
        name=f"kafka-{node}",
        url=f"127.0.0.1:{ports[node - 1][0]}",
        command=[*java, "kafka.Kafka", str(properties)],
        log=home / "kafka.log",
        ready=lambda: True,
    )


def _start_together(services: list[Service]) -> list[Service]:
    """A quorum's brokers wait for one another: all are started before any is awaited."""
    for service in services:
        service.start()
    for service in services:
        port = int(service.url.rsplit(":", 1)[1])
        service.ready = lambda port=port, log=service.log: _ready(port, log)  # type: ignore[misc]
        service.await_ready(timeout=90)
    return services
