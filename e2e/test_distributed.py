"""The distributed shape on the node: PostgreSQL, Redis and Kafka in pods over TLS, two replicas, consumers, a real HPA.

One fleet serves all tests of this file, in their order: starting it is most of what they cost.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import yaml

from e2e.backends import BackEnds
from e2e.conftest import fresh_namespace
from e2e.harness import Memory
from hack.cluster import Cluster
from hack.images import ImageError
from hack.images.backends import build_backends
from hack.install import load_images
from hack.kube import Kubectl, wait_until
from hack.requirement import unavailable

TOPICS = ("memory.events", "memory.dlq", "config.updates")
PYTHON = "/opt/soma/bin/python"
SMALL = {"requests": {"cpu": "50m", "memory": "192Mi"}, "limits": {"memory": "640Mi"}}
# Run in a pod of the image under test: what a user's own producer would do, with the certificates mounted there.
SCRIPT = """
import asyncio, json, ssl, sys
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

async def reached(broker):
    host, port = broker.split(":")
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection(host, int(port))
            return writer.close()
        except OSError:
            await asyncio.sleep(0.2)

async def main(broker, ca, topics, events):
    await reached(broker)
    trusted = ssl.create_default_context(cafile=ca)
    encrypted = {"bootstrap_servers": broker, "security_protocol": "SSL", "ssl_context": trusted}
    if topics:
        admin = AIOKafkaAdminClient(**encrypted)
        await admin.start()
        await admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1) for topic in topics])
        await admin.close()
    if events:
        async with AIOKafkaProducer(**encrypted) as producer:
            for event in events:
                await producer.send_and_wait("memory.events", json.dumps(event).encode())

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def backends(cluster: Cluster, operator: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackEnds]:
    """PostgreSQL, Redis and Kafka, started and not waited for; the topics are made by a Job that waits itself."""
    try:
        image = build_backends()
    except ImageError as error:
        unavailable(str(error))
    load_images(cluster, {image.name: image})
    with fresh_namespace(operator) as namespace:
        found = BackEnds(namespace, image)
        found.apply(tmp_path_factory.mktemp("certificates"))
        namespace.apply(json.dumps(topics_job(found, runtime_image(operator))))
        yield found


@pytest.fixture(scope="module")
def fleet(backends: BackEnds) -> Memory:
    """A distributed SomaMemory that is Ready."""
    body = {
        "apiVersion": "memory.somatech.dev/v1alpha1",
        "kind": "SomaMemory",
        "metadata": {"name": "agents"},
        "spec": {
            "mode": "distributed",
            "scoring": {"embedding": {"provider": "hash"}},
            "endpoints": backends.endpoints(),
            "events": {"enabled": True},
            "topics": {"mode": "External"},
            "api": {
                "resources": SMALL,
                # Starting costs more than idling: what that adds must be gone before the autoscaler is tested.
                "autoscaling": {
                    "minReplicas": 2,
                    "maxReplicas": 3,
                    "targetCPUUtilizationPercentage": 100,
                    "scaleDownStabilizationSeconds": 5,
                },
            },
            "consumer": {"replicas": 1, "resources": SMALL},
        },
    }
    backends.kubectl.apply(yaml.safe_dump(body))
    memory = Memory(backends.kubectl, "agents")
    memory.await_condition("Ready", "True", timeout=180)
    wait_until(lambda: len(memory.pods("api")) >= 2, "two replicas", timeout=60)
    return memory


