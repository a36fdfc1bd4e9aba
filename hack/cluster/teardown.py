"""Removes what a cluster made: by its journal and its mark, and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from hack.cluster import journal as journals
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.kind import Kind
from hack.cluster.layout import Layout
from hack.cluster.native import supervisor
from hack.cluster.processes import marked, stop

_GRACE_SECONDS = 3.0  # the supervisor kills its components at once; more would only wait for what is stuck


def remove(place: Layout) -> None:
    """Stops every process of a cluster, then removes its cgroups and its folder. Safe to repeat, also after a crash."""
    stop_all(place)
    _refuse_mounts(place.root)
    if place.root.exists():
        shutil.rmtree(place.root)


def stop_all(place: Layout) -> None:
    """Ends what runs of a cluster and removes its cgroups, but leaves its folder with the logs."""
    journal = journals.load(place.state)
    if journal is None:
        return
    if journal.provider == "kind":
        Kind().remove(place.name)
    elif journal.provider == "native":
        _stop_processes(place, journal)
        for cgroup in reversed(journal.cgroups):
            _remove_cgroup(Path(cgroup))


def _stop_processes(place: Layout, journal: Journal) -> None:
    """The supervisor first.

    With it the kernel ends all that runs in its namespaces. Then whatever still carries the mark.
    """
    known = supervisor(journal)
    remaining = stop([known], grace=_GRACE_SECONDS) if known else []
    deadline = time.monotonic() + 30
    while found := marked(place.root):
        remaining = stop(found, grace=0)
        if remaining and time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in remaining)
            raise ClusterError(
                f"processes {pids} of cluster {place.name!r} cannot be killed (are they waiting for a device?): run "
                "'down' again later"
            )


def _remove_cgroup(path: Path) -> None:
    """Leaves first. Processes that are just dying keep a cgroup busy for a moment."""
    deadline = time.monotonic() + 10
    while path.is_dir():
        for folder, _, _ in os.walk(path, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                continue
        if path.is_dir() and time.monotonic() > deadline:
            raise ClusterError(f"the cgroup {path} is still in use: see its cgroup.procs, then run 'down' again")
        time.sleep(0.02)


def _refuse_mounts(root: Path) -> None:
    """A cluster's mounts live in its own namespace.

    One that is seen out here is somebody's, and rmtree would empty it.
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount_point = line.split()[4]
        if mount_point == str(root) or mount_point.startswith(f"{root}/"):
            raise ClusterError(f"{mount_point} is a mount that no cluster made: unmount it, then run 'down' again")
