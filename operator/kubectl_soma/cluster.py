"""The API server, reached by the kubectl program: it knows every way to log in, and we need not."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
GROUP = "memory.somatech.dev"
MEMORY_LABEL = f"{GROUP}/memory"
_SECONDS = 60.0


class PluginError(Exception):
    """What a person must know, in one line: what failed, and the remedy."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One namespace of one cluster.

    Attributes:
        flags: kubectl's own flags that say which cluster and as whom (`--context`, `--kubeconfig`, …).
        namespace: where names are looked up.
    """

    flags: tuple[str, ...]
    namespace: str
    program: str = "kubectl"

    def command(self, *arguments: str) -> list[str]:
        """The whole command line, for those who start the process themselves."""
        return [self.program, *self.flags, f"--namespace={self.namespace}", *arguments]

    def run(self, *arguments: str, given: str | None = None, seconds: float = _SECONDS) -> str:
        """Runs kubectl and returns its standard output. Raises PluginError with kubectl's own words."""
        try:
            done = subprocess.run(
                self.command(*arguments), input=given, capture_output=True, text=True, timeout=seconds, check=False
            )
        except FileNotFoundError:
            raise PluginError(f"{self.program} is not on the PATH: install kubectl") from None
        except subprocess.TimeoutExpired:
            raise PluginError(
                f"kubectl {arguments[0]} did not end within {seconds:.0f} s: is the API server reachable?"
            ) from None
        if done.returncode != 0:
            raise PluginError(_reason(done.stderr) or f"kubectl {arguments[0]} ended with status {done.returncode}")
        return done.stdout

    def get(self, *arguments: str) -> Body:
        """One object, or a List, as JSON. Raises PluginError, also where there is none."""
        parsed: Body = json.loads(self.run("get", *arguments, "--output=json"))
        return parsed

    def find(self, *arguments: str) -> Body | None:
        """One object; None where there is none."""
        text = self.run("get", *arguments, "--ignore-not-found", "--output=json")
        return json.loads(text) if text.strip() else None

    def items(self, *arguments: str) -> list[Body]:
        """The objects of a list; empty where the kind is not served, or may not be read."""
        try:
            found: list[Body] = self.get(*arguments).get("items") or []
        except PluginError as error:
            if _is_absent(str(error)):
                return []
            raise
        return found

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> None:
        """A merge patch."""
        self.run("patch", kind, name, "--type=merge", f"--patch={json.dumps(change)}")

    def memory(self, name: str) -> Body:
        """The SomaMemory of that name. Raises PluginError that lists those that there are."""
        found = self.find("somamemory", name, "--show-managed-fields")
        if found is not None:
            return found
        others = [str(one["metadata"]["name"]) for one in self.items("somamemory")]
        there = f"there are: {', '.join(others)}" if others else "there is none at all; name another with --namespace"
        raise PluginError(f"no SomaMemory {name!r} in namespace {self.namespace!r}: {there}")


def connect(flags: Sequence[str], namespace: str | None) -> Cluster:
    """The cluster and namespace that the flags name; kubectl's own defaults for what they leave out."""
    if shutil.which("kubectl") is None:
        raise PluginError("kubectl is not on the PATH: install it, then run this again")
    chosen = Cluster(tuple(flags), namespace or "default")
    if namespace is None:
        current = chosen.run("config", "view", "--minify", "--output=jsonpath={..namespace}").strip()
        chosen = Cluster(tuple(flags), current or "default")
    return chosen


def _is_absent(words: str) -> bool:
    return "the server doesn't have a resource type" in words or "(Forbidden)" in words or "is forbidden" in words


def _reason(text: str) -> str:
    lines = [
        line for line in text.strip().splitlines() if line and not line.startswith(("E0", "E1", "W0", "W1", "I0", "I1"))
    ]
    return " ".join(lines).removeprefix("Error from server ").removeprefix("error: ")
