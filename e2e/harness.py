"""How the end-to-end tests speak to one SomaMemory: its status through kubectl, its API through a port-forward."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from hack.kube import Kubectl, wait_until

READY_TIMEOUT = 120.0


@dataclass(frozen=True)
class Memory:
    """One SomaMemory under test, and how to talk to it."""

    kubectl: Kubectl
    name: str

    def resource(self) -> dict[str, Any]:
        return self.kubectl.get("somamemory", self.name)

    def condition(self, kind: str) -> dict[str, Any]:
        """The condition of that type, or an empty one."""
        conditions = self.resource().get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def await_condition(
        self, kind: str, status: str, *, reason: str | None = None, timeout: float = READY_TIMEOUT
    ) -> dict[str, Any]:
        def check() -> dict[str, Any] | None:
            found = self.condition(kind)
            current = found.get("observedGeneration") == self.resource()["metadata"]["generation"]
            matches = found.get("status") == status and (reason is None or found.get("reason") == reason)
            return found if matches and current else None

        try:
            return wait_until(check, f"{self.name}: {kind}={status} {reason or ''}", timeout=timeout)
        except TimeoutError:
            print(self.kubectl("describe", "somamemory", self.name))
            print(self.kubectl("describe", "pods"))
            raise

    def token(self) -> str:
        secret = self.kubectl.get("secret", f"{self.name}-token")
        return base64.b64decode(secret["data"]["token"]).decode()

    def pod(self) -> dict[str, Any] | None:
        """The one running pod that is not being deleted."""
        pods = self.kubectl.get("pods", "-l", f"memory.somatech.dev/memory={self.name}")["items"]
        alive = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
        return alive[0] if alive else None

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of one component that are ready and not being deleted."""
        labels = f"memory.somatech.dev/memory={self.name},app.kubernetes.io/component={component}"
        found = self.kubectl.get("pods", "-l", labels)["items"]
        return [p for p in found if "deletionTimestamp" not in p["metadata"] and _is_ready(p)]

    @contextmanager
    def client(self, target: str = "") -> Iterator[httpx.Client]:
        """An HTTP client with the bearer token, through a port-forward to the Service, or to `target` (``pod/x``)."""
        with self.kubectl.port_forward(target or f"service/{self.name}", 9595) as port:
            headers = {"Authorization": f"Bearer {self.token()}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
                yield client


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
