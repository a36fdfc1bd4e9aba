"""`python -m e2e.kill_container POD_UID`: SIGKILL, from the node, to the memory service of one pod.

From inside, a container's first process cannot be killed (the kernel ignores it); the kubelet's own kill is graceful.
The process is found by the pod's uid in its cgroup, so no other pod's can be hit.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

PROGRAM = b"/opt/soma/bin/soma"
PATIENCE_SECONDS = 30.0


def service_of(pod_uid: str) -> int | None:
    """The host's number of the pod's `soma serve`, or None while it is not running."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            in_pod = pod_uid in (entry / "cgroup").read_text()
            if in_pod and PROGRAM in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue  # it ended while we looked
    return None


def main(arguments: list[str]) -> int:
    """0 when a process was killed, 1 when none appeared in time, 2 for wrong arguments."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if (pid := service_of(arguments[0])) is not None:
            os.kill(pid, signal.SIGKILL)
            return 0
        time.sleep(0.05)
    print(f"no memory service runs in pod {arguments[0]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
