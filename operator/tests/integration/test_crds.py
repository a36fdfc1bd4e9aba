"""The CRDs on a real API server: what it refuses, what it explains, what it keeps as it was written."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from hack.kube import Kubectl, KubectlError, wait_until


def memory(spec: dict[str, Any], name: str = "tested") -> str:
    body = {
        "apiVersion": "memory.somatech.dev/v1alpha1",
        "kind": "SomaMemory",
        "metadata": {"name": name},
        "spec": spec,
    }
    return json.dumps(body)


LEDGER = {"postgresql": {"host": "pg.data.svc", "credentialsSecretRef": {"name": "pg"}}}


def test_a_rule_refuses_its_violation_and_says_why(shared_namespace: Kubectl, violation: Any) -> None:
    if violation.before is not None:
        shared_namespace("create", "-f", "-", stdin=json.dumps(violation.body(violation.before)))
    verb = "create" if violation.before is None else "replace"
    with pytest.raises(KubectlError) as refusal:
        shared_namespace(verb, "-f", "-", stdin=json.dumps(violation.body()))
    assert violation.says in str(refusal.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"mode": "embedded"}),
        ({}, {"persistence": {"size": "10Gi"}}),
        ({"persistence": {"size": "10Gi"}}, {"persistence": {"size": "10240Mi"}}),
        ({"persistence": {"size": "1Gi"}}, {}),
        ({}, {"scoring": {"embedding": {"dimension": 384}}}),
        ({"scoring": {"featureWeights": {"a": 0.1, "b": 0.2}}}, {"scoring": {"featureWeights": {"a": 0.7, "b": 0.3}}}),
        ({"scoring": {"halfLife": "30d"}}, {"scoring": {"halfLife": "none"}}),
    ],
)
def test_a_change_that_changes_nothing_immutable_is_taken(
    shared_namespace: Kubectl, before: dict[str, Any], after: dict[str, Any]
) -> None:
    name = f"m{uuid.uuid4().hex[:8]}"
    shared_namespace("create", "-f", "-", stdin=memory(before, name))
    shared_namespace("replace", "-f", "-", stdin=memory(after, name))


def test_a_name_of_the_greatest_length_is_taken(shared_namespace: Kubectl) -> None:
    shared_namespace("create", "--dry-run=server", "-f", "-", stdin=memory({}, name="n" * 40))


@pytest.mark.parametrize("half_life", ["30", "0d", "0.0h", "-1d", "1 d", "forever", "1mo"])
def test_a_half_life_that_is_no_duration_is_refused_with_its_path(shared_namespace: Kubectl, half_life: str) -> None:
    with pytest.raises(KubectlError, match=r"spec\.scoring\.halfLife"):
        shared_namespace("create", "--dry-run=server", "-f", "-", stdin=memory({"scoring": {"halfLife": half_life}}))


@pytest.mark.parametrize("half_life", ["30d", "0.5h", "1500ms", "1y", "none", "10w"])
def test_a_half_life_that_is_a_duration_is_taken(shared_namespace: Kubectl, half_life: str) -> None:
    shared_namespace("create", "--dry-run=server", "-f", "-", stdin=memory({"scoring": {"halfLife": half_life}}))


@pytest.mark.parametrize("size", ["10", "0Gi", "-1Gi", "10 Gi", "ten"])
def test_a_size_that_no_volume_has_is_refused_with_its_path(shared_namespace: Kubectl, size: str) -> None:
    with pytest.raises(KubectlError, match=r"spec\.persistence\.size"):
        shared_namespace("create", "--dry-run=server", "-f", "-", stdin=memory({"persistence": {"size": size}}))


def test_an_affinity_that_no_pod_may_have_is_refused_with_its_path(shared_namespace: Kubectl) -> None:
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {}}]}}
    with pytest.raises(
        KubectlError, match=r"requiredDuringSchedulingIgnoredDuringExecution\[0\]\.topologyKey: Required"
    ):
        shared_namespace("create", "-f", "-", stdin=memory({"api": {"scheduling": {"affinity": affinity}}}))


def test_a_misspelt_field_is_refused_with_its_path(shared_namespace: Kubectl) -> None:
    with pytest.raises(KubectlError, match=r'unknown field "spec\.scoring\.halflife"'):
        shared_namespace("create", "-f", "-", stdin=memory({"scoring": {"halflife": "30d"}}))


def test_a_resource_without_spec_is_refused(shared_namespace: Kubectl) -> None:
    body = {"apiVersion": "memory.somatech.dev/v1alpha1", "kind": "SomaMemory", "metadata": {"name": "tested"}}
    with pytest.raises(KubectlError, match="spec: Required value"):
        shared_namespace("create", "-f", "-", stdin=json.dumps(body))


def test_explain_teaches_the_half_life(kubectl: Kubectl) -> None:
    text = " ".join(kubectl("explain", "somamemory.spec.scoring.halfLife").split())
    assert "FIELD: halfLife <string>" in text
    assert "Age at which a memory counts half as much as it did when new" in text
    assert "Units: ms, s, m, h, d, w, y." in text


def test_explain_tells_the_default(kubectl: Kubectl) -> None:
    assert "Default: 10Gi." in " ".join(kubectl("explain", "smem.spec.persistence.size").split())


def test_every_field_that_explain_lists_is_described(kubectl: Kubectl) -> None:
    for kind in ("somamemory", "somamemorybackup"):
        text = kubectl("explain", kind, "--recursive=false") + kubectl("explain", f"{kind}.spec")
        assert "<no description>" not in text


def test_the_server_writes_nothing_into_the_spec(namespace: Kubectl) -> None:
    spec = {"scoring": {"halfLife": "7d"}, "api": {}, "access": {"tokenSecretRef": {"name": "s", "key": "token"}}}
    namespace("create", "-f", "-", stdin=memory(spec))
    assert namespace.get("somamemory", "tested")["spec"] == spec


def test_applying_again_changes_nothing(namespace: Kubectl) -> None:
    spec = memory({"podTemplate": {"env": [{"name": "TZ", "value": "UTC"}]}, "scoring": {"featureWeights": {"a": 0.5}}})
    versions = set()
    for _ in range(3):
        namespace("apply", "--server-side", "-f", "-", stdin=spec)
        versions.add(namespace.get("somamemory", "tested")["metadata"]["resourceVersion"])
    assert len(versions) == 1


def test_environment_variables_of_two_managers_merge_by_name(namespace: Kubectl) -> None:
    for manager, variable in (("one", "A"), ("two", "B")):
        body = memory({"podTemplate": {"env": [{"name": variable, "value": manager}]}})
        namespace("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=body)
    env = namespace.get("somamemory", "tested")["spec"]["podTemplate"]["env"]
    assert {entry["name"]: entry["value"] for entry in env} == {"A": "one", "B": "two"}


def test_status_is_written_apart_from_the_spec(namespace: Kubectl) -> None:
    namespace("create", "-f", "-", stdin=memory({}))
    condition = {"type": "Ready", "status": "True", "reason": "Serving", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patch = {"spec": {"suspend": True}, "status": {"conditions": [condition], "version": {"current": "0.1.0"}}}
    namespace("patch", "smem", "tested", "--subresource=status", "--type=merge", "-p", json.dumps(patch))
    body = namespace.get("smem", "tested")
    assert body["spec"] == {}
    assert body["status"]["conditions"] == [condition]
    assert body["metadata"]["generation"] == 1
    header, row = namespace("get", "smem", "tested").splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "VERSION", "REPLICAS", "DRIFT", "AGE"]
    assert row.split()[:4] == ["tested", "True", "Serving", "0.1.0"]


def test_conditions_of_two_managers_merge_by_type(namespace: Kubectl) -> None:
    namespace("create", "-f", "-", stdin=memory({}))
    for manager, kind in (("one", "Ready"), ("two", "BackedUp")):
        status = {
            "conditions": [
                {"type": kind, "status": "True", "reason": "A", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            ]
        }
        body = json.loads(memory({})) | {"status": status}
        del body["spec"]
        namespace(
            "apply",
            "--server-side",
            "--subresource=status",
            f"--field-manager={manager}",
            "-f",
            "-",
            stdin=json.dumps(body),
        )
    types = {entry["type"] for entry in namespace.get("smem", "tested")["status"]["conditions"]}
    assert types == {"Ready", "BackedUp"}


def test_a_condition_with_a_long_message_is_refused(namespace: Kubectl) -> None:
    namespace("create", "-f", "-", stdin=memory({}))
    condition = {"type": "Ready", "status": "True", "reason": "A", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    patch = json.dumps({"status": {"conditions": [condition | {"message": "m" * 257}]}})
    with pytest.raises(KubectlError, match=r"status\.conditions\[0\]\.message"):
        namespace("patch", "smem", "tested", "--subresource=status", "--type=merge", "-p", patch)


def test_scaling_writes_the_replicas_of_the_api(namespace: Kubectl) -> None:
    namespace("create", "-f", "-", stdin=memory({"mode": "distributed", "endpoints": LEDGER, "api": {"replicas": 2}}))
    namespace("scale", "smem/tested", "--replicas=5")
    assert namespace.get("smem", "tested")["spec"]["api"]["replicas"] == 5


def test_scaling_an_embedded_memory_is_refused(namespace: Kubectl) -> None:
    namespace("create", "-f", "-", stdin=memory({"api": {"replicas": 1}}))
    with pytest.raises(KubectlError, match="embedded mode has one writer"):
        namespace("scale", "smem/tested", "--replicas=2")


def test_scaling_is_refused_while_an_autoscaler_decides(namespace: Kubectl) -> None:
    spec = {"mode": "distributed", "endpoints": LEDGER, "api": {"autoscaling": {"maxReplicas": 4}}}
    namespace("create", "-f", "-", stdin=memory(spec))
    with pytest.raises(KubectlError, match=r"spec\.api\.replicas"):
        namespace("scale", "smem/tested", "--replicas=3")
    assert namespace.get("smem", "tested")["spec"] == spec


def test_both_resources_are_listed_by_their_category(namespace: Kubectl) -> None:
    namespace("create", "-f", "-", stdin=memory({}))
    wait_until(lambda: "tested" in namespace("get", "soma", "-o", "name"), "the category soma", timeout=20)
    assert namespace("get", "soma", "-o", "name").split() == ["somamemory.memory.somatech.dev/tested"]


def test_backups_can_be_selected_by_their_memory(namespace: Kubectl) -> None:
    for name, of in (("one", "a"), ("two", "b")):
        spec = {"memoryRef": {"name": of}, "destination": {"s3": {"bucket": "memories"}}}
        body = {"apiVersion": "memory.somatech.dev/v1alpha1", "kind": "SomaMemoryBackup", "metadata": {"name": name}}
        namespace("create", "-f", "-", stdin=json.dumps(body | {"spec": spec}))
    found = namespace("get", "smbak", "--field-selector=spec.memoryRef.name=b", "-o", "name").split()
    assert found == ["somamemorybackup.memory.somatech.dev/two"]
