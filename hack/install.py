"""Puts this checkout's operator into a cluster, for the demo, the tests and the benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from hack.cluster import Cluster
from hack.cluster.lifecycle import load_image
from hack.cluster.tools import program
from hack.images import Image, build
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
    images = build()
    load_images(cluster, images)
    return apply_operator(cluster, images)


def load_images(cluster: Cluster, images: Mapping[str, Image]) -> None:
    """Put the images into the node, but for those that it has from an earlier call."""
    note = cluster.root / "loaded-images.json"
    loaded: dict[str, str] = json.loads(note.read_text()) if note.exists() else {}
    for name, image in images.items():
        if loaded.get(name) != image.id:
            load_image(cluster.name, image.archive)
            loaded[name] = image.id
            note.write_text(json.dumps(loaded))


def apply_operator(cluster: Cluster, images: Mapping[str, Image]) -> Kubectl:
    """Apply CRDs and operator, and wait until both replicas run the image that was loaded."""
    kubectl = connect(cluster, OPERATOR_NAMESPACE)
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    manifest = pinned(kubectl("kustomize", str(ROOT / "manifests/overlays/local")), images)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    kubectl("rollout", "status", "deployment/soma-operator", "--timeout=150s", timeout=160)
    return kubectl


def pinned(manifest: str, images: Mapping[str, Image]) -> str:
    """The manifest with the tag `dev` of each image replaced by the one that names its content.

    Under a tag that stays, a changed image reaches no pod that runs, and a memory would be served by an older one.
    """
    for image in images.values():
        manifest = manifest.replace(f"docker.io/library/{image.name}:dev", image.pinned_ref)
    return manifest
