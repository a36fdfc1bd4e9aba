"""Puts this checkout's operator into a cluster, for the demo, the tests and the benchmarks."""

from __future__ import annotations

from pathlib import Path

from hack.cluster import Cluster
from hack.cluster.lifecycle import load_image
from hack.cluster.tools import program
from hack.images import build
from hack.kube import Kubectl

ROOT = Path(__file__).resolve().parents[1]
OPERATOR_NAMESPACE = "soma-system"


def connect(cluster: Cluster, namespace: str = "default") -> Kubectl:
    """kubectl for that cluster."""
    return Kubectl(program("kubectl"), cluster.kubeconfig, namespace)


def install(cluster: Cluster) -> Kubectl:
    """Build what is stale, load it into the node, apply CRDs and operator, wait until both replicas are ready.

    Returns kubectl bound to the operator's namespace.

    Raises:
        ImageError, ClusterError, KubectlError: with one sentence for a person.
    """
    for image in build().values():
        load_image(cluster.name, image.archive)
    kubectl = connect(cluster, OPERATOR_NAMESPACE)
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests/overlays/local"))
    # The tag stays `dev`: a new image under it reaches the pods only through new pods.
    kubectl("rollout", "restart", "deployment/soma-operator")
    kubectl("rollout", "status", "deployment/soma-operator", "--timeout=150s", timeout=160)
    return kubectl
