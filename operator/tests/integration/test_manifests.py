"""The operator's manifests on a real API server: admitted under PodSecurity `restricted`, no permission too many."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.kube import Kubectl, KubectlError
from soma_operator.catalog.kinds import CHILD_KINDS, PARENT_KINDS, Kind
from soma_operator.settings import OperatorSettings

ROOT = Path(__file__).resolve().parents[3]
OPERATOR = "system:serviceaccount:soma-system:soma-operator"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
KEPT = ("secrets", "persistentvolumeclaims")


def built(kubectl: Kubectl, folder: str) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(kubectl("kustomize", str(ROOT / "manifests" / folder))) if body]


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = [body for body in objects if body["kind"] == "Deployment"]
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.fixture(scope="module")
def installed(kubectl: Kubectl) -> Kubectl:
    """The local overlay, applied; nothing runs, as there is no node."""
    kubectl.within("soma-system")(
        "apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests/overlays/local")
    )
    return kubectl


def permitted(
    kubectl: Kubectl, verbs: Sequence[str], resource: str, namespace: str = "any", name: str = ""
) -> set[str]:
    """Those of `verbs` that the API server's authoriser grants to the operator.

    `resource` is written as in `pods/log` or `leases.coordination.k8s.io`.
    """
    plural, _, subresource = resource.partition("/")
    plural, _, group = plural.partition(".")
    attributes = {"resource": plural, "group": group, "namespace": namespace, "subresource": subresource, "name": name}
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": OPERATOR, "resourceAttributes": attributes | {"verb": verb}},
        }
        for verb in verbs
    ]
    body = {"apiVersion": "v1", "kind": "List", "items": reviews}
    template = "jsonpath={.spec.resourceAttributes.verb}={.status.allowed} "
    answers = kubectl("create", "-f", "-", "-o", template, stdin=json.dumps(body)).split()
    assert len(answers) == len(verbs)
    return {answer.partition("=")[0] for answer in answers if answer.endswith("=true")}


def test_a_pod_of_the_operator_is_admitted_under_restricted_pod_security(installed: Kubectl) -> None:
    (deployment,) = [body for body in built(installed, "overlays/local") if body["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "tried"} | template["metadata"],
        "spec": template["spec"],
    }
    system = installed.within("soma-system")
    system("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted'):
        system("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


@pytest.mark.parametrize("kind", CHILD_KINDS, ids=str)
def test_children_can_be_watched_and_applied(installed: Kubectl, kind: Kind) -> None:
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    expected = {"get", "list", "watch", "create", "patch"} | ({"delete"} if kind.plural not in KEPT else set())
    assert permitted(installed, VERBS, resource) == expected


@pytest.mark.parametrize("kind", PARENT_KINDS, ids=str)
def test_a_spec_can_be_read_and_only_a_status_written(installed: Kubectl, kind: Kind) -> None:
    resource = f"{kind.plural}.{kind.group}"
    assert permitted(installed, VERBS, resource) == {"get", "list", "watch"}
    assert permitted(installed, VERBS, f"{resource}/status") == {"patch"}


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "pods/exec"),
        ("get", "pods/log"),
        ("patch", "clusterroles.rbac.authorization.k8s.io"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("patch", "namespaces"),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
        ("get", "nodes"),
        ("create", "serviceaccounts/token"),
    ],
)
def test_what_the_operator_has_no_business_with_is_refused(installed: Kubectl, verb: str, resource: str) -> None:
    assert permitted(installed, [verb], resource) == set()


def test_the_lease_is_the_only_one_within_reach(installed: Kubectl) -> None:
    lease = "leases.coordination.k8s.io"
    assert permitted(installed, VERBS, lease, "soma-system", "soma-operator") == {"get", "update", "create"}
    assert permitted(installed, VERBS, lease, "soma-system", "another") == {"create"}
    assert permitted(installed, VERBS, lease, "kube-system", "soma-operator") == set()


def test_people_with_the_roles_edit_and_view_may_do_so(installed: Kubectl) -> None:
    for role, verb, allowed in (("view", "get", True), ("view", "create", False), ("edit", "create", True)):
        rules = installed.get("clusterrole", f"soma-memory-{role}")["rules"]
        (rule,) = [entry for entry in rules if entry["resources"] == ["somamemories", "somamemorybackups"]]
        assert (verb in rule["verbs"]) is allowed
        labels = installed.get("clusterrole", f"soma-memory-{role}")["metadata"]["labels"]
        assert labels[f"rbac.authorization.k8s.io/aggregate-to-{role}"] == "true"


def test_the_deployment_sets_what_the_operator_reads(kubectl: Kubectl) -> None:
    """An unknown SOMA_OPERATOR_ variable stops the operator at start; so would those of service links."""
    objects = built(kubectl, "overlays/local")
    settings = OperatorSettings.from_environment(
        {entry["name"]: entry.get("value", "192.0.2.1") for entry in container(objects)["env"]}
    )
    assert settings.runtime_image == "docker.io/library/soma-memory-runtime:dev"
    (deployment,) = [body for body in objects if body["kind"] == "Deployment"]
    assert deployment["spec"]["template"]["spec"]["enableServiceLinks"] is False
    ports = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    assert ports == {"probes": settings.health_port, "metrics": settings.metrics_port}
    (role,) = [body for body in objects if body["kind"] == "Role"]
    assert role["rules"][0]["resourceNames"] == [settings.lease_name]


def test_the_base_names_the_images_of_this_version(kubectl: Kubectl) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    found = container(built(kubectl, "base"))
    runtime = {entry["name"]: entry.get("value", "192.0.2.1") for entry in found["env"]}["SOMA_OPERATOR_RUNTIME_IMAGE"]
    assert (found["image"], runtime) == (f"soma-memory-operator:{version}", f"soma-memory-runtime:{version}")
