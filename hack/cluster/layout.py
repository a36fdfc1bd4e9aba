"""Where a cluster keeps its things: one folder a cluster under the cache, named before anything is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.tools import cache_root

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of the cluster `name`. Everything below `root` is the cluster's own and goes with it."""

    name: str
    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        """Beside the folder, as it outlives it."""
        return self.root.parent / f".{self.name}.lock"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def report(self) -> Path:
        """What the supervisor tells of its components."""
        return self.root / "components.json"

    @property
    def data(self) -> Path:
        """Databases, containers and volumes of the cluster."""
        return self.root / "data"

    @property
    def config(self) -> Path:
        """Configuration files of the components."""
        return self.root / "config"


def clusters_root() -> Path:
    """The folder that holds all clusters of this cache."""
    return cache_root() / "clusters"


def layout(name: str) -> Layout:
    """The layout of a cluster.

    ClusterError for a name that could not be a folder's, a node's and a cgroup's at once.
    """
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"--name {name!r} is no cluster name: use at most 32 lower-case letters, digits and dashes, beginning and "
            "ending with no dash"
        )
    return Layout(name, clusters_root() / name)


def known() -> list[Layout]:
    """Every cluster that left a trace in the cache, running or not."""
    root = clusters_root()
    if not root.is_dir():
        return []
    return [Layout(path.name, path) for path in sorted(root.iterdir()) if path.is_dir() and _NAME.fullmatch(path.name)]
