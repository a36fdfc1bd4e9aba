"""managedFields: what an entry tells, and who edited what."""

from __future__ import annotations

from typing import Any

import pytest

from soma_operator.api.spec import IgnoredPath
from soma_operator.catalog.kinds import DEPLOYMENT, Ref
from soma_operator.ownership.entries import (
    data_digest,
    data_keys,
    digest,
    editor_of,
    own_digest,
    own_paths,
    paths,
    readable,
)
from soma_operator.ownership.expected import expected_paths, without
from soma_operator.plan.drift import edits, ignored_paths, is_ignored, left_to_others

REF = Ref(DEPLOYMENT, "team", "store")


def entry(manager: str, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields, **more}


def ours(fields: dict[str, Any]) -> dict[str, Any]:
    return entry("soma-operator", fields, operation="Apply")


IMAGE = ("f:spec", "f:containers", 'k:{"name":"runtime"}', "f:image")
ITEM = {'k:{"name":"runtime"}': {".": {}, "f:image": {}, "f:name": {}}}
OURS = ours({"f:spec": {"f:containers": ITEM, "f:replicas": {}}})


def test_members_are_leaves_and_what_is_dotted() -> None:
    assert paths({"f:a": {".": {}, "f:b": {}}, "v:x": {}}) == {("f:a",), ("f:a", "f:b"), ("v:x",)}


def test_only_our_own_apply_counts() -> None:
    own = ours({"f:a": {}})
    status = ours({"f:status": {}}) | {"subresource": "status"}
    assert own_paths({"managedFields": [status, entry("soma-operator", {"f:z": {}}), own]}) == {("f:a",)}
    assert own_digest({"managedFields": [status]}) is None


def test_the_digest_does_not_depend_on_order() -> None:
    assert digest([("a",), ("b",)]) == digest([("b",), ("a",)]) != digest([("a",)])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (IMAGE, "spec.containers[name=runtime].image"),
        (("f:data", "f:settings.yaml"), "data[settings.yaml]"),
        (("f:ports", 'k:{"port":80,"protocol":"TCP"}'), "ports[port=80,protocol=TCP]"),
        (("f:finalizers", 'v:"x"'), "finalizers[x]"),
    ],
)
def test_paths_are_written_as_people_read_them(path: tuple[str, ...], text: str) -> None:
    assert readable(path) == text


def test_an_edit_is_what_an_apply_would_take_back_with_its_editor() -> None:
    taken = {"f:spec": {"f:containers": {'k:{"name":"runtime"}': {"f:image": {}}}}}
    left = ours({"f:spec": {"f:containers": {'k:{"name":"runtime"}': {".": {}, "f:name": {}}}, "f:replicas": {}}})
    live = {"managedFields": [left, entry("kubectl-set", taken)]}
    (edit,) = edits(REF, live, {"managedFields": [OURS]})
    assert (edit.field, edit.manager, edit.time) == (
        ".spec.containers[name=runtime].image",
        "kubectl-set",
        "2026-01-01T00:00:00Z",
    )


def test_of_a_removed_item_only_the_item_is_named_and_the_last_writer_blamed() -> None:
    live = {
        "managedFields": [
            ours({"f:spec": {"f:replicas": {}}}),
            entry("kube-controller-manager", {"f:status": {}}, subresource="status", time="2026-03-01T00:00:00Z"),
            entry("early", {"f:x": {}}),
            entry("late", {"f:y": {}}, time="2026-02-01T00:00:00Z"),
        ]
    }
    (edit,) = edits(REF, live, {"managedFields": [OURS]})
    assert (edit.field, edit.manager) == (".spec.containers[name=runtime]", "late")


def test_without_anybody_else_the_editor_is_unknown() -> None:
    assert editor_of({"managedFields": [OURS]}, IMAGE) == "unknown"


def test_ignored_pointers_reach_into_keyed_lists() -> None:
    manifest = {"spec": {"template": {"spec": {"containers": [{"name": "runtime", "image": "a"}]}}}}
    item = IgnoredPath(kind="Deployment", path="/spec/template/spec/containers/0/image")
    (found,) = ignored_paths(DEPLOYMENT, manifest, [item])
    assert found == ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"runtime"}', "f:image")
    assert ignored_paths(DEPLOYMENT, manifest, [item.model_copy(update={"kind": "Service"})]) == []
    assert without(manifest, [found]) == {"spec": {"template": {"spec": {"containers": [{"name": "runtime"}]}}}}
    assert manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "a"
    escaped = IgnoredPath(kind="Deployment", path="/metadata/annotations/a.b~1c")
    assert ignored_paths(DEPLOYMENT, {}, [escaped]) == [("f:metadata", "f:annotations", "f:a.b/c")]


POD = ("f:spec", "f:template", "f:spec")
RUNTIME = (*POD, "f:containers", 'k:{"name":"runtime"}')


