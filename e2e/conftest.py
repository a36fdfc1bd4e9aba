"""The node that the end-to-end tests share: a real kubelet, our images, the operator as a pod from its manifests."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness import Memory
from hack.cluster import Cluster, ClusterError, down, up
from hack.install import install
from hack.kube import Kubectl
from hack.requirement import unavailable


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a node."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A node of our own (`SOMA_E2E_NAME` names another), removed at the end unless `SOMA_E2E_KEEP` is set."""
    name = os.environ.get("SOMA_E2E_NAME") or "e2e"
    try:
        started = up("node", name=name)
    except ClusterError as error:
        unavailable(str(error))
    try:
        yield started
    finally:
        if not os.environ.get("SOMA_E2E_KEEP"):
            down(name)


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> Kubectl:
    """The operator, installed as people install it, and ready; kubectl bound to its namespace."""
    return install(cluster)


@contextmanager
def fresh_namespace(operator: Kubectl) -> Iterator[Kubectl]:
    """A namespace that enforces PodSecurity `restricted`; kubectl bound to it."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    operator.apply(
        yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    )
    yield operator.within(name)
    operator("delete", "namespace", name, "--wait=false")


@pytest.fixture
def namespace(operator: Kubectl) -> Iterator[Kubectl]:
    """A fresh namespace for one test."""
    with fresh_namespace(operator) as bound:
        yield bound


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
