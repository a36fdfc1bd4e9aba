"""What the live client of the service we replace sends and how it reads answers, as facts of the wire.

It reads tolerantly, and fails silently: a shape that it does not know is an empty list or a lost link to its caller.
So each method here asserts nothing and gives what that client would have understood.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import httpx

Coord = tuple[float, ...]


def stable_coord(universe: str, key: str) -> Coord:
    """Three numbers in [-1, 1) made of the key: where that client stores it."""
    digest = hashlib.blake2b(f"{universe}::{key}".encode(), digest_size=12).digest()
    return tuple(2 * (int.from_bytes(digest[at : at + 4], "big") / 2**32) - 1 for at in (0, 4, 8))


def text_of(coord: Coord) -> str:
    return ",".join(str(one) for one in coord)


def coord_of(text: str) -> Coord:
    return tuple(float(one) for one in text.split(","))


class LiveClient:
    """One tenant's client; every request has the token three times."""

    def __init__(self, url: str, token: str, namespace: str) -> None:
        """`namespace` is `namespace:tenant`; the tenant is sent beside it, too."""
        self.tenant = namespace.rpartition(":")[2]
        headers = {"Authorization": f"Bearer {token}", "X-API-Key": token, "X-Auth-Token": token}
        headers |= {"X-Soma-Namespace": namespace, "X-Soma-Tenant": self.tenant}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=10.0)
        self.universe = "real"

    def enriched(self, key: str, payload: dict[str, Any]) -> dict[str, Any]:
        """The payload with the fields that it adds before it stores."""
        text = str(payload.get("task") or payload.get("text") or key)
        added = {"text": text, "content": text, "id": key, "universe": self.universe, "tenant": self.tenant}
        return {**added, "timestamp": 1_760_000_000.5, **payload}

    def remember(self, key: str, payload: dict[str, Any], request_id: str | None = None) -> Coord | None:
        """The coordinate in the answer, or None where the store failed."""
        coord = stable_coord(self.universe, key)
        body = {"coord": text_of(coord), "payload": self.enriched(key, payload), "memory_type": "episodic"}
        headers = {"X-Request-ID": request_id or str(uuid.uuid4()), "X-Universe": self.universe}
        answer = self.http.post("/memories", json=body, headers=headers)
        if answer.status_code >= 300:
            return None
        said = answer.json().get("coord")
        return coord_of(said) if isinstance(said, str) else None

    def search(self, query: str, top_k: int, filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Payloads with `_score`, best first; empty where the answer cannot be read."""
        body: dict[str, Any] = {"query": query, "top_k": max(5 * top_k, 50)}
        if filters is not None:
            body["filters"] = filters
        answer = self.http.post("/memories/search", json=body, headers={"X-Request-ID": str(uuid.uuid4())})
        if answer.status_code >= 300:
            return []
        found = next(
            (answer.json()[name] for name in ("matches", "results", "memories") if name in answer.json()),
            [],
        )
        hits = []
        for item in found:
            payload = item.get("payload")
            if isinstance(payload, dict) and str(payload.get("universe") or self.universe) == self.universe:
                hits.append(payload | {"_score": float(item["score"]), "coordinate": tuple(item["coordinate"])})
        return hits[:top_k]

    def fetch(self, coord: Coord) -> dict[str, Any] | None:
        answer = self.http.get(f"/memories/{text_of(coord)}")
        memory = answer.json().get("memory") if answer.status_code == 200 else None
        return memory if isinstance(memory, dict) else None

    def forget(self, coord: Coord) -> bool:
        answer = self.http.delete(f"/memories/{text_of(coord)}")
        return answer.status_code == 200 and bool(answer.json().get("deleted"))

    def payloads(self, coords: list[Coord]) -> list[dict[str, Any]]:
        body = {"coords": [text_of(one) for one in coords], "universe": self.universe}
        answer = self.http.post("/payloads", json=body)
        data = answer.json() if answer.status_code == 200 else {}
        return [one for one in data.get("payloads") or data.get("results") or [] if isinstance(one, dict)]

    def link(
        self, source: Coord, target: Coord, link_type: str = "related", strength: float = 1.0, **meta: Any
    ) -> bool:
        """False where it would have queued the link to be sent again for ever."""
        body: dict[str, Any] = {"from_coord": text_of(source), "to_coord": text_of(target)}
        body |= {"link_type": link_type, "strength": strength}
        if meta:
            body["metadata"] = meta
        return self.http.post("/graph/link", json=body).status_code == 200

    def neighbors(self, coord: Coord, k_hop: int = 1, limit: int = 10) -> list[tuple[Coord, str, float, Any]]:
        """Neighbours whose `coord` it can read: text only; a list makes it drop the whole answer."""
        answer = self.http.get("/graph/neighbors", params={"coord": text_of(coord), "k_hop": k_hop, "limit": limit})
        found = []
        for one in answer.json().get("neighbors", []) if answer.status_code == 200 else []:
            said = one.get("coord", one.get("coordinate", ""))
            if not isinstance(said, str):
                return []
            found.append((coord_of(said), one.get("link_type"), float(one.get("strength", 1.0)), one.get("metadata")))
        return found

    def path(self, source: Coord, target: Coord, max_length: int = 10) -> list[Coord]:
        ask = {"from_coord": text_of(source), "to_coord": text_of(target), "max_length": max_length}
        data = self.http.get("/graph/path", params=ask).json()
        return [coord_of(one) for one in data.get("path", [])] if data.get("found") else []

    def health(self) -> dict[str, bool]:
        """The parts as it reads them: from `services` by the names of the old stores, where that is a list."""
        data = self.http.get("/health").json()
        if isinstance(data.get("services"), list):
            by_name = {one["name"]: one["healthy"] for one in data["services"]}
            names = {"kv_store": "redis", "vector_store": "milvus", "graph_store": "postgresql"}
            return {part: bool(by_name.get(name, False)) for part, name in names.items()}
        return {part: bool(data.get(part)) for part in ("kv_store", "vector_store", "graph_store")}
