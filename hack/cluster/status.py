"""What runs: each cluster of this cache, whether it answers, and its components with their processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from hack.cluster import journal as journals
from hack.cluster import native
from hack.cluster.journal import Journal
from hack.cluster.kubectl import Kubectl
from hack.cluster.layout import Layout, known
from hack.cluster.processes import children, pid_inside
from hack.cluster.tools import program


@dataclass(slots=True)
class ComponentStatus:
    """One component; `pid` as this machine counts, None while it waits or is about to be restarted."""

    name: str
    pid: int | None
    restarts: int
    last_exit: str | None


@dataclass(slots=True)
class ClusterStatus:
    """One cluster. `state` is Ready, Starting (or abandoned while it started), Unreachable or Stopped."""

    name: str
    profile: str
    provider: str
    state: str
    kubeconfig: str
    ports: dict[str, int]
    components: list[ComponentStatus] = field(default_factory=list)


def statuses() -> list[ClusterStatus]:
    """The status of every known cluster."""
    return [_status(place, found) for place in known() if (found := journals.load(place.state)) is not None]


def _status(place: Layout, found: Journal) -> ClusterStatus:
    return ClusterStatus(
        place.name,
        found.profile,
        found.provider,
        _state(place, found),
        str(place.kubeconfig),
        found.ports,
        components(place, found),
    )


def _state(place: Layout, found: Journal) -> str:
    if found.provider != "native" and found.ready:
        return "Ready" if Kubectl(program("kubectl"), place).answers() else "Unreachable"
    if native.supervisor(found) is None:
        return "Stopped"
    if not found.ready:
        return "Starting"
    return "Ready" if native.api_ready(place, found.ports["api"]) else "Unreachable"


def components(place: Layout, found: Journal) -> list[ComponentStatus]:
    """The components that the supervisor reports, their pids translated to those of this machine."""
    try:
        report = json.loads(place.report.read_text())
    except (OSError, ValueError):
        return []
    on_host = _host_pids(found)
    return [
        ComponentStatus(name, on_host.get(state["pid"]), state["restarts"], state.get("lastExit"))
        for name, state in sorted(report.items())
    ]


def _host_pids(found: Journal) -> dict[int, int]:
    """Pid inside → pid on the host.

    A node's components are children of its process 1, the others' of the supervisor.
    """
    above = native.process_inside(found) if found.profile == "node" else native.supervisor(found)
    return {pid_inside(pid): pid for pid in children(above.pid)} if above else {}


def as_json(found: list[ClusterStatus]) -> str:
    """The statuses for programs."""
    return json.dumps([asdict(status) for status in found], indent=2)


def as_text(found: list[ClusterStatus]) -> str:
    """The statuses for people."""
    if not found:
        return "No cluster. Start one with 'make cluster-up'."
    lines = []
    for status in found:
        lines.append(f"{status.name}: {status.state}, profile {status.profile}, KUBECONFIG={status.kubeconfig}")
        for component in status.components:
            running = f"pid {component.pid}" if component.pid else "not running"
            restarts = f", {component.restarts} restarts, last {component.last_exit}" if component.restarts else ""
            lines.append(f"  {component.name:<24} {running}{restarts}")
    return "\n".join(lines)