def runtime_image(operator: Kubectl) -> str:
    (container,) = operator.get("deployment", "soma-operator")["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: str(entry["value"]) for entry in container["env"] if "value" in entry}
    return environment["SOMA_OPERATOR_RUNTIME_IMAGE"]


def topics_job(backends: BackEnds, image: str) -> dict[str, Any]:
    restricted = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "topics",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [PYTHON, "-c", SCRIPT, json.dumps([backends.broker, "/tls/ca.crt", TOPICS, []])],
        "securityContext": restricted,
        "volumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": True}],
    }
    pod = {
        "restartPolicy": "OnFailure",
        "containers": [container],
        "volumes": [{"name": "tls", "secret": {"secretName": "authority"}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "topics"},
        "spec": {"backoffLimit": 30, "template": {"spec": pod}},
    }


def stored(client: httpx.Client, coordinate: str, text: str) -> int:
    """Store a memory; returns its sequence number."""
    reply = client.post("/store", json={"coord": coordinate, "payload": {"text": text}, "type": "episodic"})
    assert reply.status_code == 200, reply.text
    return int(reply.headers["X-Soma-Seq"])


def recalled(client: httpx.Client, query: str, **more: Any) -> list[str]:
    reply = client.post("/recall_with_scores", json={"query": query, "top_k": 3, "hybrid": False} | more)
    assert reply.status_code == 200, reply.text
    return [hit["payload"].get("text", "") for hit in reply.json()["results"]]


def test_a_fleet_migrates_then_serves_and_every_condition_is_what_is_there(fleet: Memory) -> None:
    jobs = fleet.kubectl.get("jobs", "-l", "memory.somatech.dev/memory=agents")["items"]
    assert [job["status"]["succeeded"] for job in jobs] == [1]
    expected = {
        "DatabaseReady": "Reachable",
        "CacheReady": "Reachable",
        "KafkaReady": "Reachable",
        "TopicsReady": "TopicsExternal",
        "Migrated": "Migrated",
        "RuntimeReady": "RolloutComplete",
        "ConsumerReady": "RolloutComplete",
        "SecretsReady": "SecretGenerated",
    }
    for kind, reason in expected.items():
        fleet.await_condition(kind, "True", reason=reason, timeout=60)
    assert fleet.kubectl.get("pvc", "-l", "memory.somatech.dev/memory=agents")["items"] == []


def test_what_one_replica_stored_the_other_recalls(fleet: Memory) -> None:
    first, second = fleet.pods("api")[:2]
    with (
        fleet.client(f"pod/{first['metadata']['name']}") as here,
        fleet.client(f"pod/{second['metadata']['name']}") as there,
    ):
        seq = stored(here, "1,1,1", "The boiler room key hangs behind the door")
        assert recalled(there, "boiler room key", min_seq=seq)[0] == "The boiler room key hangs behind the door"
        seq = stored(there, "2,2,2", "The attic is locked on Sundays")
        assert recalled(here, "attic locked Sundays", min_seq=seq)[0] == "The attic is locked on Sundays"


def test_an_event_from_kafka_is_recalled(fleet: Memory, backends: BackEnds) -> None:
    event = {
        "event_id": "e2e-1",
        "id": "e2e-1",
        "namespace": "api_ns",
        "type": "created",
        "timestamp": "2026-01-01T00:00:00Z",
        "payload": {"text": "The ferry leaves at seven", "coordinate": "9,9,9", "memory_type": "episodic"},
    }
    arguments = json.dumps([backends.broker, "/etc/soma/tls/kafka/ca.crt", [], [event]])
    fleet.kubectl("exec", "deployment/agents-api", "--", PYTHON, "-c", SCRIPT, arguments)
    with fleet.client() as client:
        wait_until(
            lambda: "The ferry leaves at seven" in recalled(client, "when does the ferry leave"),
            "the event to be recalled",
            timeout=30,
        )


def test_a_deleted_pod_takes_nothing_along(fleet: Memory) -> None:
    victim = fleet.pods("api")[0]["metadata"]
    with fleet.client(f"pod/{victim['name']}") as client:
        seq = stored(client, "3,3,3", "The spare fuse is in the drawer")
    fleet.kubectl("delete", "pod", victim["name"], "--force", "--grace-period=0")
    assert fleet.condition("Available")["status"] == "True"
    survivor = next(p["metadata"] for p in fleet.pods("api") if p["metadata"]["uid"] != victim["uid"])
    with fleet.client(f"pod/{survivor['name']}") as client:
        assert recalled(client, "spare fuse drawer", min_seq=seq)[0] == "The spare fuse is in the drawer"
    wait_until(lambda: len(fleet.pods("api")) >= 2, "the second replica", timeout=60)


def test_a_fail_over_of_postgresql_needs_no_restart(fleet: Memory, backends: BackEnds) -> None:
    pods = {p["metadata"]["uid"] for p in fleet.pods("api")}
    target = f"pod/{fleet.pods('api')[0]['metadata']['name']}"
    with fleet.client(target) as client:
        before = client.get("/stats").json()
        backends.stop("postgres")

        def stale() -> bool:
            answer = client.get("/stats")
            return answer.status_code == 200 and answer.json().get("stale") is True

        wait_until(stale, "the last known counts", timeout=60)
        assert client.get("/stats").json()["total_memories"] == before["total_memories"]
        refused = client.post("/store", json={"coord": "4,4,4", "payload": {"text": "x"}, "type": "episodic"})
        assert refused.status_code == 503
        assert refused.json()["remedy"]
        fleet.await_condition("DatabaseReady", "False", reason="Unreachable", timeout=60)
        assert fleet.condition("Available")["status"] == "True"
        backends.start("postgres")
        wait_until(
            lambda: client.post("/store", json={"coord": "5,5,5", "payload": {"text": "y"}}).status_code == 200,
            "a store after the fail-over",
            timeout=60,
        )
        assert "The spare fuse is in the drawer" in recalled(client, "spare fuse drawer")
    fleet.await_condition("DatabaseReady", "True", timeout=60)
    assert {p["metadata"]["uid"] for p in fleet.pods("api")} == pods


def test_the_autoscaler_adds_a_replica_under_load(fleet: Memory) -> None:
    fleet.await_condition("AutoscalingActive", "True", timeout=60)

    def replicas() -> int:
        return int(fleet.kubectl.get("deployment", "agents-api")["spec"]["replicas"])

    wait_until(lambda: replicas() == 2, "two replicas while nobody asks", timeout=60, every=1)
    done = threading.Event()
    questions = ["boiler room key", "attic on Sundays", "ferry at seven", "fuse in the drawer"] * 15

    def press(pod: str) -> None:
        with fleet.client(f"pod/{pod}") as client:
            while not done.is_set():
                client.post("/recall_batch", json={"queries": questions, "top_k": 3})

    with ThreadPoolExecutor(2) as pool:
        for pod in fleet.pods("api"):
            pool.submit(press, pod["metadata"]["name"])
        try:
            wait_until(lambda: replicas() == 3, "a third replica", timeout=90, every=1)
        finally:
            done.set()
    assert fleet.condition("AutoscalingActive")["status"] == "True"
    assert not (fleet.resource()["status"].get("drift") or {}).get("count")
