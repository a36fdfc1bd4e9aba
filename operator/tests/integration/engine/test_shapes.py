"""Every rendered shape, the distributed ones too, is admitted by a real API server under PodSecurity `restricted`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hack.kube import Kubectl
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
