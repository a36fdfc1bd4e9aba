"""What a cluster made on this machine, written down before it is made: teardown trusts this file and nothing else."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hack.cluster.errors import ClusterError
from hack.cluster.processes import boot_id
from hack.cluster.tools import write_atomically


@dataclass(slots=True)
class Journal:
    """State of one cluster on disk. Every `note_…` is saved before it returns."""

    path: Path
    name: str
    profile: str
    provider: str = "native"  # or "kind"
    boot: str = field(default_factory=boot_id)
    ports: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    # The supervisor. Between "starting" and a pid that is known, its environment's mark identifies it.
    supervisor: dict[str, Any] = field(default_factory=dict)
    cgroups: list[str] = field(default_factory=list)
    ready: bool = False

    def note_supervisor(self, pid: int | None = None, start_time: str | None = None) -> None:
        """First call, without a pid: about to start. Second: it is this process."""
        self.supervisor = {"pid": pid, "startTime": start_time}
        self.save()

    def note_cgroup(self, path: Path) -> None:
        """About to make this cgroup."""
        self.cgroups.append(str(path))
        self.save()

    def note_ready(self) -> None:
        """Everything answered once."""
        self.ready = True
        self.save()

    def save(self) -> None:
        content = {key: value for key, value in asdict(self).items() if key != "path"}
        write_atomically(self.path, json.dumps(content, indent=2) + "\n")


def load(path: Path) -> Journal | None:
    """The journal of a cluster, or None where there is none."""
    try:
        content = json.loads(path.read_text())
        return Journal(path=path, **content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise ClusterError(
            f"{path} cannot be read ({error}): remove the folder {path.parent} after a look at what is in it"
        ) from error
