"""Every rendered shape, the distributed ones too, is admitted by a real API server under PodSecurity `restricted`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hack.kube import Kubectl
from soma_operator.api import Reason
from soma_operator.cluster.errors import classify
from tests.integration.engine.direct import Direct
from tests.integration.engine.harness import ROOT

GOLDEN = sorted((ROOT / "operator/tests/unit/golden").glob("*.yaml"))


def test_there_are_shapes() -> None:
    assert len(GOLDEN) >= 5


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_shape_is_admitted(namespace: Kubectl, path: Path) -> None:
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    namespace("label", "namespace", namespace.namespace, enforce)
    objects = [body for body in yaml.safe_load_all(path.read_text(encoding="utf-8")) if body]
    for body in objects:
        body["metadata"]["namespace"] = namespace.namespace
        # Their owner does not exist here, and the garbage collector would take them at once.
        body["metadata"].pop("ownerReferences", None)
    namespace("apply", "--server-side", "--validate=strict", "-f", "-", stdin=yaml.safe_dump_all(objects))
    for body in objects:
        if body["kind"] in ("Deployment", "Job"):
            template = body["spec"]["template"]
            pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
            pod["metadata"] = {"name": body["metadata"]["name"], **template["metadata"]}
            pod["spec"]["serviceAccountName"] = "default"
            pod["spec"].pop("priorityClassName", None)
            namespace("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(pod))


DUPLICATES = """
apiVersion: v1
kind: Service
metadata: {name: twice}
spec:
  ports: [{port: 80, protocol: TCP, name: a}, {port: 80, protocol: TCP, name: b}]
"""


def test_the_api_server_says_500_to_an_item_twice_and_it_is_told_as_refused(namespace: Kubectl) -> None:
    """Why `classify` reads the message of a 500."""
    assert isinstance(namespace, Direct)
    answer = namespace.http.patch(
        f"/api/v1/namespaces/{namespace.namespace}/services/twice?fieldManager=soma-operator&force=true",
        content=DUPLICATES,
        headers={"Content-Type": "application/apply-patch+yaml"},
    )
    assert answer.status_code == 500
    error = classify(answer.status_code, answer.headers["Content-Type"], answer.content, answer.headers)
    assert error.reason is Reason.REFUSED
    assert ".spec.ports" in error.message
    assert not error.blind
