"""Narrows a universal lock file down to the packages that one Python on one processor needs.

`pip download --python-version` evaluates environment markers for the interpreter that runs it, not for the one asked
for, so a lock with both `numpy==… ; python < "3.12"` and `numpy==… ; python >= "3.12"` must be resolved before pip
sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from hack.images.layout import Target


def narrowed(lock: Path, target: Target) -> str:
    """The lock's entries whose marker holds on `target`, without markers and comments; hashes are kept, order too."""
    return "".join(f"{requirement} {hashes}\n" for requirement, hashes in _entries(lock, target))


def pinned(lock: Path, target: Target) -> dict[str, str]:
    """Package name → version of what `narrowed` keeps."""
    return dict(requirement.split("==", 1) for requirement, _ in _entries(lock, target))


def _entries(lock: Path, target: Target) -> Iterator[tuple[str, str]]:
    environment = {
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
        "platform_machine": target.machine,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    for entry in "\n".join(lines).replace("\\\n", " ").splitlines():
        specification, *hashes = entry.split(" --hash=")
        if not specification.strip():
            continue
        requirement = Requirement(specification.strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield f"{requirement.name}{requirement.specifier}", " ".join(f"--hash={one.strip()}" for one in hashes)
