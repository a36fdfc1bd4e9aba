"""Deleting a SomaMemory: children go, the memories stay or go as deletionPolicy says, and nothing hangs."""

from __future__ import annotations

import time

from hack.kube import Kubectl
from tests.integration.engine.harness import Memory, Operator, until


def gone(kubectl: Kubectl, kinds: str) -> bool:
    return kubectl.get(kinds)["items"] == [] or all(
        item["metadata"]["name"] in ("default", "kube-root-ca.crt") for item in kubectl.get(kinds)["items"]
    )


CHILDREN = "deployment,service,secret,configmap,networkpolicy,pdb,serviceaccount"


def test_retain_keeps_the_volume_and_a_namesake_takes_it_over(serving: Memory) -> None:
    volume = serving.status["volume"]["uid"]
    started = time.monotonic()
    serving.kubectl("delete", "somamemory", "store", "--timeout=10s")
    assert time.monotonic() - started < 10
    until("children gone", lambda: gone(serving.kubectl, CHILDREN), 45, every=0.5)
    claim = serving.kubectl.get("pvc", "store-data")
    assert claim["metadata"]["uid"] == volume
    assert "ownerReferences" not in claim["metadata"]
    serving.create().serve()
    assert serving.status["volume"]["uid"] == volume


def test_delete_removes_the_volume_too(memory: Memory) -> None:
    memory.create({"deletionPolicy": "Delete"}).serve()
    memory.kubectl("delete", "somamemory", "store", "--timeout=10s")
    until("all gone", lambda: gone(memory.kubectl, CHILDREN + ",pvc"), 45, every=0.5)
    time.sleep(1)
    assert gone(memory.kubectl, CHILDREN + ",pvc"), "nothing was made again"


def test_foreground_deletion_ends_too(memory: Memory) -> None:
    memory.create().serve()
    memory.kubectl("delete", "somamemory", "store", "--cascade=foreground", "--timeout=45s")
    until("children gone", lambda: gone(memory.kubectl, "deployment,service"), 45, every=0.5)


def test_a_changed_deletion_policy_is_followed(serving: Memory) -> None:
    def owners() -> int:
        return len(serving.kubectl.get("pvc", "store-data")["metadata"].get("ownerReferences", ()))

    assert owners() == 0
    serving.patch({"spec": {"deletionPolicy": "Delete"}})
    until("an owner", lambda: owners() == 1)
    serving.patch({"spec": {"deletionPolicy": "Retain"}})
    until("no owner", lambda: owners() == 0)


def test_a_deleted_namespace_goes_and_nothing_is_written_into_it(serving: Memory, operator: Operator) -> None:
    serving.kubectl("delete", "namespace", serving.kubectl.namespace, "--timeout=60s", timeout=70)
    assert operator.probe("/livez")[0] == 200
