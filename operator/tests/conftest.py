"""What the unit and the integration tests of the operator share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Violation:
    """A spec, or a change of one, that must be refused. See data/violations.yaml."""

    case: str
    kind: str
    spec: dict[str, Any]
    says: str
    before: dict[str, Any] | None = None
    name: str = ""

    def body(self, spec: dict[str, Any] | None = None) -> dict[str, Any]:
        """The resource with `spec`, or with the one to be refused."""
        return {
            "apiVersion": "memory.somatech.dev/v1alpha1",
            "kind": self.kind,
            "metadata": {"name": self.name or "m-" + hashlib.sha256(self.case.encode()).hexdigest()[:12]},
            "spec": self.spec if spec is None else spec,
        }


def _violations() -> list[Violation]:
    return [Violation(**entry) for entry in yaml.safe_load((DATA / "violations.yaml").read_text(encoding="utf-8"))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `violation` runs for each; `refused_spec` leaves changes out; `violations` is the list."""

    def each(argument: str, chosen: list[Violation]) -> None:
        metafunc.parametrize(argument, chosen, ids=[violation.case.replace(" ", "-") for violation in chosen])

    if "violation" in metafunc.fixturenames:
        each("violation", _violations())
    if "refused_spec" in metafunc.fixturenames:
        each("refused_spec", [violation for violation in _violations() if violation.before is None])
    if "violations" in metafunc.fixturenames:
        metafunc.parametrize("violations", [_violations()], ids=["all"])
