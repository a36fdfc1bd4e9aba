"""Who runs a cluster: our own processes, kind, or somebody else. One place that tells them apart."""

from __future__ import annotations

import os
from pathlib import Path

from hack.cluster import borrowed, kind, native, runner
from hack.cluster.borrowed import Borrowed
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.kind import Kind
from hack.cluster.kubectl import Kubectl
from hack.cluster.layout import Layout
from hack.cluster.node import images
from hack.cluster.profiles import Options, bring_up
from hack.cluster.tools import program

_RESTART_SECONDS = 60.0


def choose(profile: str, *, current: bool, run: runner.Run = runner.run) -> str:
    """native, kind or current. Only a node can be another's: an API server alone is quicker started than asked for."""
    if current or (profile == "node" and borrowed.asked_for()):
        return "current"
    wanted = os.environ.get("SOMA_CLUSTER_PROVIDER", "auto")
    if wanted not in ("auto", "native", "kind"):
        raise ClusterError(f"SOMA_CLUSTER_PROVIDER={wanted!r} is unknown: use auto, native or kind")
    if profile != "node" or wanted == "native":
        return "native"
    return "kind" if wanted == "kind" or kind.docker_works(run) else "native"


def start(place: Layout, journal: Journal, options: Options) -> None:
    """Starts a cluster that is not there yet and returns when it answers. Raises ClusterError."""
    if journal.provider == "kind":
        Kind().start(place, journal)
    elif journal.provider == "current":
        Borrowed().start(place, journal)
    else:
        bring_up(place, journal, options)


def answers(place: Layout, found: Journal) -> bool:
    """Whether a cluster that was ready once still is."""
    if not found.ready:
        return False
    if found.provider != "native":
        return Kubectl(program("kubectl"), place).answers()
    if native.supervisor(found) is None:
        return False
    # A component that was just killed is being restarted: give it that time before giving the cluster up.
    native.wait_until(
        lambda: native.api_ready(place, found.ports["api"]), "the API server", place, found, _RESTART_SECONDS
    )
    return True


def load_image(found: Journal, archive: Path) -> list[str]:
    """Puts a docker archive into a node's container runtime; returns the images' names where the runtime tells them."""
    if found.provider == "kind":
        Kind().load(found.name, archive)
        return []
    if found.provider == "current":
        Borrowed().load(found, archive)
        return []
    return images.load(found, archive, program("ctr"))
