"""The chart `soma-memory`: one SomaMemory from values, and overlays that the API server accepts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster.tools import program
from hack.kube import Kubectl, KubectlError
from soma_operator.api.spec import SomaMemorySpec

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts/soma-memory"
ENVIRONMENTS = ("dev", "test", "staging", "prod-lite", "prod")


@pytest.fixture(scope="module")
def helm() -> str:
    """Built by `go install` when it is not there yet."""
    return str(program("helm"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def rendered(helm: str, *arguments: str) -> list[dict[str, Any]]:
    done = run(helm, "template", "notes", str(CHART), "--namespace=team", "--kube-version=1.36.3", *arguments)
    assert done.returncode == 0, done.stderr
    return [body for body in yaml.safe_load_all(done.stdout) if body]


def test_the_least_release_is_one_memory_with_an_empty_spec(helm: str) -> None:
    (memory,) = rendered(helm)
    assert (memory["kind"], memory["metadata"]["name"], memory["metadata"]["namespace"]) == (
        "SomaMemory",
        "notes",
        "team",
    )
    assert memory["spec"] == {}


def test_names_labels_spec_and_backup_reach_the_resources(helm: str) -> None:
    values = ["name=agents", "labels.team=search", "spec.scoring.halfLife=30d", "backup.enabled=true"]
    values += ["backup.spec.schedule=0 2 * * *", "backup.spec.destination.s3.bucket=memories"]
    backup, memory = sorted(
        rendered(helm, *(f"--set={value}" for value in values)), key=lambda body: body["kind"] == "SomaMemory"
    )
    assert memory["metadata"]["name"] == "agents"
    assert memory["metadata"]["labels"]["team"] == "search"
    assert memory["spec"] == {"scoring": {"halfLife": "30d"}}
    assert backup["spec"] == {
        "memoryRef": {"name": "agents"},
        "schedule": "0 2 * * *",
        "destination": {"s3": {"bucket": "memories"}},
    }


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_overlay_is_accepted_by_the_api_server_as_it_is(helm: str, kubectl: Kubectl, environment: str) -> None:
    (memory,) = rendered(helm, f"--values={CHART}/values-{environment}.yaml")
    memory["metadata"]["namespace"] = "default"
    kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(memory))
    SomaMemorySpec.model_validate(memory["spec"])
    assert run(helm, "lint", "--strict", str(CHART), f"--values={CHART}/values-{environment}.yaml").returncode == 0


@pytest.mark.parametrize("environment", ["staging", "prod-lite", "prod"])
def test_what_is_near_production_keeps_data_limits_callers_and_closes_the_network(environment: str) -> None:
    spec = yaml.safe_load((CHART / f"values-{environment}.yaml").read_text(encoding="utf-8"))["spec"]
    assert spec["deletionPolicy"] == "Retain"
    assert spec["rateLimits"]["maxRequests"] == 5000
    assert spec["networkPolicy"]["enabled"] is True


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("spec=3", "at '/spec'"),
        ("nmae=notes", "additional properties 'nmae' not allowed"),
        ("name=Notes_1", "at '/name'"),
        ("backup.spec.memoryRef.name=other", "at '/backup/spec'"),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_its_name(helm: str, value: str, says: str) -> None:
    done = run(helm, "template", "notes", str(CHART), "--kube-version=1.36.3", "--set", value)
    assert done.returncode != 0
    assert says in done.stderr


def test_a_release_is_upgraded_and_rolled_back(helm: str, namespace: Kubectl) -> None:
    def helm_here(*arguments: str) -> None:
        done = run(helm, f"--kubeconfig={namespace.kubeconfig}", f"--namespace={namespace.namespace}", *arguments)
        assert done.returncode == 0, done.stderr

    def half_life() -> object:
        return namespace.get("somamemory", "notes")["spec"].get("scoring", {}).get("halfLife")

    helm_here("install", "notes", str(CHART))
    helm_here("upgrade", "notes", str(CHART), "--set=spec.scoring.halfLife=30d")
    assert half_life() == "30d"
    helm_here("rollback", "notes", "1")
    assert half_life() is None
    with pytest.raises(KubectlError, match="halfLife"):
        namespace.apply(
            yaml.safe_dump(rendered(helm, "--set=spec.scoring.halfLife=soon")[0] | {"metadata": {"name": "x"}})
        )
    helm_here("uninstall", "notes")
    assert namespace.find("somamemory", "notes") is None
