"""Clusters that run as plain processes of this machine.

Laying out files, starting the supervisor, waiting until all answers.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from hack.cluster.control_plane import ControlPlane
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.layout import Layout
from hack.cluster.pki import issue, write_kubeconfig
from hack.cluster.plan import Plan
from hack.cluster.processes import MARK, Process, boot_id, children, identify, pid_inside
from hack.cluster.tools import write_atomically

CONTEXT_PREFIX = "soma-"


def make_folders(place: Layout) -> None:
    """The cluster's own folders, closed to others: they hold keys."""
    for folder in (place.root, place.pki, place.logs, place.data, place.config):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_credentials(place: Layout, plane: ControlPlane, api_port: int, extra: list[dict[str, object]]) -> None:
    """Certificates, the user's kubeconfig (through `api_port` on loopback) and those of the components."""
    issue(place.pki, place.name, plane.certificates() + extra)
    write_kubeconfig(place.kubeconfig, CONTEXT_PREFIX + place.name, f"https://127.0.0.1:{api_port}", place.pki, "admin")
    for user in ("controller-manager", "scheduler", *(str(request["name"]) for request in extra)):
        target = place.config / f"{user}.kubeconfig"
        write_kubeconfig(target, CONTEXT_PREFIX + place.name, f"https://127.0.0.1:{plane.api_port}", place.pki, user)


def start(place: Layout, journal: Journal, plan: Plan, supervise: Path) -> None:
    """Starts the supervisor in a session of its own, so that it outlives this command and its terminal."""
    write_atomically(place.plan, json.dumps(plan.as_json(), indent=2) + "\n", mode=0o600)
    environment = {
        "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        "HOME": str(place.data),
        MARK: str(place.root),
    }
    journal.note_supervisor()
    with (place.logs / "supervise.log").open("ab") as log:
        process = subprocess.Popen(
            [supervise, place.plan],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    found = identify(process.pid)
    journal.note_supervisor(process.pid, found.start_time if found else None)


def supervisor(journal: Journal) -> Process | None:
    """The supervisor's process if it runs."""
    pid, started = journal.supervisor.get("pid"), journal.supervisor.get("startTime")
    if pid is None or started is None or journal.boot != boot_id():
        return None
    process = Process(pid, started)
    return process if process.alive() else None


def process_inside(journal: Journal) -> Process | None:
    """Process 1 of the namespaces of a node, as this machine sees it; entering them goes through it."""
    leader = supervisor(journal)
    inside = [pid for pid in children(leader.pid) if pid_inside(pid) == 1] if leader else []
    return identify(inside[0]) if inside else None


def path_inside(journal: Journal, path: str) -> Callable[[], bool]:
    """A question: is there such a path in the node's mount namespace?"""

    def there() -> bool:
        inside = process_inside(journal)
        return inside is not None and Path(f"/proc/{inside.pid}/root{path}").exists()

    return there


def api_ready(place: Layout, port: int, timeout: float = 2.0) -> bool:
    """Whether the API server says that it is ready, with its RBAC roles bootstrapped."""
    try:
        context = ssl.create_default_context(cafile=str(place.pki / "ca.crt"))
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", timeout=timeout, context=context) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def wait_until(ready: Callable[[], bool], what: str, place: Layout, journal: Journal, seconds: float) -> None:
    """Polls until `ready()`. ClusterError when time runs out or the supervisor ends, with the last words of its log."""
    deadline = time.monotonic() + seconds
    while not ready():
        if supervisor(journal) is None:
            raise ClusterError(
                f"the cluster {place.name!r} stopped while it started: {last_words(place.logs / 'supervise.log')}"
            )
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{what} of cluster {place.name!r} did not answer within {seconds:.0f} s: see the logs in "
                f"{place.logs}; "
                f"its supervisor's last line: {last_words(place.logs / 'supervise.log')}"
            )
        time.sleep(0.05)


def last_words(log: Path) -> str:
    """The last line of a log."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it wrote nothing"
