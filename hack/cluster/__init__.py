"""Real local Kubernetes clusters with nothing but package registries: see docs/local-cluster.md.

Lives here: the profiles (`api`, `node`, `kwok`), what each component is started with, the journal of what was made on
this machine, and teardown by it. Imports the standard library only, and nothing of the operator or the runtime: it must
work before anything is installed.
"""

from __future__ import annotations

from hack.cluster.errors import ClusterError
from hack.cluster.lifecycle import Cluster, down, find, up
from hack.cluster.profiles import Options

__all__ = ["Cluster", "ClusterError", "Options", "down", "find", "up"]
