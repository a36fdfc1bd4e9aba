"""Children are kept: what is deleted comes back, what is somebody else's is not touched, and memories are never lost
silently."""

from __future__ import annotations

import json
import time

import pytest

from soma_operator.api import SomaMemory
from soma_operator.catalog.kinds import kind_named
from soma_operator.desired.children import children
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.observe.facts import facts_of
from soma_operator.ownership.entries import own_digest
from tests.integration.engine.harness import CHILDREN, Memory, Operator, everything, token_value, until


@pytest.mark.parametrize(("kind", "name"), CHILDREN, ids=str)
def test_a_deleted_child_is_back_at_once(serving: Memory, kind: str, name: str, request: pytest.FixtureRequest) -> None:
    before = serving.kubectl.get(kind, name)["metadata"]["uid"]
    serving.kubectl("delete", kind, name, "--wait=false")
    started = time.monotonic()

    def back() -> bool:
        found = serving.kubectl.find(kind, name)
        return found is not None and found["metadata"]["uid"] != before

    until(f"{kind} again", back, 30, every=0.02)
    seconds = time.monotonic() - started
    request.node.user_properties.append(("seconds", round(seconds, 2)))
    # within 2 s by hack/bench/lifecycle; here other tests run beside it, and a look again would take a minute
    assert seconds < 20


def test_the_computed_field_sets_are_those_of_the_api_server(memory: Memory, operator: Operator) -> None:
    """Otherwise each object costs a dry-run after each restart of the operator."""
    spec = {
        "image": {"pullSecrets": ["registry"]},
        "api": {
            "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
            "scheduling": {
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "dedicated", "operator": "Exists"}],
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]
                        }
                    }
                },
                "topologySpread": [
                    {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
                ],
                "priorityClassName": "system-cluster-critical",
            },
        },
        "podTemplate": {
            "labels": {"team": "a"},
            "annotations": {"note": "b"},
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ],
            "serviceAccountAnnotations": {"cloud": "identity"},
        },
        "networkPolicy": {
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 443}]}],
        },
        "deletionPolicy": "Delete",
        "persistence": {"storageClassName": "fast"},
    }
    memory.create(spec)
    until("all applied", lambda: memory.condition("Synced") == ("True", "AllApplied"))
    body = memory.body()
    wanted = children(
        Inputs(SomaMemory.parse(body), Defaults("docker.io/library/soma-memory-runtime:tested", "tested"))
    )
    found = {}
    for child in wanted:
        live = memory.kubectl.get(child.ref.kind.plural, child.ref.name, "--show-managed-fields")
        found[str(child.ref)] = own_digest(live["metadata"])
    assert found == {str(child.ref): child.digest for child in wanted}


def test_the_loss_of_the_volume_is_stalled_until_somebody_accepts_it(serving: Memory) -> None:
    lost = serving.status["volume"]["uid"]
    serving.kubectl("delete", "pvc", "store-data", "--wait=false")
    condition = serving.wait("Stalled", "True", "DataLost")
    assert "store-data" in condition["message"]
    assert f"accept-data-loss={lost}" in condition["message"]
    assert serving.condition("Available") == ("True", "Serving"), "what runs goes on running"
    time.sleep(1.5)
    assert serving.kubectl.find("pvc", "store-data") is None, "never silently an empty memory"
    serving.annotate(accept_data_loss="somebody-elses-uid")
    time.sleep(1)
    assert serving.kubectl.find("pvc", "store-data") is None
    serving.annotate(accept_data_loss=lost)
    until("a new volume", lambda: serving.kubectl.find("pvc", "store-data"))
    until("it is recorded", lambda: serving.status["volume"]["uid"] != lost)
    until("no longer stalled", lambda: "Stalled" not in serving.conditions())
    serving.kubectl("delete", "pvc", "store-data", "--wait=false")
    serving.wait("Stalled", "True", "DataLost")


def test_a_volume_that_was_replaced_by_another_is_a_loss_too(serving: Memory) -> None:
    serving.patch({"spec": {"suspend": True}})
    serving.wait("Suspended", "True", "Suspended")
    body = serving.kubectl.get("pvc", "store-data")
    serving.kubectl("delete", "pvc", "store-data")
    for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
        body["metadata"].pop(key, None)
    serving.kubectl("create", "-f", "-", stdin=json.dumps({**body, "status": {}}))
    serving.patch({"spec": {"suspend": False}})
    serving.wait("Stalled", "True", "DataLost")


def test_a_volume_that_was_restored_is_taken_when_a_person_says_so(serving: Memory) -> None:
    lost = serving.status["volume"]["uid"]
    serving.kubectl("delete", "pvc", "store-data")
    serving.wait("Stalled", "True", "DataLost")
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store-data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}},
    }
    serving.kubectl("create", "-f", "-", stdin=json.dumps(claim))
    serving.annotate(reconcile_at="restored")
    until("looked again", lambda: serving.status.get("lastHandledReconcileAt") == "restored")
    assert serving.condition("Stalled") == ("True", "DataLost"), "a claim of that name may be anybody's"
    serving.kubectl("annotate", "pvc", "store-data", "memory.somatech.dev/adopt=store")
    serving.annotate(reconcile_at="adopted")
    until("no longer stalled", lambda: "Stalled" not in serving.conditions())
    assert serving.status["volume"]["uid"] not in ("", lost)


