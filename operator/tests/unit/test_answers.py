"""What the API server answers, and what is concluded from it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from soma_operator.api import Reason
from soma_operator.catalog.kinds import CONFIG_MAP, DEPLOYMENT, SECRET
from soma_operator.cluster.client import accept
from soma_operator.cluster.errors import classify, unreachable
from soma_operator.cluster.streams import GRACE, SERVER_TIMEOUT, Streams
from soma_operator.observe.store import Store
from soma_operator.reconcile.pods import image_digest, trouble


def answer(status: int, message: str = "", **more: Any) -> Any:
    body = {"kind": "Status", "message": message, "code": status, **more}
    return classify(status, "application/json", json.dumps(body).encode(), {})


@pytest.mark.parametrize(
    ("status", "message", "more", "reason"),
    [
        (403, 'secrets is forbidden: User "x" cannot patch resource "secrets" in API group ""', {}, Reason.FORBIDDEN),
        (403, 'pods "a" is forbidden: exceeded quota: compute, requested: cpu=1', {}, Reason.QUOTA_EXCEEDED),
        (403, 'pods "a" is forbidden: violates PodSecurity "restricted:latest"', {}, Reason.ADMISSION_DENIED),
        (
            403,
            "being terminated",
            {"details": {"causes": [{"reason": "NamespaceTerminating"}]}},
            Reason.NAMESPACE_TERMINATING,
        ),
        (
            403,
            "only dynamically provisioned pvc can be resized and the storageclass must support resize",
            {},
            Reason.IMMUTABLE_CONFLICT,
        ),
        (409, "Apply failed with 1 conflict", {}, Reason.RESOURCE_CONFLICT),
        (
            422,
            "invalid",
            {"details": {"causes": [{"field": "spec.selector", "message": "field is immutable"}]}},
            Reason.IMMUTABLE_CONFLICT,
        ),
        (
            422,
            "invalid",
            {"details": {"causes": [{"field": "spec.x", "message": 'Invalid value: "v": must be'}]}},
            Reason.REFUSED,
        ),
        (400, 'admission webhook "policy" denied the request: no', {}, Reason.ADMISSION_DENIED),
        (
            422,
            "invalid",
            {
                "details": {
                    "causes": [
                        {
                            "field": "spec.strategy.rollingUpdate",
                            "message": "Forbidden: may not be specified when strategy `type` is 'Recreate'",
                        }
                    ]
                }
            },
            Reason.REFUSED,
        ),
        (
            422,
            "invalid",
            {
                "details": {
                    "causes": [
                        {"field": "spec", "message": "Forbidden: spec is immutable after creation except resources"}
                    ]
                }
            },
            Reason.IMMUTABLE_CONFLICT,
        ),
        (
            422,
            "invalid",
            {
                "details": {
                    "causes": [
                        {
                            "field": "spec.resources.requests.storage",
                            "message": "Forbidden: field can not be less than status.capacity",
                        }
                    ]
                }
            },
            Reason.IMMUTABLE_CONFLICT,
        ),
        (
            500,
            "failed to create typed patch object (team/store-api; apps/v1, Kind=Deployment): errors:\n"
            '  .spec.template.spec.containers[name="runtime"].env: duplicate entries for key [name="PGPASSWORD"]',
            {},
            Reason.REFUSED,
        ),
        (500, 'Internal error occurred: failed calling webhook "x.y": EOF', {}, Reason.ADMISSION_DENIED),
        (500, "etcdserver: leader changed", {}, Reason.API_UNAVAILABLE),
        (500, "Internal error occurred: something else", {}, Reason.SERVER_ERROR),
        (500, "", {}, Reason.API_UNAVAILABLE),
        (429, "slow down", {}, Reason.API_UNAVAILABLE),
        (503, "", {}, Reason.API_UNAVAILABLE),
        (401, "Unauthorized", {}, Reason.API_UNAVAILABLE),
    ],
)
def test_answers_become_reasons(status: int, message: str, more: dict[str, Any], reason: Reason) -> None:
    error = answer(status, message, **more)
    assert error.reason is reason
    assert len(error.message) <= 256
    assert error.blind == (reason is Reason.API_UNAVAILABLE)


def test_values_are_not_repeated() -> None:
    causes = [{"field": "spec.x", "message": 'Invalid value: "hunter2": must be a number'}]
    assert "hunter2" not in answer(422, "", details={"causes": causes}).message


def test_an_absent_kind_is_told_from_an_absent_object() -> None:
    absent = classify(404, "text/plain", b"404 page not found", {})
    assert (absent.reason, absent.not_found) == (Reason.CRD_NOT_INSTALLED, True)
    assert answer(404, "not found", details={"name": "store"}).reason is Reason.UNKNOWN


def test_retry_after_is_heard() -> None:
    assert classify(429, "text/plain", b"", {"Retry-After": "7"}).retry_after == 7
    assert unreachable(TimeoutError()).blind


def test_of_secrets_only_metadata_is_asked_for() -> None:
    for kind in (SECRET, CONFIG_MAP):
        assert "PartialObjectMetadata" in accept(kind)
        assert "PartialObjectMetadataList" in accept(kind, many=True)
    assert "Partial" not in accept(DEPLOYMENT)


def test_a_stream_that_does_not_open_any_more_is_dead_only_if_it_could() -> None:
    now = [0.0]
    streams = Streams([SECRET, DEPLOYMENT], clock=lambda: now[0])
    assert streams.unready() == ["Deployment", "Secret"]
    streams.saw(SECRET, 200, watching=True)
    streams.saw(DEPLOYMENT, 403, watching=False)
    assert streams.unready() == [], "missing rights do not hold up the rest"
    now[0] = 2 * SERVER_TIMEOUT + GRACE + 1
    assert streams.dead({SECRET: True, DEPLOYMENT: False}) == ["Secret"]
    assert streams.dead({}) == []
    streams.saw(SECRET, 200, watching=True)
    assert streams.dead({SECRET: True}) == []


def body(version: int, uid: str = "1", **labels: str) -> dict[str, Any]:
    names = {"app.kubernetes.io/managed-by": "soma-operator", "memory.somatech.dev/memory": "store", **labels}
    meta = {"name": "store", "namespace": "team", "uid": uid, "resourceVersion": str(version), "labels": names}
    return {"metadata": meta}


def test_an_older_picture_never_replaces_a_newer_one() -> None:
    store = Store()
    assert store.put_child(CONFIG_MAP, body(5)) is not None
    assert store.put_child(CONFIG_MAP, body(4)) is None
    ref = next(iter(store.children(_memory())))
    assert store.remove_child(ref, "another") is None, "another object of its name took its place"
    assert store.remove_child(ref, "1") is not None
    assert store.put_child(CONFIG_MAP, body(6)) is None, "a late answer does not raise the dead"
    assert store.put_child(CONFIG_MAP, body(7, uid="2")) is not None


def test_a_list_prunes_what_vanished_and_not_what_is_newer() -> None:
    store = Store()
    store.put_child(CONFIG_MAP, body(5))
    assert store.prune(CONFIG_MAP, [], before=4) == []
    (gone,) = store.prune(CONFIG_MAP, [], before=5)
    assert gone.memory == "store"
    assert store.children(_memory()) == {}


def _memory() -> Any:
    from soma_operator.catalog.kinds import SOMA_MEMORY, Ref

    return Ref(SOMA_MEMORY, "team", "store")


def pod(reason: str = "", ready: bool = False, image: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason}} if reason else {}
    return {
        "metadata": {"name": "p"},
        "status": {"containerStatuses": [{"state": state, "ready": ready, "imageID": image}]},
    }


def test_pods_explain_themselves_without_their_names() -> None:
    assert trouble([]) is None
    for waiting in ("ErrImagePull", "ImagePullBackOff"):
        failure = trouble([pod(waiting)])
        assert failure is not None
        assert failure.reason is Reason.IMAGE_PULL_FAILED
    assert trouble([pod("ErrImagePull")]) == trouble([pod("ImagePullBackOff")]), "the kubelet alternates"
    assert trouble([pod("CrashLoopBackOff")]).reason is Reason.PODS_CRASHING  # type: ignore[union-attr]
    waiting = pod()
    waiting["status"]["conditions"] = [{"type": "PodScheduled", "reason": "Unschedulable"}]
    assert trouble([waiting]).reason is Reason.PODS_UNSCHEDULABLE  # type: ignore[union-attr]


def test_the_digest_is_the_one_that_a_ready_pod_runs() -> None:
    digest = "sha256:" + "b" * 64
    assert image_digest([pod(image="x@" + digest)]) is None
    assert image_digest([pod(), pod(ready=True, image="x@" + digest)]) == digest
