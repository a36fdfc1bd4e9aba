"""Starts a node: files, namespaces, components, and the objects that make it a cluster."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hack.cluster import native
from hack.cluster.control_plane import ControlPlane
from hack.cluster.journal import Journal
from hack.cluster.kubectl import Kubectl
from hack.cluster.layout import Layout
from hack.cluster.node import images, machine
from hack.cluster.node.components import Node
from hack.cluster.node.configuration import CONTAINERD_SOCKET, NODE_IP, PAUSE_IMAGE, NodeFiles
from hack.cluster.plan import Plan
from hack.cluster.ports import reserve
from hack.cluster.tools import cache_root, ensure_all
from hack.cluster.tools.recipes import named

RECIPES = ("groundwork", "kubernetes", "containerd", "runc", "node")
_API_PORT, _ETCD_PORT, _ETCD_PEER_PORT = 6443, 2379, 2380  # in the node's own namespace, so always free
_READY_SECONDS = 180.0
_MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"


def start(place: Layout, journal: Journal) -> None:
    """Brings a node up and returns when pods can run on it, with DNS, metrics and volumes."""
    machine.need(cache_root())
    programs = ensure_all(named(*RECIPES))
    native.make_folders(place)
    for folder in ("kubelet", "containerd", "volumes"):
        (place.data / folder).mkdir(exist_ok=True)
    reserve(journal, ("api",))
    plane = ControlPlane(
        place.name,
        programs,
        place.pki,
        place.data,
        place.config,
        _API_PORT,
        _ETCD_PORT,
        _ETCD_PEER_PORT,
        address=NODE_IP,
    )
    files = NodeFiles(
        place.name, place.pki, place.config, programs["runc"], machine.snapshotter(place.data), machine.cni_plugins()
    )
    node = Node(plane, files, place.logs)
    native.write_credentials(place, plane, journal.ports["api"], node.certificates())
    files.write()
    machine.make_cgroups(journal)
    forwards = ((f"127.0.0.1:{journal.ports['api']}", f"127.0.0.1:{_API_PORT}"),)
    plan = Plan(
        node.components(),
        place.pki / "ca.crt",
        place.report,
        place.logs,
        namespaces=True,
        forwards=forwards,
        setup=node.setup(),
    )
    native.start(place, journal, plan, programs["supervise"])
    native.wait_until(
        lambda: native.api_ready(place, journal.ports["api"]), "the API server", place, journal, _READY_SECONDS
    )
    _furnish(place, journal, programs, files.node)


def _furnish(place: Layout, journal: Journal, programs: dict[str, Path], node: str) -> None:
    """The objects of DNS, metrics and volumes, the sandbox image, and the wait for all of it."""
    kubectl = Kubectl(programs["kubectl"], place)
    for manifest in ("metrics.yaml", "node.yaml"):
        kubectl.run("apply", "--filename", str(_MANIFESTS / manifest))
    kubectl.apply(_metrics_api(place.pki))
    pause = place.data / "pause.tar"
    images.archive_of_program(programs["pause"], PAUSE_IMAGE, pause)
    socket = native.path_inside(journal, CONTAINERD_SOCKET)
    native.wait_until(socket, "containerd", place, journal, 30)
    images.load(journal, pause, programs["ctr"])
    for arguments in _ready(node):
        kubectl.run(*arguments)
    dns = _answers_inside(journal, f"http://{NODE_IP}:8181/ready")
    native.wait_until(dns, "the cluster's DNS", place, journal, 60)


def _ready(node: str) -> Iterator[tuple[str, ...]]:
    patience = "--timeout=120s"
    yield "wait", "--for=create", patience, f"node/{node}"
    yield "wait", "--for=condition=Ready", patience, f"node/{node}"
    yield "wait", "--for=create", patience, "serviceaccount/default"
    # Until an aggregated API answers, discovery fails, and with it the deletion of namespaces.
    yield "wait", "--for=condition=Available", patience, "apiservice/v1beta1.metrics.k8s.io"


def _metrics_api(pki: Path) -> dict[str, Any]:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "service": {"name": "metrics-server", "namespace": "kube-system"},
            "caBundle": base64.b64encode((pki / "ca.crt").read_bytes()).decode(),
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }


def _answers_inside(journal: Journal, url: str) -> Callable[[], bool]:
    """A question: does this URL answer in the node's network? Only a process inside can tell: no route leads there."""
    fetch = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=2)"

    def answers() -> bool:
        inside = native.process_inside(journal)
        command = ["nsenter", f"--target={inside.pid if inside else 0}", "--net", "--", sys.executable, "-c", fetch]
        return inside is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0

    return answers
