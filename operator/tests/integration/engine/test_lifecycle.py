"""From first sight to serving, and what is told on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from hack.kube import Kubectl
from soma_operator.api import BackupConditionType, MemoryConditionType
from soma_operator.api.status import PreflightPoint
from tests.integration.engine.harness import CHILDREN, ROOT, Memory, Operator, kstatus, token_value, until

TRANSIENT = {"Reconciling", "Stalled"}


def test_every_condition_is_there_on_first_sight(memory: Memory) -> None:
    memory.create()
    first = until("a status", lambda: memory.body().get("status") and memory.body())
    types = {condition["type"] for condition in first["status"]["conditions"]}
    assert types - TRANSIENT == {kind.value for kind in MemoryConditionType} - TRANSIENT
    assert kstatus(first) == "InProgress"
    assert [point["name"] for point in first["status"]["preflight"]] == [point.value for point in PreflightPoint]
    assert all(point["evidence"] for point in first["status"]["preflight"])


def test_ready_follows_the_real_rollout(memory: Memory) -> None:
    memory.create()
    until("children", lambda: memory.kubectl.find("deployment", "store"))
    conditions = memory.conditions()
    assert (conditions["Ready"]["status"], conditions["Reconciling"]["status"]) == ("False", "True")
    assert conditions["Available"]["reason"] == "NotServing"
    memory.serve()
    served = memory.body()
    assert kstatus(served) == "Current"
    assert "Reconciling" not in memory.conditions()
    assert served["status"]["version"] == {"desired": "tested", "current": "tested"}
    assert served["status"]["imageDigest"] == "sha256:" + "a" * 64
    assert served["status"]["objects"] == {"desired": 10, "ready": 10}
    assert served["status"]["history"][0]["completedAt"]
    assert served["status"]["readyReplicas"] == 1
    assert memory.condition("Initialized") == ("True", "Initialized")

    memory.patch({"spec": {"observability": {"logLevel": "DEBUG"}}})
    memory.wait("Ready", "False", "PodsNotReady", 10)
    assert kstatus(memory.body()) == "InProgress"
    assert memory.condition("Initialized") == ("True", "Initialized"), "it never goes back"
    memory.serve()
    assert [entry["generation"] for entry in memory.status["history"]] == [2, 1]


def test_the_spec_and_the_metadata_are_never_written(serving: Memory) -> None:
    body = serving.body()
    assert body["spec"] == {}
    assert body["metadata"]["generation"] == 1
    assert "finalizers" not in body["metadata"]
    assert not [key for key in body["metadata"].get("annotations", {}) if "kopf" in key or "last-handled" in key]
    managed = serving.kubectl.get("somamemory", "store", "--show-managed-fields")["metadata"]["managedFields"]
    assert {entry.get("subresource") for entry in managed if entry["manager"] == "soma-operator"} == {"status"}


def test_a_rollout_that_does_not_get_on_is_stalled_and_recovers(memory: Memory) -> None:
    memory.create()
    pods = until("pods", lambda: memory.kubectl.get("pods")["items"])
    failing = {"name": "runtime", "ready": False, "restartCount": 3, "image": "i", "imageID": "",
               "state": {"waiting": {"reason": "CrashLoopBackOff"}},
               "lastState": {"terminated": {"exitCode": 78}}}  # fmt: skip
    patch = json.dumps({"status": {"phase": "Running", "containerStatuses": [failing]}})
    memory.kubectl("patch", "pod", pods[0]["metadata"]["name"], "--subresource=status", "--type=merge", "-p", patch)
    condition = memory.wait("RuntimeReady", "False", "PodsCrashing")
    assert "exit code 78" in condition["message"]
    memory.serve()
    assert "Stalled" not in memory.conditions()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"access": {"tls": {"secretName": "cert"}}}, "spec.access.tls"),
        ({"access": {"jwt": {"issuer": "https://id.example", "audience": "soma"}}}, "spec.access.jwt"),
        ({"encryption": {"keySecretRef": {"name": "key", "key": "key"}}}, "spec.encryption"),
        ({"bootstrap": {"fromBackup": {"backupName": "nightly"}}}, "spec.bootstrap"),
        (
            {
                "mode": "distributed",
                "endpoints": {
                    "postgresql": {"host": "pg", "credentialsSecretRef": {"name": "pg"}},
                    "redis": {"host": "redis", "tls": {"mode": "Required"}},
                },
            },
            "spec.endpoints.redis.tls.mode",
        ),
    ],
)
def test_what_would_be_unsafe_to_ignore_is_stalled_and_not_rolled_out(memory: Memory, spec: dict, field: str) -> None:
    memory.create(spec)
    condition = memory.wait("Stalled", "True", "NotImplemented")
    assert condition["message"].startswith(field + ":")
    assert kstatus(memory.body()) == "Failed"
    time.sleep(0.5)
    assert memory.kubectl.get("deployment,pvc,service,secret")["items"] == []


@pytest.fixture
def older_schema(kubectl: Kubectl) -> Iterator[None]:
    """A CRD from before a rule existed: what it let in, today's operator refuses."""
    name = "somamemories.memory.somatech.dev"
    crd = kubectl.get("crd", name)
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["scoring"]["properties"]["importanceExponent"]["maximum"]
    kubectl("replace", "-f", "-", stdin=json.dumps(crd))
    time.sleep(1)
    yield
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))


