"""The supervisor's plan as values: which programs run, with which arguments, after what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Component:
    """One program of a cluster.

    It starts when every address in `wait_for` answers (unix:PATH, tcp:HOST:PORT, https:HOST:PORT/PATH).
    """

    name: str
    argv: tuple[str, ...]
    wait_for: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one supervisor does; see hack/gomod/groundwork/supervise."""

    components: tuple[Component, ...]
    ca: Path
    report: Path
    logs: Path
    namespaces: bool = False
    forwards: tuple[tuple[str, str], ...] = ()  # (address on the host, address inside)
    setup: tuple[tuple[str, ...], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The plan as the supervisor reads it."""
        return {
            "namespaces": self.namespaces,
            "ca": str(self.ca),
            "report": str(self.report),
            "forwards": [{"listen": outside, "to": inside} for outside, inside in self.forwards],
            "setup": [list(command) for command in self.setup],
            "components": [
                {
                    "name": component.name,
                    "argv": list(component.argv),
                    "env": component.env,
                    "waitFor": list(component.wait_for),
                    "log": str(self.logs / f"{component.name}.log"),
                }
                for component in self.components
            ],
        }
