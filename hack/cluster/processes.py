"""Processes by identity, not by number.

A pid counts only with its start time, so that no stranger is ever signalled.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError

MARK = "SOMA_CLUSTER_ROOT"  # in the environment of all that a cluster starts on the host: its folder
_PROC = Path("/proc")
_EXEC_SECONDS = 2.0  # far longer than an execve takes, also on a busy machine
_FLAGS, _ENV_END = 6, 48  # places in what follows the command's name in /proc/PID/stat
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD


@dataclass(frozen=True, slots=True)
class Process:
    """One process, for as long as it lives."""

    pid: int
    start_time: str  # clock ticks since boot, as /proc tells it

    def alive(self) -> bool:
        """Whether this very process still runs. A zombie does not."""
        return start_time(self.pid) == self.start_time and _state(self.pid) not in {"Z", "X", ""}

    def signal(self, number: int) -> None:
        """Signals this process and never a later one with its number.

        The pidfd is bound first, then the start time checked.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)


def boot_id() -> str:
    """Identity of this boot of the machine: pids and start times of another one mean nothing."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise ClusterError(
            "local clusters need Linux with /proc mounted: run this on a Linux machine, or use CLUSTER=current"
        ) from error


def _stat(pid: int) -> list[str]:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # the command's name in parentheses may hold blanks


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def start_time(pid: int) -> str | None:
    """Start time of a process, None where there is none."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else None


def children(pid: int) -> list[int]:
    """Pids of a process's children."""
    return [other for other in all_pids() if _stat(other)[1:2] == [str(pid)]]


def identify(pid: int) -> Process | None:
    """The process that has this number now."""
    started = start_time(pid)
    return Process(pid, started) if started is not None else None


def all_pids() -> list[int]:
    """Every process on the machine."""
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]


def marked(root: Path) -> list[Process]:
    """Processes that carry a cluster's mark.

    They are found even if the tool died before it could write their numbers down.
    """
    mark = f"{MARK}={root}".encode()
    found = []
    for pid in all_pids():
        process = identify(pid) if mark in _environment(pid) else None
        if process is not None and process.alive():
            found.append(process)
    return found


def _environment(pid: int) -> list[bytes]:
    """What a process was started with; nothing for one that is gone or that belongs to the kernel.

    A process that is inside execve has an empty `environ` for a moment: its parent may run on already, but the kernel
    has not yet put the new environment in its place. It is asked again until it has one.
    """
    deadline = time.monotonic() + _EXEC_SECONDS
    while True:
        try:
            text = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return []
        if text or not _is_inside_execve(pid) or time.monotonic() > deadline:
            return text.split(b"\0")
        time.sleep(0.001)


def _is_inside_execve(pid: int) -> bool:
    """Whether a process has memory, but no environment's end yet (fields 9, 23 and 51 of proc_pid_stat(5))."""
    fields = _stat(pid)
    if len(fields) <= _ENV_END or fields[0] in {"Z", "X"}:
        return False
    return not int(fields[_FLAGS]) & _KERNEL_THREAD and fields[_ENV_END] == "0"


def stop(processes: Iterable[Process], *, grace: float) -> list[Process]:
    """SIGTERM, then SIGKILL after `grace` seconds. Returns those that live even so (in uninterruptible sleep)."""
    remaining = list(processes)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        for process in remaining:
            process.signal(number)
        deadline = time.monotonic() + patience
        while remaining and time.monotonic() < deadline:
            remaining = [process for process in remaining if process.alive()]
            time.sleep(0.02)
    return remaining


def pid_inside(pid: int) -> int:
    """The number that a process has in the innermost PID namespace that it lives in; 0 if it is gone."""
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[-1]) for line in lines if line.startswith("NSpid:")), pid)
