"""Apache Kafka in KRaft mode from its published artifacts: one broker or several, on loopback."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from hack.cluster.tools.debian import require
from hack.cluster.tools.store import cache_root, exclusive
from hack.services.service import Service, ServiceError, answers, free_port

VERSION = "4.1.1"
_HEAP = "-Xmx384m"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>soma.test</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


def _jars() -> Path:
    """The folder of Kafka's jars in the cache, collected by Maven on first use."""
    home = cache_root() / f"kafka-{VERSION}-logged"
    with exclusive(cache_root() / "kafka.lock"):
        if (home / ".complete").exists():
            return home / "libs"
        if shutil.which("java") is None:
            require(("openjdk-17-jre-headless",), "the Kafka tests")
        if shutil.which("mvn") is None:
            require(("maven",), "the Kafka tests")
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "pom.xml").write_text(_POM)
        collect = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={home / 'libs'}"]
        done = subprocess.run(collect, cwd=home, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stdout.strip().splitlines() or ["no message"])[-1]
            raise ServiceError(f"Maven could not collect Kafka {VERSION} ({last}): is its repository reachable?")
        (home / ".complete").touch()
    return home / "libs"


def _properties(node: int, ports: list[tuple[int, int]], logs: Path) -> str:
    voters = ",".join(f"{index}@127.0.0.1:{controller}" for index, (_, controller) in enumerate(ports, start=1))
    broker, controller = ports[node - 1]
    replicas = min(3, len(ports))
    values = {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": logs,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": max(1, replicas - 1),
        "min.insync.replicas": max(1, replicas - 1),
        "default.replication.factor": replicas,
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _ready(port: int, log: Path) -> bool:
    return answers(port) and "Kafka Server started" in log.read_text(errors="replace")


def start_kafka(directory: Path, *, brokers: int = 1) -> list[Service]:
    """Start `brokers` brokers that form one cluster below `directory`; each service's url is ``host:port``.

    Raises:
        ServiceError: when the artifacts cannot be had or a broker does not start.
    """
    classpath = f"{_jars()}/*"
    java = ["java", _HEAP, "-XX:+UseSerialGC", "-cp", classpath]
    ports = [(free_port(), free_port()) for _ in range(brokers)]
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    services = []
    for node, (broker, _) in enumerate(ports, start=1):
        home = directory / f"kafka-{node}"
        home.mkdir(parents=True)
        (home / "server.properties").write_text(_properties(node, ports, home / "logs"))
        storage = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(home / "server.properties")]
        done = subprocess.run(storage, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServiceError(f"Kafka's storage could not be formatted: {done.stderr.strip()[-300:]}")
        log = home / "kafka.log"
        services.append(
            Service(
                name=f"kafka-{node}",
                url=f"127.0.0.1:{broker}",
                command=[*java, "kafka.Kafka", str(home / "server.properties")],
                log=log,
                ready=lambda: True,
            )
        )
    return _start_together(services)


def _start_together(services: list[Service]) -> list[Service]:
    """A quorum's brokers wait for one another: all are started before any is awaited."""
    for service in services:
        service.start()
    for service in services:
        port = int(service.url.rsplit(":", 1)[1])
        service.ready = lambda port=port, log=service.log: _ready(port, log)  # type: ignore[misc]
        service.await_ready(timeout=90)
    return services
