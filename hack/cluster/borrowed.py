"""CLUSTER=current: somebody's own cluster, used only where its context's name says that it is one to play with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hack.cluster import runner
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.kubectl import Kubectl
from hack.cluster.layout import Layout
from hack.cluster.tools import program, write_atomically

ALLOWED = ("kind-*", "k3d-*", "minikube", "soma-*")


def asked_for() -> bool:
    """Whether the person set CLUSTER=current."""
    chosen = os.environ.get("CLUSTER", "")
    if chosen not in ("", "current"):
        raise ClusterError(
            f"CLUSTER={chosen!r} is unknown: set CLUSTER=current, or leave it out for a cluster of our own"
        )
    return chosen == "current"


def allowed(context: str) -> bool:
    """Whether a context's name is on the allow-list: ours, and the patterns in SOMA_CLUSTER_ALLOW, parted by commas."""
    more = [pattern.strip() for pattern in os.environ.get("SOMA_CLUSTER_ALLOW", "").split(",")]
    return any(fnmatchcase(context, pattern) for pattern in (*ALLOWED, *more) if pattern)


@dataclass(frozen=True, slots=True)
class Borrowed:
    """The cluster that kubectl points at. It is never created, changed by us, or removed."""

    run: runner.Run = runner.run

    def start(self, place: Layout, journal: Journal) -> None:
        """Copies the current context's credentials into a kubeconfig of its own. ClusterError where it is not
        allowed."""
        kubectl = str(program("kubectl"))
        found = self.run([kubectl, "config", "current-context"], None)
        context = found.output.strip()
        if found.status != 0 or not context:
            raise ClusterError(
                "CLUSTER=current, but kubectl has no current context: choose one with 'kubectl config use-context'"
            )
        if not allowed(context):
            raise ClusterError(
                f"CLUSTER=current, but the context {context!r} is on no allow-list ({', '.join(ALLOWED)}), as tests "
                f"create and delete things: if that is meant, set SOMA_CLUSTER_ALLOW={context}"
            )
        journal.provider = "current"
        journal.options["context"] = context
        journal.save()
        view = self.run([kubectl, "config", "view", "--minify", "--flatten", f"--context={context}"], None)
        write_atomically(place.kubeconfig, view.output, mode=0o600)
        if not Kubectl(Path(kubectl), place, self.run).answers():
            raise ClusterError(f"the cluster of context {context!r} does not answer: is it running?")

    def load(self, journal: Journal, archive: Path) -> None:
        """Puts a docker archive into the cluster by its own tool."""
        context = str(journal.options.get("context", ""))
        command = _load_command(context, archive)
        done = self.run(command, None)
        if done.status != 0:
            last = (done.error.strip().splitlines() or ["no message"])[-1]
            raise ClusterError(f"'{' '.join(command[:3])}' failed ({last}): load {archive} into {context!r} by hand")


def _load_command(context: str, archive: Path) -> list[str]:
    if context.startswith("kind-"):
        return [str(program("kind")), "load", "image-archive", str(archive), "--name", context.removeprefix("kind-")]
    if context.startswith("k3d-"):
        return ["k3d", "image", "import", str(archive), "--cluster", context.removeprefix("k3d-")]
    if context == "minikube":
        return ["minikube", "image", "load", str(archive)]
    raise ClusterError(f"nothing is known of how images get into {context!r}: load {archive} there by hand")
