"""Deletion, loss and mistakes: nothing hangs, nothing is silently empty, what runs goes on running."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from e2e.harness import Memory
from hack.kube import Kubectl, KubectlError, wait_until

STORED = {"coord": "4,2,0", "payload": {"text": "Blue folder, second shelf"}, "type": "semantic"}


def gone(kubectl: Kubectl, kind: str, name: str) -> None:
    wait_until(lambda: kubectl.find(kind, name) is None, f"{kind}/{name} to vanish", timeout=60)


def test_retained_volume_serves_again_under_a_new_resource(memory: Callable[..., Memory]) -> None:
    agents = memory(deletionPolicy="Retain")
    agents.await_condition("Ready", "True")
    with agents.client() as client:
        assert client.post("/store", json=STORED).status_code == 200
    agents.kubectl("delete", "smem", "agents", "--timeout=30s")
    gone(agents.kubectl, "deployment", "agents")
    assert agents.kubectl.find("pvc", "agents-data") is not None
    again = memory(deletionPolicy="Retain")
    again.await_condition("Ready", "True")
    with again.client() as client:
        found = client.get("/memories/4,2,0", params={"memory_type": "semantic"}).json()["memory"]
        assert found["payload"] == STORED["payload"]


def test_deletion_policy_delete_takes_the_volume_along(memory: Callable[..., Memory]) -> None:
    agents = memory(deletionPolicy="Delete")
    agents.await_condition("Ready", "True")
    agents.kubectl("delete", "smem", "agents", "--timeout=30s")
    gone(agents.kubectl, "pvc", "agents-data")


def test_a_lost_volume_is_said_and_never_replaced_by_an_empty_one(memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    agents.kubectl("delete", "pvc", "agents-data", "--wait=false")
    agents.kubectl("scale", "deployment", "agents", "--replicas=0")
    agents.kubectl("delete", "pod", "-l", "memory.somatech.dev/memory=agents", "--wait=false")
    agents.await_condition("Stalled", "True", reason="DataLost", timeout=60)
    assert agents.condition("Ready")["status"] == "False"
    replacement = agents.kubectl.find("pvc", "agents-data")
    assert replacement is None or "deletionTimestamp" in replacement["metadata"]


def test_a_bad_specification_is_refused_with_the_field_and_the_remedy(memory: Callable[..., Memory]) -> None:
    with pytest.raises(KubectlError, match=r"spec\.scoring\.halfLife"):
        memory("bad", scoring={"halfLife": "three weeks"})
    with pytest.raises(KubectlError, match="persistance"):
        memory("typo", persistance={"size": "1Gi"})


def test_an_unsafe_unbuilt_feature_stalls_and_leaves_what_runs_alone(memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    before = agents.pod()
    assert before is not None
    memory(bootstrap={"fromBackup": {"backupName": "nightly"}})
    agents.await_condition("Stalled", "True", timeout=60)
    after = agents.pod()
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    with agents.client() as client:
        assert client.get("/readyz").status_code == 200


def test_suspend_stops_mending_and_says_so(memory: Callable[..., Memory]) -> None:
    agents = memory()
    agents.await_condition("Ready", "True")
    agents.kubectl("patch", "smem", "agents", "--type=merge", "-p", json.dumps({"spec": {"suspend": True}}))
    agents.await_condition("Suspended", "True", timeout=60)
    agents.kubectl("delete", "pdb", "agents")
    agents.kubectl("patch", "smem", "agents", "--type=merge", "-p", json.dumps({"spec": {"suspend": False}}))
    agents.await_condition("Suspended", "False", timeout=60)
    wait_until(lambda: agents.kubectl.find("pdb", "agents"), "the budget after resuming", timeout=60)