def test_a_spec_that_becomes_bad_is_stalled_and_what_runs_goes_on(serving: Memory, older_schema: None) -> None:
    before = {
        f"{kind}/{name}": serving.kubectl.get(kind, name)["metadata"]["resourceVersion"] for kind, name in CHILDREN
    }
    serving.patch({"spec": {"scoring": {"importanceExponent": 9}}})
    condition = serving.wait("Stalled", "True", "InvalidSpec")
    assert "spec.scoring.importanceExponent" in condition["message"]
    assert serving.condition("Available") == ("True", "Serving")
    after = {
        f"{kind}/{name}": serving.kubectl.get(kind, name)["metadata"]["resourceVersion"] for kind, name in CHILDREN
    }
    assert after == before
    serving.patch({"spec": {"scoring": {"importanceExponent": 1}}})
    serving.serve()
    assert "Stalled" not in serving.conditions()


def test_suspended_changes_nothing_and_says_so(serving: Memory) -> None:
    serving.patch({"spec": {"suspend": True}})
    serving.wait("Suspended", "True", "Suspended")
    assert serving.condition("Ready") == ("True", "Serving")
    serving.kubectl("delete", "service", "store")
    serving.patch({"spec": {"observability": {"logLevel": "DEBUG"}}})
    serving.wait("Ready", "False", "Suspended")
    assert serving.kubectl.find("service", "store") is None
    assert "Reconciling" not in serving.conditions()
    serving.patch({"spec": {"suspend": False}})
    until("the service again", lambda: serving.kubectl.find("service", "store"))
    serving.serve()


def test_a_request_to_reconcile_is_answered(serving: Memory) -> None:
    serving.annotate(reconcile_at="now-1")
    until("an answer", lambda: serving.status.get("lastHandledReconcileAt") == "now-1")


def test_a_backup_says_that_backups_are_not_made_yet(operator: Operator, namespace: Kubectl) -> None:
    body = {
        "apiVersion": "memory.somatech.dev/v1alpha1",
        "kind": "SomaMemoryBackup",
        "metadata": {"name": "nightly"},
        "spec": {"memoryRef": {"name": "store"}, "schedule": "@daily", "destination": {"s3": {"bucket": "backups"}}},
    }
    namespace("create", "-f", "-", stdin=json.dumps(body))

    def conditions() -> dict[str, str]:
        found = namespace.get("somamemorybackup", "nightly").get("status", {}).get("conditions", ())
        return {condition["type"]: condition["reason"] for condition in found}

    found = until("conditions", conditions)
    assert set(found) == {kind.value for kind in BackupConditionType} - {"Reconciling"}
    assert found["Stalled"] == "MemoryNotFound"
    assert kstatus(namespace.get("somamemorybackup", "nightly")) == "Failed"
    Memory(namespace).create()
    until("the memory was seen", lambda: conditions()["Stalled"] == "NotImplemented")


def test_the_token_is_generated_once_and_told_to_nobody(serving: Memory, operator: Operator) -> None:
    value = token_value(serving.kubectl)
    assert len(value) >= 32
    serving.kubectl("label", "secret", "store-token", "team=me")
    serving.annotate(reconcile_at="again")
    until("an answer", lambda: serving.status.get("lastHandledReconcileAt") == "again")
    assert token_value(serving.kubectl) == value
    told = operator.log.read_text() + json.dumps(serving.body()) + json.dumps(serving.kubectl.get("events"))
    assert value not in told


def test_a_referenced_token_is_used_and_its_absence_named(memory: Memory) -> None:
    memory.create({"access": {"tokenSecretRef": {"name": "mine", "key": "bearer"}}})
    condition = memory.wait("SecretsReady", "False", "SecretNotFound")
    assert "spec.access.tokenSecretRef: Secret mine" in condition["message"]
    assert memory.kubectl.find("deployment", "store") is None
    memory.kubectl("create", "secret", "generic", "mine", "--from-literal=wrong=x")
    memory.wait("SecretsReady", "False", "SecretKeyMissing", 20)
    memory.kubectl("patch", "secret", "mine", "--type=merge", "-p", '{"stringData":{"bearer":"abc"}}')
    memory.wait("SecretsReady", "True", "SecretReferenced", 20)
    until("the deployment", lambda: memory.kubectl.find("deployment", "store"))
    assert memory.kubectl.find("secret", "store-token") is None
