"""A cluster of their own: an operator that works would disturb the tests that only look at admission."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from hack.cluster import Cluster, ClusterError, Options, up
from hack.cluster.tools import program
from hack.kube import Kubectl
from hack.requirement import unavailable
from tests.integration.engine.direct import Direct, client_for
from tests.integration.engine.harness import ROOT, Memory, Operator, token_kubeconfig


@pytest.fixture(scope="session")
def engine_cluster() -> Cluster:
    """The profile `api` with controllers; left running for the next run."""
    try:
        return up("api", name="operator-engine", options=Options(controllers=True))
    except ClusterError as error:
        unavailable(str(error))


@pytest.fixture(scope="session")
def kubectl(engine_cluster: Cluster) -> Kubectl:
    """The administrator's kubectl; CRDs and the operator's RBAC are there, its Deployment is not."""
    place = engine_cluster.kubeconfig
    admin = Direct(program("kubectl"), place, http=client_for(place))
    admin.establish(ROOT / "crds")
    objects = [body for body in yaml.safe_load_all(admin("kustomize", str(ROOT / "manifests/base"))) if body]
    rights = [body for body in objects if body["kind"] in _RIGHTS]
    system = admin.within("soma-system")
    system("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(rights))
    system("delete", "lease", "--all")
    return admin


_RIGHTS = {"Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}


@pytest.fixture(scope="session")
def operator_kubeconfig(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's own ServiceAccount, and nothing else."""
    return token_kubeconfig(kubectl, tmp_path_factory.mktemp("operator"))


NewOperator = Callable[..., Operator]


@pytest.fixture(scope="module")
def new_operator(operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewOperator]:
    """Starts replicas, with settings as keyword arguments; all are stopped in the end."""
    started: list[Operator] = []

    def start(kubeconfig: Path | None = None, **settings: str) -> Operator:
        log = tmp_path_factory.mktemp("replica") / "operator.log"
        started.append(Operator(kubeconfig or operator_kubeconfig, log, settings).start())
        return started[-1]

    yield start
    for replica in started:
        replica.stop()


@pytest.fixture(scope="module")
def operator(new_operator: NewOperator) -> Operator:
    """One replica that leads."""
    return new_operator().ready()


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a fresh namespace."""
    name = f"engine-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield kubectl.within(name)
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def memory(operator: Operator, namespace: Kubectl) -> Memory:
    """A SomaMemory that is not created yet, and an operator that will see it."""
    return Memory(namespace)


@pytest.fixture
def serving(memory: Memory) -> Memory:
    """A SomaMemory that is Ready."""
    return memory.create().serve()
