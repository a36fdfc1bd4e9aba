"""What the machine must be able to do to run a node, asked before anything is made; and a node's cgroups."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.tools import debian
from hack.cluster.tools.store import need_free_space

_DEBIAN = ("containernetworking-plugins", "iproute2", "iptables", "mount", "util-linux")
_HIDDEN = ("/run", "/var/run", "/var/lib", "/var/log", "/proc", "/sys")  # a node mounts its own over these
_CNI = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
_OTHERWISE = "the profile 'api' works without it (--profile api)"

# Each line: a shell command in fresh namespaces, and what its failure means. They run in this order, in one shell.
_CHECKS = (
    (
        "mount --make-rprivate / && mount -t proc proc /proc",
        "mount file systems in a namespace of its own (give it CAP_SYS_ADMIN)",
    ),
    (
        "ip link set lo up && ip link add soma0 type veth peer name soma1",
        "make veth interfaces (load the kernel module veth)",
    ),
    (
        "iptables --wait --table nat --list",
        "use iptables' nat table (load the kernel modules nf_tables and nft_compat, or ip_tables)",
    ),
    (
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "write /proc/sys/net (it is mounted read-only: run the container privileged)",
    ),
)


def need(cache: Path) -> None:
    """Raises ClusterError where a node cannot run here; installs the Debian packages that it needs."""
    if os.geteuid() != 0:
        raise ClusterError(
            f"a node needs root (namespaces, cgroups, mounts): run this with sudo, or note that {_OTHERWISE}"
        )
    for folder in _HIDDEN:
        if str(cache).startswith(folder + "/"):
            raise ClusterError(
                f"a node hides {folder} from its components, so the cache cannot be {cache}: name another folder in "
                "SOMA_CACHE"
            )
    need_free_space(cache, 3.0, "a node")
    debian.require(_DEBIAN, "the node")
    cni_plugins()
    _need_namespaces()
    cgroup_folders("probe")


def cni_plugins() -> Path:
    """The folder with the CNI plugins that a node uses. ClusterError where one is missing."""
    for folder in _CNI:
        if all((folder / plugin).exists() for plugin in ("host-local", "loopback", "portmap", "ptp")):
            return folder
    raise ClusterError(
        "the CNI plugins ptp, host-local, portmap and loopback are absent: install Debian's containernetworking-plugins"
    )


def _need_namespaces() -> None:
    steps = " && ".join(
        f"{{ {command} >/dev/null 2>&1 || exit {10 + number}; }}" for number, (command, _) in enumerate(_CHECKS)
    )
    check = ["unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "sh", "-c", steps]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    failed = done.returncode - 10
    cannot = (
        _CHECKS[failed][1]
        if 0 <= failed < len(_CHECKS)
        else "make namespaces (give it CAP_SYS_ADMIN, or run the container privileged)"
    )
    raise ClusterError(f"this machine cannot run a node, as it cannot {cannot}; {_OTHERWISE}")


def snapshotter(data: Path) -> str:
    """overlayfs where the data's file system can carry it, else containerd's plain copies."""
    folders = [data / "overlay-check" / name for name in ("lower", "upper", "work", "merged")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    lower, upper, work, merged = folders
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    command = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
    return "overlayfs" if subprocess.run(command, capture_output=True, check=False).returncode == 0 else "native"


def cgroup_folders(name: str) -> list[Path]:
    """The cgroup `soma-NAME` in every hierarchy that is mounted here: one on cgroup v2, one a controller on v1.

    ClusterError where none can be written.
    """
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = [Path(left.split()[4]) for left, right in mounts if right.split()[0] in {"cgroup", "cgroup2"}]
    writable = [point for point in dict.fromkeys(points) if os.access(point, os.W_OK) and not _read_only(point)]
    if not writable:
        raise ClusterError(
            f"no cgroup hierarchy is mounted writable: run the container privileged, or note that {_OTHERWISE}"
        )
    return [point / f"soma-{name}" for point in writable]


def _read_only(point: Path) -> bool:
    return bool(os.statvfs(point).f_flag & os.ST_RDONLY)


def make_cgroups(journal: Journal) -> None:
    """Makes the node's cgroups, each written down first; on v2, hands the controllers down to them."""
    for folder in cgroup_folders(journal.name):
        journal.note_cgroup(folder)
        try:
            folder.mkdir(exist_ok=True)
            _delegate(folder.parent)
        except OSError as error:
            raise ClusterError(
                f"the cgroup {folder} cannot be made ({error.strerror}): run the container privileged, or note that "
                f"{_OTHERWISE}"
            ) from error


def _delegate(parent: Path) -> None:
    """cgroup v2: a child has only the controllers that its parent hands down."""
    controllers = parent / "cgroup.controllers"
    if not controllers.exists():
        return
    wanted = {"cpu", "cpuset", "memory", "pids", "io", "hugetlb"} & set(controllers.read_text().split())
    handed_down = set((parent / "cgroup.subtree_control").read_text().split())
    if wanted - handed_down:
        (parent / "cgroup.subtree_control").write_text(" ".join(f"+{controller}" for controller in sorted(wanted)))
