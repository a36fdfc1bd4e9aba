"""The profiles that run as plain processes: `api` and `kwok`. Neither needs root. `node` has a room of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hack.cluster import native
from hack.cluster.control_plane import ControlPlane
from hack.cluster.journal import Journal
from hack.cluster.layout import Layout
from hack.cluster.node import start as node
from hack.cluster.plan import Component, Plan
from hack.cluster.ports import reserve
from hack.cluster.tools import ensure_all
from hack.cluster.tools.recipes import named

PROFILES = ("node", "api", "kwok")
_READY_SECONDS = 120.0  # 3 s on an idle machine; a busy one must not fail for it


@dataclass(frozen=True, slots=True)
class Options:
    """What a person can choose. `controllers` and `nodes` count in the profiles `api` and `kwok` respectively."""

    controllers: bool = False
    nodes: int = 10


def bring_up(place: Layout, journal: Journal, options: Options) -> None:
    """Starts a cluster that is not there yet and returns when it answers."""
    starters: dict[str, Callable[[Layout, Journal, Options], None]] = {
        "api": _start_api,
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


def _run(place: Layout, journal: Journal, plane: ControlPlane, components: list[Component]) -> None:
    plan = Plan(tuple(components), place.pki / "ca.crt", place.report, place.logs)
    native.start(place, journal, plan, plane.programs["supervise"])
    native.wait_until(lambda: native.api_ready(place, plane.api_port), "the API server", place, journal, _READY_SECONDS)
