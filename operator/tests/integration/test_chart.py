"""The Helm chart renders what the kustomize base does, brings the CRDs, and refuses values that mean nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster import ClusterError, down, up
from hack.cluster.tools import program
from hack.kube import Kubectl, wait_until
from hack.requirement import unavailable
from soma_operator.policy.rules import Policy, PolicyRule
from soma_operator.settings import OperatorSettings

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts/soma-memory-operator"
Key = tuple[str, str]


@pytest.fixture(scope="module")
def helm() -> Path:
    """Built by `go install` when it is not there yet."""
    return program("helm")


def render(helm: Path, *values: str) -> subprocess.CompletedProcess[str]:
    settings = [part for value in values for part in ("--set", value)]
    command = ["template", "soma-operator", str(CHART), "--namespace=soma-system", "--kube-version=1.36.3"]
    return subprocess.run([str(helm), *command, *settings], capture_output=True, text=True, timeout=120, check=False)


def objects(text: str) -> dict[Key, dict[str, Any]]:
    return {(body["kind"], body["metadata"]["name"]): body for body in yaml.safe_load_all(text) if body}


def rendered(helm: Path, *values: str) -> dict[Key, dict[str, Any]]:
    done = render(helm, *values)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def environment(found: dict[Key, dict[str, Any]]) -> dict[str, str]:
    (container,) = found["Deployment", "soma-operator"]["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "192.0.2.1") for entry in container["env"]}


def test_the_chart_renders_the_objects_of_the_kustomize_base(helm: Path) -> None:
    build = [str(program("kubectl")), "kustomize", str(ROOT / "manifests/base")]
    base = objects(subprocess.run(build, capture_output=True, text=True, timeout=60, check=True).stdout)
    # A release lives in a namespace that Helm makes.
    del base["Namespace", "soma-system"]
    assert rendered(helm, "crds.install=false") == base


def test_the_chart_brings_the_crds_and_leaves_them_behind(helm: Path) -> None:
    found = rendered(helm)
    for path in (ROOT / "crds").glob("soma*.yaml"):
        expected = yaml.safe_load(path.read_text(encoding="utf-8"))
        expected["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
        assert found["CustomResourceDefinition", expected["metadata"]["name"]] == expected


def test_the_crds_can_be_left_to_somebody_else(helm: Path) -> None:
    assert not [key for key in rendered(helm, "crds.install=false") if key[0] == "CustomResourceDefinition"]


def test_secrets_can_be_granted_namespace_by_namespace(helm: Path) -> None:
    found = rendered(helm, "rbac.clusterWideSecrets=false")
    assert ("ClusterRole", "soma-operator-secrets") in found
    assert ("ClusterRoleBinding", "soma-operator-secrets") not in found


def test_a_digest_wins_over_a_tag(helm: Path) -> None:
    digest = "sha256:" + "0" * 64
    found = rendered(helm, "runtimeImage.repository=r.example.com/runtime", f"runtimeImage.digest={digest}")
    assert environment(found)["SOMA_OPERATOR_RUNTIME_IMAGE"] == f"r.example.com/runtime@{digest}"


def test_other_settings_reach_the_operator(helm: Path) -> None:
    found = rendered(helm, "settings.ROLLOUT_SLOTS=4", "logLevel=DEBUG")
    assert OperatorSettings.from_environment(environment(found)).rollout_slots == 4


def test_a_policy_reaches_the_operator_and_another_one_restarts_it(helm: Path) -> None:
    def mounted(*values: str) -> tuple[Policy, Any]:
        found = rendered(helm, *values)
        pod = found["Deployment", "soma-operator"]["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        folder = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "policy")
        assert environment(found)["SOMA_OPERATOR_POLICY_FILE"] == f"{folder}/policy.yaml"
        text = found["ConfigMap", "soma-operator-policy"]["data"]["policy.yaml"]
        return Policy.parse(text), pod["metadata"]["annotations"]["memory.somatech.dev/policy-hash"]

    rules = ("policy.rules[0].namespaces={team-*}", "policy.rules[0].hosts={10.0.0.0/8}")
    policy, first = mounted(*rules)
    assert policy.rules == (PolicyRule(namespaces=("team-*",), hosts=("10.0.0.0/8",)),)
    assert mounted(*rules, "policy.rules[0].consent=true")[1] != first
    assert ("ConfigMap", "soma-operator-policy") not in rendered(helm)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("policy.rules[0].host=a", "additional properties 'host' not allowed"),
        ("settings.POLICY_FILE=a", "invalid propertyName 'POLICY_FILE'"),
        ("replicas=0", "at '/replicas'"),
        ("replica=3", "additional properties 'replica' not allowed"),
        ("image.digest=latest", "at '/image/digest'"),
        ("settings.HEALTH_PORT=1", "invalid propertyName 'HEALTH_PORT'"),
        ("logLevel=LOUD", "at '/logLevel'"),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_its_name(helm: Path, value: str, says: str) -> None:
    done = render(helm, value)
    assert done.returncode != 0
    assert says in done.stderr


@pytest.fixture
def empty_cluster() -> Iterator[Kubectl]:
    """A cluster of its own: a release wants to be the one that makes the CRDs."""
    try:
        cluster = up("api", name="chart-tests")
    except ClusterError as error:
        unavailable(str(error))
    yield Kubectl(program("kubectl"), cluster.kubeconfig)
    down("chart-tests")


def test_a_release_that_goes_leaves_the_memories(helm: Path, empty_cluster: Kubectl) -> None:
    def run(*arguments: str) -> None:
        command = [str(helm), f"--kubeconfig={empty_cluster.kubeconfig}", "--namespace=soma-system", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    run("install", "soma-operator", str(CHART), "--create-namespace")
    body = {
        "apiVersion": "memory.somatech.dev/v1alpha1",
        "kind": "SomaMemory",
        "metadata": {"name": "kept"},
        "spec": {},
    }
    wait_until(lambda: empty_cluster.apply(yaml.safe_dump(body)), "the CRD", timeout=20)
    run("upgrade", "soma-operator", str(CHART), "--set=replicas=3")
    assert empty_cluster.within("soma-system").get("deployment", "soma-operator")["spec"]["replicas"] == 3
    run("uninstall", "soma-operator")
    assert empty_cluster.within("soma-system").find("deployment", "soma-operator") is None
    assert empty_cluster.get("somamemory", "kept")["metadata"]["name"] == "kept"


def test_the_chart_is_well_formed(helm: Path) -> None:
    done = subprocess.run([str(helm), "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
