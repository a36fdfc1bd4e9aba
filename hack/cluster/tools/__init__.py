"""Builds the programs that a cluster is made of, once per version, into the cache.

Lives here: the recipes (what is built from which Go modules), the Go toolchain, Debian packages, the store of finished
tools with its locks, and the progress that a person sees. May import `hack.cluster.errors` only: nothing here knows
what a cluster is.
"""

from __future__ import annotations

from hack.cluster.tools.build import ensure, ensure_all, program
from hack.cluster.tools.store import cache_root, exclusive, write_atomically

__all__ = ["cache_root", "ensure", "ensure_all", "exclusive", "program", "write_atomically"]
