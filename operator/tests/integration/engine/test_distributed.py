"""Distributed mode: what waits for what, on a real API server, with PostgreSQL and Redis really there to be seen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hack.kube import Kubectl
from hack.requirement import unavailable
from hack.services import Service, ServiceError, start_postgres, start_redis
from hack.services.service import free_port
from tests.integration.engine.conftest import NewOperator
from tests.integration.engine.harness import Memory, Operator, everything, until

PROBE_SECONDS = "0.4"


def opened(directory: Path) -> Path:
    """PostgreSQL's own account must reach its data below pytest's private folders."""
    for folder in (directory, *directory.parents[:2]):
        folder.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    """PostgreSQL and Redis on loopback, where the operator under test runs too."""
    started: dict[str, Service] = {}
    try:
        started["postgres"] = start_postgres(opened(tmp_path_factory.mktemp("postgres")))
        started["redis"] = start_redis(tmp_path_factory.mktemp("redis"))
        yield started
    except ServiceError as error:
        unavailable(str(error))
    finally:
        for service in started.values():
            service.stop()


@pytest.fixture(scope="module")
def looking(new_operator: NewOperator) -> Operator:
    """An operator that looks at back ends often."""
    return new_operator(PROBE_SECONDS=PROBE_SECONDS).ready()


@pytest.fixture
def fleet(looking: Operator, namespace: Kubectl) -> Memory:
    """A SomaMemory that is not created yet, beside the Secret that it will name."""
    namespace("create", "secret", "generic", "pg", "--from-literal=username=u", "--from-literal=password=hunter2")
    return Memory(namespace)


def spec(servers: Mapping[str, Service], postgres_port: int | None = None, **more: Any) -> dict[str, Any]:
    def port(name: str) -> int:
        found = urlsplit(servers[name].url).port
        assert found is not None
        return found

    plain = {"mode": "Disabled"}
    return {
        "mode": "distributed",
        "endpoints": {
            "postgresql": {
                "host": "127.0.0.1",
                "port": postgres_port or port("postgres"),
                "credentialsSecretRef": {"name": "pg"},
                "tls": plain,
            },
            "redis": {"host": "127.0.0.1", "port": port("redis"), "tls": plain},
        },
    } | more


def migration(memory: Memory) -> dict[str, Any] | None:
    jobs = [job for job in memory.kubectl.get("jobs")["items"] if not job["metadata"].get("deletionTimestamp")]
    return jobs[0] if jobs else None


def end_migration(memory: Memory, phase: str) -> None:
    """The Job's pod ends as a kubelet would tell it; the Job controller draws its conclusions."""
    job = until("a migration", lambda: migration(memory), 45)
    owned = f"job-name={job['metadata']['name']}"
    pods = until("its pod", lambda: memory.kubectl.get("pods", "-l", owned)["items"], 45)
    code = 0 if phase == "Succeeded" else 1
    ended = {"name": "runtime", "state": {"terminated": {"exitCode": code}}, "ready": False, "restartCount": 0}
    ended |= {"image": "i", "imageID": ""}
    patch = {"status": {"phase": phase, "containerStatuses": [ended]}}
    for pod in pods:
        name = pod["metadata"]["name"]
        memory.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps(patch))


def serve(memory: Memory) -> Memory:
    end_migration(memory, "Succeeded")
    until("the Deployment", lambda: memory.kubectl.find("deployment", "store-api"), 45)
    return memory.serve("store-api")


def test_a_variable_of_the_spec_replaces_a_credential_of_ours(fleet: Memory, servers: dict[str, Service]) -> None:
    env = [{"name": "PGPASSWORD", "value": "from-the-spec"}]
    fleet.create(spec(servers, podTemplate={"env": env}, version="1.2.3+build"))
    serve(fleet)
    runtime = fleet.kubectl.get("deployment", "store-api")["spec"]["template"]["spec"]["containers"][0]
    assert [entry for entry in runtime["env"] if entry["name"] == "PGPASSWORD"] == env
    assert runtime["image"].endswith(":1.2.3_build")


def test_a_fleet_migrates_first_and_serves_with_what_was_seen(fleet: Memory, servers: dict[str, Service]) -> None:
    fleet.create(spec(servers))
    fleet.wait("DatabaseReady", "True", "Reachable")
    fleet.wait("CacheReady", "True", "Reachable")
    fleet.wait("Migrated", "False", "MigrationRunning")
    assert fleet.condition("Reconciling") == ("True", "MigrationRunning")
    assert fleet.kubectl.get("deployments")["items"] == [], "the gate"
    serve(fleet)
    assert fleet.condition("Migrated") == ("True", "Migrated")
    assert fleet.condition("ConsumerReady") == ("True", "Disabled")
    assert fleet.kubectl.get("pvc")["items"] == []
    assert "hunter2" not in json.dumps(fleet.kubectl.get("deployment,job,configmap,somamemory"))
    before = everything(fleet.kubectl)
    time.sleep(1.5)
    assert everything(fleet.kubectl) == before, "probes write nothing while nothing changes"


def test_nothing_begins_before_the_ledger_answers(fleet: Memory, servers: dict[str, Service]) -> None:
    fleet.create(spec(servers, postgres_port=free_port()))
    fleet.wait("DatabaseReady", "False", "Unreachable")
    message = fleet.wait("Ready", "False", "WaitingForDependency")["message"]
    assert "127.0.0.1" in message
    assert migration(fleet) is None
    assert "Stalled" not in fleet.conditions()
    fleet.patch({"spec": spec(servers)})
    fleet.wait("Migrated", "False", "MigrationRunning")


