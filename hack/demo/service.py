"""The memory under demonstration: its resource through kubectl, its API through a port-forward."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from hack.demo.conversation import Conversation, Turn
from hack.demo.errors import DemoError
from hack.demo.screen import Row
from hack.kube import Kubectl

HTTP_PORT = 9595
BATCH = 50


@dataclass(frozen=True, slots=True)
class Hit:
    """A recalled memory with the factors of its score, as the service explains them."""

    key: str
    text: str
    when: float
    score: float
    factors: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One SomaMemory, and what belongs to it."""

    kubectl: Kubectl
    name: str

    def read(self) -> dict[str, Any]:
        return self.kubectl.get("somamemory", self.name)

    def condition(self, kind: str) -> dict[str, Any]:
        """The condition of that type for the current generation, or an empty one."""
        found = self.read()
        conditions = found.get("status", {}).get("conditions", [])
        current = found["metadata"]["generation"]
        matching = (one for one in conditions if one["type"] == kind and one.get("observedGeneration") == current)
        return next(matching, {})

    def is_true(self, kind: str) -> bool:
        return self.condition(kind).get("status") == "True"

    def pods(self) -> list[dict[str, Any]]:
        items = self.kubectl.get("pods", "-l", f"memory.somatech.dev/memory={self.name}")["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def rows(self) -> list[Row]:
        """Conditions and pods, for the live view."""
        conditions = self.read().get("status", {}).get("conditions", [])
        rows = [("condition", str(one["type"]), f"{one['status']} ({one['reason']})") for one in conditions]
        items = self.kubectl.get("pods", "-l", f"memory.somatech.dev/memory={self.name}")["items"]
        return rows + [("pod", str(pod["metadata"]["name"]), _pod_state(pod)) for pod in items]

    def token(self) -> str:
        secret = self.kubectl.get("secret", f"{self.name}-token")
        return base64.b64decode(secret["data"]["token"]).decode()

    @contextmanager
    def api(self, scope: str) -> Iterator[Api]:
        """The HTTP API in the memory namespace `scope`, by the Service, from the host's loopback."""
        with self.kubectl.port_forward(f"service/{self.name}", HTTP_PORT) as port:
            headers = {"Authorization": f"Bearer {self.token()}", "X-Soma-Namespace": scope}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60.0) as client:
                yield Api(client)


def _pod_state(pod: dict[str, Any]) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    statuses = pod["status"].get("containerStatuses") or []
    waiting = [one["state"]["waiting"]["reason"] for one in statuses if "waiting" in one.get("state", {})]
    ready = bool(statuses) and all(one["ready"] for one in statuses)
    return waiting[0] if waiting else f"{pod['status']['phase']}{', ready' if ready else ', not ready'}"


@dataclass(frozen=True, slots=True)
class Api:
    """The routes that the demo uses. Every answer that is not 2xx is a DemoError with the service's own words."""

    client: httpx.Client

    def stats(self) -> dict[str, Any]:
        return self._ask("GET", "/stats", None)

    def store(self, turns: Sequence[Turn]) -> None:
        items = [
            {"coord": turn.coordinate, "payload": {"text": turn.text, "turn": turn.key}, "type": "episodic"}
            | {"timestamp": turn.when, "pinned": turn.pinned}
            for turn in turns
        ]
        self._ask("POST", "/store_bulk", {"items": items})

    def recall(self, query: str, half_life: str, as_of: float, top_k: int) -> list[Hit]:
        """Best first, with `hybrid` off: what is shown is the formula alone."""
        body = {
            "query": query,
            "top_k": top_k,
            "half_life": half_life,
            "as_of": as_of,
            "explain": True,
            "hybrid": False,
        }
        found = self._ask("POST", "/recall_with_scores", body)["results"]
        return [
            Hit(
                key=str(one["payload"].get("turn", "")),
                text=str(one["payload"]["text"]),
                when=as_of - float(one["explanation"]["age_seconds"]),
                score=float(one["score"]),
                factors=dict(one["explanation"]),
            )
            for one in found
        ]

    def _ask(self, method: str, path: str, body: Any) -> dict[str, Any]:
        try:
            reply = self.client.request(method, path, json=body)
            answer: Any = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise DemoError(f"{method} {path}: no answer from the memory ({error})") from error
        if reply.status_code >= 300 or not isinstance(answer, dict):
            detail = answer.get("detail", answer) if isinstance(answer, dict) else answer
            remedy = str(answer.get("remedy") or "") if isinstance(answer, dict) else ""
            raise DemoError(f"{method} {path}: {reply.status_code}: {detail}", remedy)
        return answer


def batches(conversation: Conversation) -> Iterator[tuple[Turn, ...]]:
    for start in range(0, len(conversation.turns), BATCH):
        yield conversation.turns[start : start + BATCH]


def day(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%d %b %Y")
