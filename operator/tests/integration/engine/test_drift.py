"""Edits of children by others: corrected or reported, with path and editor, and never in an endless fight."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.engine.harness import Memory, until


def items(memory: Memory) -> dict[tuple[str, str], dict[str, Any]]:
    drift = memory.status.get("drift") or {}
    return {(item["object"], item["path"]): item for item in drift.get("items", ())}


def test_an_edit_is_corrected_and_reported_with_path_and_editor(serving: Memory) -> None:
    serving.kubectl("set", "image", "deployment/store", "runtime=evil:1")
    key = ("Deployment/store", ".spec.template.spec.containers[name=runtime].image")
    item = until("the drift", lambda: items(serving).get(key))
    assert (item["manager"], item["action"]) == ("kubectl-set", "Corrected")
    assert item["time"]
    container = serving.kubectl.get("deployment", "store")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "docker.io/library/soma-memory-runtime:tested"
    assert serving.status["drift"]["count"] == 0, "what was corrected is open no more"
    assert "evil" not in json.dumps(serving.status), "values are never reported"
    described = until(
        "the event", lambda: [e for e in serving.kubectl.get("events")["items"] if e["reason"] == "DriftCorrected"]
    )
    assert "kubectl-set" in described[0]["message"]
    assert serving.condition("Synced") == ("True", "AllApplied")


def test_scaling_by_hand_is_put_back_and_told(serving: Memory) -> None:
    serving.kubectl("scale", "deployment/store", "--replicas=2")
    item = until("the drift", lambda: items(serving).get(("Deployment/store", ".spec.replicas")))
    assert item["manager"] == "kubectl"
    assert serving.kubectl.get("deployment", "store")["spec"]["replicas"] == 1


def test_edited_settings_and_removed_fields_are_put_back(serving: Memory) -> None:
    serving.kubectl(
        "patch", "configmap", "store-settings", "--type=merge", "-p", '{"data":{"settings.yaml":"mode: x"}}'
    )
    until("the drift", lambda: items(serving).get(("ConfigMap/store-settings", ".data[settings.yaml]")))
    assert "mode: embedded" in serving.kubectl.get("configmap", "store-settings")["data"]["settings.yaml"]
    serving.kubectl("label", "service", "store", "app.kubernetes.io/part-of-")
    path = ".metadata.labels[app.kubernetes.io/part-of]"
    until("the drift", lambda: items(serving).get(("Service/store", path)))
    assert "app.kubernetes.io/part-of" in serving.kubectl.get("service", "store")["metadata"]["labels"]


def test_a_child_whose_labels_were_taken_away_is_found_again(serving: Memory) -> None:
    uid = serving.kubectl.get("service", "store")["metadata"]["uid"]
    serving.kubectl("label", "service", "store", "app.kubernetes.io/managed-by-")

    def mended() -> bool:
        return "app.kubernetes.io/managed-by" in serving.kubectl.get("service", "store")["metadata"]["labels"]

    until("the label", mended)
    assert serving.kubectl.get("service", "store")["metadata"]["uid"] == uid
    assert "Stalled" not in serving.conditions()


def test_warn_reports_and_leaves_the_edit(memory: Memory) -> None:
    memory.create({"driftPolicy": "Warn"}).serve()
    memory.kubectl("set", "image", "deployment/store", "runtime=patched:1")
    memory.wait("Synced", "False", "DriftDetected")
    (item,) = items(memory).values()
    assert item["action"] == "Reported"
    container = memory.kubectl.get("deployment", "store")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "patched:1"
    count = memory.status["drift"]["count"]
    memory.annotate(reconcile_at="again")
    until("an answer", lambda: memory.status.get("lastHandledReconcileAt") == "again")
    assert memory.status["drift"]["count"] == count, "the same edit is counted once"
    assert count == 1
    memory.patch({"spec": {"driftPolicy": "Enforce"}})
    memory.wait("Synced", "True", "AllApplied")
    until("nothing open", lambda: memory.status["drift"]["count"] == 0)


def test_ignored_paths_are_left_to_others(memory: Memory) -> None:
    ignored = [{"kind": "Deployment", "path": "/spec/template/spec/containers/0/image"}]
    memory.create({"ignorePaths": ignored}).serve()
    memory.kubectl("set", "image", "deployment/store", "runtime=pinned:1")
    memory.annotate(reconcile_at="again")
    until("an answer", lambda: memory.status.get("lastHandledReconcileAt") == "again")
    assert items(memory) == {}
    assert memory.condition("Synced") == ("True", "AllApplied")
    memory.patch({"spec": {"observability": {"logLevel": "DEBUG"}}})
    until("applied", lambda: memory.status.get("observedGeneration") == 2 and memory.condition("Synced")[0] == "True")
    container = memory.kubectl.get("deployment", "store")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "pinned:1", "a change of the spec does not take it back either"


def answered(memory: Memory, word: str) -> None:
    memory.annotate(reconcile_at=word)
    until("an answer", lambda: memory.status.get("lastHandledReconcileAt") == word)


def changed(memory: Memory, level: str) -> None:
    """A change of the spec applies every object anew."""
    memory.patch({"spec": {"observability": {"logLevel": level}}})
    generation = memory.body()["metadata"]["generation"]
    until(
        "applied",
        lambda: memory.status.get("observedGeneration") == generation and memory.condition("Synced")[0] == "True",
    )


def test_a_pointer_into_a_list_that_is_replaced_as_a_whole_is_obeyed_and_applies_go_on(memory: Memory) -> None:
    paths = ["/spec/template/spec/containers/0/args/0", "/spec/template/spec/containers/0/ports/0/name"]
    ignored = [{"kind": "Deployment", "path": path} for path in paths]
    ignored += [
        {"kind": "NetworkPolicy", "path": "/spec/ingress/0/ports/0/port"},
        {"kind": "Service", "path": "/spec/ports"},
        {"kind": "Deployment", "path": "/spec/template/metadata/annotations"},
    ]
    memory.create({"ignorePaths": ignored}).serve()

    def edit(kind: str, name: str, patch: Any) -> None:
        memory.kubectl("patch", kind, name, "--type=json", "--field-manager=other", "-p", json.dumps(patch))

    runtime = "/spec/template/spec/containers/0"
    edit("deployment", "store", [{"op": "replace", "path": f"{runtime}/args", "value": ["serve", "--slowly"]}])
    edit("networkpolicy", "store-allow", [{"op": "replace", "path": "/spec/ingress/0/ports/0/port", "value": 9999}])
    edit("service", "store", [{"op": "replace", "path": "/spec/ports/0/name", "value": "web"}])
    hashes = "/spec/template/metadata/annotations/memory.somatech.dev~1token-digest"
    edit("deployment", "store", [{"op": "replace", "path": hashes, "value": "mine"}])
    answered(memory, "edited")
    assert items(memory) == {}
    changed(memory, "DEBUG")
    assert memory.condition("Stalled") is None
    pod = memory.kubectl.get("deployment", "store")["spec"]["template"]
    assert pod["spec"]["containers"][0]["args"] == ["serve", "--slowly"]
    assert pod["metadata"]["annotations"]["memory.somatech.dev/token-digest"] == "mine"
    assert memory.kubectl.get("service", "store")["spec"]["ports"][0]["name"] == "web"
    policy = memory.kubectl.get("networkpolicy", "store-allow")
    assert policy["spec"]["ingress"][0]["ports"][0]["port"] == 9999
    settings = memory.status["settingsHash"]
    assert pod["metadata"]["annotations"]["memory.somatech.dev/settings-hash"] == settings, "what nobody took is ours"


def test_a_fight_is_given_up_after_five_corrections_and_told(serving: Memory) -> None:
    def edited() -> bool:
        live = serving.kubectl.get("networkpolicy", "store-deny")["metadata"]["labels"]
        return live["app.kubernetes.io/part-of"] == "fight"

    for _ in range(5):
        serving.kubectl("label", "networkpolicy", "store-deny", "app.kubernetes.io/part-of=fight", "--overwrite")
        until("corrected", lambda: not edited())
    serving.kubectl("label", "networkpolicy", "store-deny", "app.kubernetes.io/part-of=fight", "--overwrite")
    condition = serving.wait("Synced", "False", "DriftBackingOff")
    assert "status.drift" in condition["message"]
    assert edited()
    assert serving.status["drift"]["count"] == 1
    assert serving.condition("Ready") == ("True", "Serving")