@pytest.mark.parametrize(
    ("pointer", "whole"),
    [
        ("/spec/template/spec/containers/0/args/0", (*RUNTIME, "f:args")),
        ("/spec/template/spec/tolerations/0/key", (*POD, "f:tolerations")),
        ("/spec/template/spec/nodeSelector/disk", (*POD, "f:nodeSelector")),
        ("/spec/template/spec/containers/0/env/0/valueFrom/secretKeyRef/key",
         (*RUNTIME, "f:env", 'k:{"name":"A"}', "f:valueFrom", "f:secretKeyRef")),
        ("/spec/selector/matchLabels/app", ("f:spec", "f:selector")),
    ],
)  # fmt: skip
def test_a_pointer_into_what_is_replaced_as_a_whole_stands_for_the_whole(pointer: str, whole: tuple[str, ...]) -> None:
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    container = {"name": "runtime", "args": ["serve"], "env": [{"name": "A", "valueFrom": source}]}
    pod = {"containers": [container], "tolerations": [{"key": "a"}], "nodeSelector": {"disk": "fast"}}
    manifest = {"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {"spec": pod}}}
    assert ignored_paths(DEPLOYMENT, manifest, [IgnoredPath(kind="Deployment", path=pointer)]) == [whole]
    assert whole in expected_paths(manifest)
    assert whole not in expected_paths(without(manifest, [whole]))


SERVICE = {
    "metadata": {"name": "a", "labels": {"x": "1", "memory.somatech.dev/memory": "store"}, "annotations": {"a": "1"}},
    "spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "http"}]},
}
PORT = ("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}')
LABEL = ("f:metadata", "f:labels", "f:x")
ANNOTATION = ("f:metadata", "f:annotations", "f:a")


def test_only_what_somebody_has_is_left_to_others() -> None:
    ignored = [("f:metadata",), ("f:spec", "f:ports")]
    taken = {"f:metadata": {"f:labels": {".": {}, "f:x": {}}}, "f:spec": {"f:ports": {PORT[-1]: {"f:name": {}}}}}
    live = {"managedFields": [ours({"f:spec": {"f:ports": {PORT[-1]: {".": {}, "f:port": {}}}}}), entry("argo", taken)]}
    left = left_to_others(SERVICE, ignored, live, applied=False)
    assert left == {LABEL, (*PORT, "f:name")}, "the annotation is new: nobody has it, so it is applied"
    assert without(SERVICE, left)["spec"] == {"ports": [{"port": 80, "protocol": "TCP"}]}
    again = left_to_others(SERVICE, ignored, live, applied=True)
    assert again == {LABEL, ANNOTATION, (*PORT, "f:name"), (*PORT, "f:protocol")}, "what was applied and is gone"


def test_an_item_that_was_taken_whole_is_left_out_whole() -> None:
    members = {path for path in expected_paths(SERVICE) if path[: len(PORT)] == PORT}
    assert without(SERVICE, members) == {"metadata": SERVICE["metadata"]}
    assert without(SERVICE, members - {PORT})["spec"] == {"ports": [{"port": 80, "protocol": "TCP"}]}


def test_what_ties_an_object_to_its_memory_is_never_ignored() -> None:
    everything = [("f:metadata",)]
    assert is_ignored(LABEL, everything)
    for own in ("f:memory.somatech.dev/memory", "f:app.kubernetes.io/managed-by"):
        assert not is_ignored(("f:metadata", "f:labels", own), everything)
    assert not is_ignored(("f:metadata", "f:ownerReferences", 'k:{"uid":"u"}'), everything)
    assert not is_ignored(("f:metadata", "f:annotations", "f:memory.somatech.dev/desired-hash"), everything)


def test_expected_members_follow_the_schema() -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "a",
            "namespace": "b",
            "labels": {"x/y": "1"},
            "ownerReferences": [{"uid": "u", "name": "n"}],
        },
        "spec": {"selector": {"app": "a"}, "ports": [{"port": 80, "protocol": "TCP", "name": "http"}], "empty": {}},
    }
    port = 'k:{"port":80,"protocol":"TCP"}'
    assert expected_paths(manifest) == {
        ("f:metadata", "f:labels", "f:x/y"),
        ("f:metadata", "f:ownerReferences", 'k:{"uid":"u"}'),
        ("f:spec", "f:selector"),
        ("f:spec", "f:ports", port),
        ("f:spec", "f:ports", port, "f:port"),
        ("f:spec", "f:ports", port, "f:protocol"),
        ("f:spec", "f:ports", port, "f:name"),
        ("f:spec", "f:empty"),
    }


def test_a_secrets_digest_changes_with_its_values_and_not_with_its_labels() -> None:
    made = entry("soma-operator-token", {"f:data": {".": {}, "f:token": {}}})
    plain = {"uid": "u", "managedFields": [made]}
    labelled = {"uid": "u", "managedFields": [made, entry("kubectl-label", {"f:metadata": {"f:labels": {"f:a": {}}}})]}
    rotated = {"uid": "u", "managedFields": [{**made, "time": "2026-06-01T00:00:00Z"}]}
    assert data_digest(plain) == data_digest(labelled) != data_digest(rotated)
    assert data_digest(plain) != data_digest({**plain, "uid": "another"})
    assert data_keys(plain) == {"token"}
    assert data_keys({"managedFields": []}) is None, "not told is not the same as empty"
