"""A real API server with our CRDs: admission, CEL, RBAC and server-side apply as in production; no nodes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hack.cluster import Cluster, ClusterError, Options, up
from hack.cluster.tools import program
from hack.kube import Kubectl
from hack.requirement import unavailable

ROOT = Path(__file__).resolve().parents[3]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the API server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def api_cluster() -> Cluster:
    """The profile `api` with controllers (garbage collection, namespaces); left running for the next run."""
    try:
        return up("api", name="operator-tests", options=Options(controllers=True))
    except ClusterError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def kubectl(api_cluster: Cluster) -> Kubectl:
    """The administrator's kubectl; the CRDs of this checkout are established."""
    admin = Kubectl(program("kubectl"), api_cluster.kubeconfig)
    admin.establish(ROOT / "crds")
    return admin


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a fresh namespace."""
    with _fresh_namespace(kubectl) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def shared_namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace for tests that leave nothing behind, or nothing under a name that another test uses."""
    with _fresh_namespace(kubectl) as fresh:
        yield fresh


@contextmanager
def _fresh_namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield kubectl.within(name)
    kubectl("delete", "namespace", name, "--wait=false")
