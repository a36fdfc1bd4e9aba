"""kubectl with a cluster's own kubeconfig: the one client that the tool itself uses."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hack.cluster import runner
from hack.cluster.errors import ClusterError
from hack.cluster.layout import Layout

_PARTS = 4


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl for one cluster."""

    program: Path
    place: Layout
    runner: runner.Run = runner.run

    def run(self, *arguments: str, given: str | None = None) -> str:
        """Runs one command, with `given` as its standard input, and returns its output. Raises ClusterError."""
        done = self.runner([str(self.program), f"--kubeconfig={self.place.kubeconfig}", *arguments], given)
        if done.status != 0:
            raise ClusterError(
                f"'kubectl {arguments[0]}' failed in the cluster {self.place.name!r} ({done.error.strip()}): "
                f"its logs are in {self.place.logs}"
            )
        return done.output

    def apply(self, objects: dict[str, Any]) -> None:
        """Applies an object or a List."""
        self.run("apply", "--filename", "-", given=json.dumps(objects))

    def create(self, objects: list[dict[str, Any]]) -> None:
        """Creates many objects, by several kubectls at once, as each throttles itself."""
        parts = [part for part in (objects[offset::_PARTS] for offset in range(_PARTS)) if part]
        with ThreadPoolExecutor(max_workers=_PARTS) as pool:
            for _ in pool.map(self._create, parts):
                pass  # taking the results raises what a thread raised

    def _create(self, objects: list[dict[str, Any]]) -> None:
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.run("create", "--validate=false", "--filename", "-", given=given)

    def answers(self) -> bool:
        """Whether the API server says that it is ready."""
        command = [str(self.program), f"--kubeconfig={self.place.kubeconfig}", "--request-timeout=5s"]
        return self.runner([*command, "get", "--raw", "/readyz"], None).status == 0
