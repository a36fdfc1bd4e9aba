"""The profiles that run as plain processes: `api` and `kwok`. Neither needs root. `node` has a room of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster import native
from hack.cluster.control_plane import POD_CIDR, ControlPlane
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.kubectl import Kubectl
from hack.cluster.layout import Layout
from hack.cluster.node import start as node
from hack.cluster.pki import certificate
from hack.cluster.plan import Component, Plan
from hack.cluster.ports import reserve
from hack.cluster.tools import ensure_all
from hack.cluster.tools.recipes import named

PROFILES = ("node", "api", "kwok")
_MANIFESTS = Path(__file__).resolve().parent / "manifests"
_NODES_MAX = 5000
_READY_SECONDS = 120.0  # 3 s on an idle machine; a busy one must not fail for it


@dataclass(frozen=True, slots=True)
class Options:
    """What a person can choose. `controllers` and `nodes` count in the profiles `api` and `kwok` respectively."""

    controllers: bool = False
    nodes: int = 10

    def check(self) -> None:
        """Raises ClusterError for what cannot be."""
        if not 0 < self.nodes <= _NODES_MAX:
            raise ClusterError(f"--nodes {self.nodes} is out of range: give a number from 1 to {_NODES_MAX}")


def bring_up(place: Layout, journal: Journal, options: Options) -> None:
    """Starts a cluster that is not there yet and returns when it answers."""
    starters: dict[str, Callable[[Layout, Journal, Options], None]] = {
        "api": _start_api,
        "kwok": _start_kwok,
        "node": lambda place, journal, _: node.start(place, journal),
    }
    starters[journal.profile](place, journal, options)


def host_control_plane(place: Layout, journal: Journal) -> ControlPlane:
    """A control plane on loopback of the host, on ports that are reserved in the journal."""
    programs = ensure_all(named("groundwork", "kubernetes"))
    native.make_folders(place)
    reserve(journal, ("api", "etcd", "etcd-peer"))
    ports = journal.ports
    return ControlPlane(
        place.name, programs, place.pki, place.data, place.config, ports["api"], ports["etcd"], ports["etcd-peer"]
    )


def _start_api(place: Layout, journal: Journal, options: Options) -> None:
    plane = host_control_plane(place, journal)
    native.write_credentials(place, plane, plane.api_port, [])
    components: list[Component] = [plane.etcd(), plane.api_server(inside_node=False)]
    if options.controllers:
        components.append(plane.controller_manager())
    _run(place, journal, plane, components)


def _start_kwok(place: Layout, journal: Journal, options: Options) -> None:
    programs = ensure_all(named("kwok"))
    plane = host_control_plane(place, journal)
    native.write_credentials(place, plane, plane.api_port, [certificate("kwok", "soma-kwok", "system:masters")])
    kwok = Component(
        "kwok",
        (
            str(programs["kwok"]),
            f"--config={_MANIFESTS / 'kwok.yaml'}",
            f"--kubeconfig={place.config / 'kwok.kubeconfig'}",
            "--manage-all-nodes=true",
            "--node-lease-duration-seconds=40",
            f"--cidr={POD_CIDR}",
        ),
        wait_for=(plane.ready_address,),
    )
    _run(
        place,
        journal,
        plane,
        [plane.etcd(), plane.api_server(inside_node=False), plane.controller_manager(), plane.scheduler(), kwok],
    )
    nodes = [_fake_node(number) for number in range(options.nodes)]
    kubectl = Kubectl(plane.programs["kubectl"], place)
    kubectl.create(nodes)
    kubectl.run("wait", "--for=condition=Ready", "--timeout=120s", "node", "--all")
    kubectl.run("wait", "--for=create", "--timeout=60s", "serviceaccount/default")


def _fake_node(number: int) -> dict[str, Any]:
    """A node as large as a usual one, whose kubelet is kwok."""
    name = f"kwok-{number:04d}"
    resources = {"cpu": "32", "memory": "256Gi", "pods": "500", "ephemeral-storage": "1Ti"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok"},
        },
        "status": {"allocatable": resources, "capacity": resources},
    }


def _run(place: Layout, journal: Journal, plane: ControlPlane, components: list[Component]) -> None:
    plan = Plan(tuple(components), place.pki / "ca.crt", place.report, place.logs)
    native.start(place, journal, plan, plane.programs["supervise"])
    native.wait_until(lambda: native.api_ready(place, plane.api_port), "the API server", place, journal, _READY_SECONDS)