def test_a_volume_that_is_being_deleted_holds_back_every_rollout(serving: Memory) -> None:
    """A real cluster keeps it for as long as the pod runs; here a finalizer does."""
    finalizers = json.dumps({"metadata": {"finalizers": ["tests.example/pod-runs"]}})
    serving.kubectl("patch", "pvc", "store-data", "--type=merge", "-p", finalizers)
    serving.kubectl("delete", "pvc", "store-data", "--wait=false")
    try:
        condition = serving.wait("Stalled", "True", "Terminating")
        assert "export the memories" in condition["message"]
        before = serving.kubectl.get("deployment", "store")["metadata"]["generation"]
        serving.patch({"spec": {"observability": {"logLevel": "DEBUG"}}})
        until("the change was seen", lambda: serving.status["observedGeneration"] == 2)
        assert serving.kubectl.get("deployment", "store")["metadata"]["generation"] == before
        assert serving.condition("Available") == ("True", "Serving")
    finally:
        serving.kubectl("patch", "pvc", "store-data", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_a_stranger_with_our_childs_name_is_not_touched_but_by_consent(memory: Memory) -> None:
    memory.kubectl("create", "configmap", "store-settings", "--from-literal=mine=yes")
    before = memory.kubectl.get("configmap", "store-settings")["metadata"]["resourceVersion"]
    memory.create()
    condition = memory.wait("Stalled", "True", "ResourceConflict")
    assert condition["message"].startswith("ConfigMap/store-settings:")
    assert memory.kubectl.get("configmap", "store-settings")["metadata"]["resourceVersion"] == before
    assert memory.kubectl.find("deployment", "store") is None, "what depends on it waits"
    assert memory.kubectl.find("service", "store") is not None, "what does not goes on"
    memory.kubectl("annotate", "configmap", "store-settings", "memory.somatech.dev/adopt=store")
    memory.annotate(reconcile_at="now")
    until("the deployment", lambda: memory.kubectl.find("deployment", "store"))
    memory.wait("Synced", "True", "AllApplied")
    assert set(memory.kubectl.get("configmap", "store-settings")["data"]) == {"mine", "settings.yaml"}


def test_a_secret_that_vanishes_is_made_again_and_that_is_told(serving: Memory) -> None:
    before = token_value(serving.kubectl)
    template = serving.kubectl.get("deployment", "store")["spec"]["template"]["metadata"]["annotations"]
    serving.kubectl("delete", "secret", "store-token")
    until("a secret", lambda: serving.kubectl.find("secret", "store-token"))
    assert token_value(serving.kubectl) != before

    def told() -> bool:
        events = serving.kubectl.get("events")["items"]
        return any(e["reason"] == "TokenGenerated" and "clients need the new one" in e["message"] for e in events)

    until("an event", told)
    until(
        "the pods roll",
        lambda: serving.kubectl.get("deployment", "store")["spec"]["template"]["metadata"]["annotations"] != template,
    )


def test_an_existing_claim_is_used_and_never_owned(memory: Memory) -> None:
    memory.create({"persistence": {"existingClaim": "mine"}})
    condition = memory.wait("DatabaseReady", "False", "VolumePending")
    assert "PersistentVolumeClaim mine does not exist" in condition["message"]
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "mine"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    memory.kubectl("create", "-f", "-", stdin=json.dumps(claim))
    deployment = until("the deployment", lambda: memory.kubectl.find("deployment", "store"), 45)
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == "mine"
    mine = memory.kubectl.get("pvc", "mine", "--show-managed-fields")
    assert "labels" not in mine["metadata"]
    assert all("soma" not in entry["manager"] for entry in mine["metadata"]["managedFields"])
    assert memory.kubectl.find("pvc", "store-data") is None


def test_a_steady_state_costs_no_write(serving: Memory, operator: Operator) -> None:

    def quiet() -> bool:
        """Of other tests' namespaces: while one is being deleted, its children vanish and may be mended once more."""
        seen = operator.writes()
        time.sleep(2)
        phases = serving.kubectl("get", "namespaces", "--output=jsonpath={.items[*].status.phase}")
        return "Terminating" not in phases and operator.writes() == seen

    until("quiet", quiet, 120)
    before, written = everything(serving.kubectl), operator.writes()
    for kind, name in CHILDREN[:2]:
        # An event of a child that changes nothing of ours.
        serving.kubectl("annotate", kind, name, "touched=1")
    time.sleep(2)
    after = everything(serving.kubectl)
    changed = {key for key in before if before[key] != after[key]}
    assert changed <= {"ServiceAccount/store", "ConfigMap/store-settings"}
    assert operator.writes() == written


def test_facts_hold_no_secret_value(serving: Memory) -> None:
    secret = serving.kubectl.get("secret", "store-token", "--show-managed-fields")
    kind = kind_named("Secret")
    assert kind is not None
    facts = facts_of(kind, secret)
    assert secret["data"]["token"] not in repr(facts)
    assert "frozenset({'token'})" in repr(facts)


def test_texts_in_any_script_reach_the_children_as_they_are_written(memory: Memory) -> None:
    note = "gehört Jürgen \U0001f9e0 拉面 \u2028 \x7f \\ud83d"
    memory.create(
        {"podTemplate": {"annotations": {"example.com/note": note}, "env": [{"name": "NOTE", "value": note}]}}
    )
    memory.serve()
    pod = memory.kubectl.get("deployment", "store")["spec"]["template"]
    assert pod["metadata"]["annotations"]["example.com/note"] == note
    assert {"name": "NOTE", "value": note} in pod["spec"]["containers"][0]["env"]
