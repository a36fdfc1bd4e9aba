"""The node that the end-to-end tests share: a real kubelet, our images, the operator as a pod from its manifests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hack.images import build

from e2e.harness import Memory
from hack.cluster import ClusterError, down, tool, up
from hack.kube import Kubectl

ROOT = Path(__file__).resolve().parents[1]
OPERATOR_NAMESPACE = "soma-system"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a node."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def unavailable(reason: str) -> None:
    """Skip with the reason, or fail where everything is required (`SOMA_TEST_REQUIRE=all`, as in CI)."""
    if os.environ.get("SOMA_TEST_REQUIRE") == "all":
        pytest.fail(f"required, but not to be had: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubectl]:
    """A node of our own, removed at the end unless `SOMA_E2E_KEEP` is set."""
    name = "e2e"
    try:
        started = up("node", name=name)
    except ClusterError as error:
        unavailable(str(error))
        raise
    try:
        yield Kubectl(tool("kubectl"), started.kubeconfig)
    finally:
        if not os.environ.get("SOMA_E2E_KEEP"):
            down(name)


@pytest.fixture(scope="session")
def operator(cluster: Kubectl) -> Kubectl:
    """The operator, installed from the CRDs and the local overlay and ready; bound to its own namespace."""
    build(load="e2e")
    cluster("apply", "--server-side", "-k", str(ROOT / "crds"))
    cluster("apply", "--server-side", "-k", str(ROOT / "manifests/overlays/local"))
    system = cluster.within(OPERATOR_NAMESPACE)
    system("rollout", "status", "deployment/soma-operator", "--timeout=120s", timeout=130)
    return system


@pytest.fixture
def namespace(operator: Kubectl) -> Iterator[Kubectl]:
    """A fresh namespace that enforces PodSecurity `restricted`."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    operator.apply(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    )
    yield operator.within(name)
    operator("delete", "namespace", name, "--wait=false")


@pytest.fixture
def memory(namespace: Kubectl) -> Callable[..., Memory]:
    """A factory: `memory("name", **spec)` applies a SomaMemory and returns it without waiting."""

    def create(name: str = "agents", **spec: Any) -> Memory:
        body = {
            "apiVersion": "memory.somatech.dev/v1alpha1",
            "kind": "SomaMemory",
            "metadata": {"name": name},
            "spec": {"mode": "embedded", "persistence": {"size": "1Gi"}} | spec,
        }
        namespace.apply(yaml.safe_dump(body))
        return Memory(namespace, name)

    return create