def test_a_missing_secret_is_named_and_its_rotation_rolls_the_pods(fleet: Memory, servers: dict[str, Service]) -> None:
    fleet.kubectl("delete", "secret", "pg")
    fleet.create(spec(servers))
    condition = fleet.wait("SecretsReady", "False", "SecretNotFound")
    assert "spec.endpoints.postgresql: Secret pg" in condition["message"]
    assert migration(fleet) is None
    fleet.kubectl("create", "secret", "generic", "pg", "--from-literal=username=u", "--from-literal=password=p")
    serve(fleet)

    def template() -> dict[str, str]:
        found = fleet.kubectl.get("deployment", "store-api")["spec"]["template"]["metadata"]["annotations"]
        return dict(found)

    before = template()
    fleet.kubectl("patch", "secret", "pg", "--type=merge", "-p", '{"stringData":{"password":"rotated"}}')
    fleet.annotate(reconcile_at="now")
    until("another template", lambda: template() != before)
    changed = {key for key, value in template().items() if before[key] != value}
    assert changed == {"memory.somatech.dev/credentials-digest"}


def test_an_outage_of_the_cache_is_told_and_mended_without_a_restart(
    fleet: Memory, servers: dict[str, Service]
) -> None:
    serve(fleet.create(spec(servers)))
    pods = {pod["metadata"]["uid"] for pod in fleet.kubectl.get("pods")["items"]}
    servers["redis"].stop()
    try:
        fleet.wait("CacheReady", "False", "Unreachable", 20)
        assert fleet.condition("Ready") == fleet.condition("Available") == ("True", "Serving")
    finally:
        servers["redis"].start()
    fleet.wait("CacheReady", "True", "Reachable", 20)
    assert {pod["metadata"]["uid"] for pod in fleet.kubectl.get("pods")["items"]} == pods


def test_a_new_version_migrates_while_the_old_one_serves(fleet: Memory, servers: dict[str, Service]) -> None:
    serve(fleet.create(spec(servers)))
    old = migration(fleet)
    assert old is not None
    image = fleet.kubectl.get("deployment", "store-api")["spec"]["template"]["spec"]["containers"][0]["image"]
    fleet.patch({"spec": {"version": "9.9.9"}})
    fleet.wait("Ready", "False", "MigrationRunning")
    assert fleet.condition("Available") == ("True", "Serving")
    live = fleet.kubectl.get("deployment", "store-api")
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == image
    until("the old Job to go", lambda: fleet.kubectl.find("job", old["metadata"]["name"]) is None)
    serve(fleet)
    assert fleet.status["version"]["current"] == "9.9.9"


def test_a_migration_out_of_retries_stalls_until_its_job_is_deleted(fleet: Memory, servers: dict[str, Service]) -> None:
    serve(fleet.create(spec(servers)))
    fleet.patch({"spec": {"version": "9.9.9"}})
    fleet.wait("Ready", "False", "MigrationRunning")
    job = until("the Job", lambda: migration(fleet))
    name = job["metadata"]["name"]
    fleet.kubectl("patch", "job", name, "--type=merge", "-p", '{"spec":{"activeDeadlineSeconds":1}}')
    message = fleet.wait("Stalled", "True", "MigrationFailed", 30)["message"]
    assert name in message
    assert fleet.condition("Available") == ("True", "Serving")
    fleet.kubectl("delete", "job", name)
    serve(fleet)
    assert "Stalled" not in fleet.conditions()


def test_an_autoscaler_takes_the_live_number_over(fleet: Memory, servers: dict[str, Service]) -> None:
    serve(fleet.create(spec(servers, api={"replicas": 3})))
    fleet.patch({"spec": {"api": {"replicas": None, "autoscaling": {"minReplicas": 2, "maxReplicas": 5}}}})
    until("the autoscaler", lambda: fleet.kubectl.find("hpa", "store-api"))
    until("the new generation", lambda: fleet.status.get("observedGeneration") == 2)
    assert fleet.kubectl.get("deployment", "store-api")["spec"]["replicas"] == 3, "dropped, it would be 1"
    fleet.wait("AutoscalingActive", "False", "MetricsUnavailable")
    fleet.kubectl("scale", "deployment", "store-api", "--replicas=4")
    time.sleep(1)
    assert fleet.kubectl.get("deployment", "store-api")["spec"]["replicas"] == 4
    assert not (fleet.status.get("drift") or {}).get("count")
    fleet.patch({"spec": {"api": {"autoscaling": None, "replicas": 2}}})
    until("our own number", lambda: fleet.kubectl.get("deployment", "store-api")["spec"]["replicas"] == 2)
    assert until("no autoscaler", lambda: fleet.kubectl.find("hpa", "store-api") is None)


def test_consumers_come_with_events(fleet: Memory, servers: dict[str, Service], tmp_path: Path) -> None:
    wanted = spec(servers, events={"enabled": True}, topics={"mode": "External"})
    silent = {"bootstrapServers": [f"127.0.0.1:{free_port()}"], "tls": {"mode": "Disabled"}}
    wanted["endpoints"] = {**wanted["endpoints"], "kafka": silent}
    fleet.create(wanted)
    end_migration(fleet, "Succeeded")
    fleet.make_pods_ready("store-api")
    fleet.wait("RuntimeReady", "True", "RolloutComplete", 20)
    assert fleet.condition("Ready") == ("False", "RollingOut")
    fleet.make_pods_ready("store-consumer")
    fleet.wait("Ready", "True", "Serving", 20)
    assert fleet.condition("ConsumerReady") == ("True", "RolloutComplete")
    fleet.wait("KafkaReady", "False", "Unreachable")
    assert fleet.condition("TopicsReady") == ("Unknown", "Unreachable")
