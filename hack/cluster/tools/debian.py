"""Debian packages that a tool or a node needs, installed by apt where we are root, else named for whoever is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.tools.progress import say
from hack.cluster.tools.store import cache_root, exclusive

# What a package is wanted for, so that a system that has it by another name needs no Debian: a program, or a file.
_PROBES = {
    "containernetworking-plugins": ("/usr/lib/cni/ptp", "/opt/cni/bin/ptp", "/usr/libexec/cni/ptp"),
    "gcc": ("gcc",),
    "iproute2": ("ip",),
    "iptables": ("iptables",),
    "libseccomp-dev": ("/usr/include/seccomp.h",),
    "mount": ("mount",),
    "pkg-config": ("pkg-config",),
    "util-linux": ("nsenter", "unshare"),
}


def installed(package: str) -> bool:
    """Whether what the package is wanted for is here, or dpkg has the package configured."""
    if any(
        Path(probe).exists() if probe.startswith("/") else shutil.which(probe) for probe in _PROBES.get(package, ())
    ):
        return True
    if shutil.which("dpkg-query") is None:
        return False
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def require(packages: tuple[str, ...], purpose: str) -> None:
    """Installs what is absent. ClusterError where that needs root or a Debian that is not here."""
    if all(installed(package) for package in packages):
        return
    with exclusive(cache_root() / "apt.lock"):
        absent = [package for package in packages if not installed(package)]
        if absent:
            _install(absent, purpose)


def _install(absent: list[str], purpose: str) -> None:
    names = " ".join(absent)
    if shutil.which("apt-get") is None:
        raise ClusterError(f"{purpose} needs what Debian calls {names}: install it with this system's package manager")
    if os.geteuid() != 0:
        raise ClusterError(f"{purpose} needs Debian packages that are absent: run as root 'apt-get install {names}'")
    say(f"Installing Debian packages for {purpose}: {names}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *absent]
    # The lists may be absent or old on a new machine; a first try without them spares a minute where they are fresh.
    for command in (install, ["apt-get", "update", "-o", "DPkg::Lock::Timeout=300"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if command is install and done.returncode == 0:
            return
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise ClusterError(f"apt-get could not install {names} ({last}): install them by hand, then run this again")
