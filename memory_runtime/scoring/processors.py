"""How many processors this process may keep busy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


def available(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """Processors of the affinity mask, bounded by the CPU quota of the control group (v1 or v2): at least one.

    A container's `resources.limits.cpu` is such a quota. More threads than it allows would not be quicker: they use the
    period's time up together, and all of them, requests too, then stand still until the next period.
    """
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([visible, *(int(quota) for quota in _quotas(groups, own))]))


def _quotas(groups: Path, own: Path) -> Iterator[float]:
    """In processors, of the group and all above it. The path in `own` is the host's where the container sees its own
    group as the root: what does not exist is passed over.
    """
    for folder in _folders(groups, own):
        # v2 has one file, v1 two; -1 and "max" mean without a bound
        words = [
            *_words(folder / "cpu.max"),
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            yield int(words[0]) / int(words[1])


def _folders(groups: Path, own: Path) -> Iterator[Path]:
    for line in _lines(own):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for root in (groups / controllers, groups / "cpu", groups) if controllers else (groups, groups / "unified"):
            folder = root / path.strip("/")
            yield from (one for one in (folder, *folder.parents) if one == root or root in one.parents)


def _words(path: Path) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
