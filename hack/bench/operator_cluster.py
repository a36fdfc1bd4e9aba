"""What the operator's benchmark does to a cluster: it creates objects, and notes when the watches tell of them."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

GROUP = "/apis/memory.somatech.dev/v1alpha1"
CHILDREN = {
    "serviceaccounts": "/api/v1",
    "configmaps": "/api/v1",
    "secrets": "/api/v1",
    "persistentvolumeclaims": "/api/v1",
    "services": "/api/v1",
    "deployments": "/apis/apps/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
}
"""What an embedded memory consists of: plural and the path of its API."""
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
_LABEL = "memory.somatech.dev/memory"


def client_for(kubeconfig: Path) -> httpx.AsyncClient:
    """A client with the administrator's certificate."""
    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    context = ssl.create_default_context(cadata=_text(cluster, "certificate-authority", kubeconfig.parent))
    with tempfile.TemporaryDirectory() as place:
        certificate, key = Path(place, "crt"), Path(place, "key")
        certificate.write_text(_text(user, "client-certificate", kubeconfig.parent), encoding="ascii")
        key.write_text(_text(user, "client-key", kubeconfig.parent), encoding="ascii")
        context.load_cert_chain(certificate, key)
    limits = httpx.Limits(max_connections=64)
    return httpx.AsyncClient(base_url=cluster["server"], verify=context, trust_env=False, timeout=60, limits=limits)


def _text(entry: Mapping[str, str], key: str, base: Path) -> str:
    if f"{key}-data" in entry:
        return base64.b64decode(entry[f"{key}-data"]).decode()
    return (base / entry[key]).read_text(encoding="ascii")


class Watcher:
    """Notes when each memory's children were first seen, and when it first said Ready."""

    def __init__(self, client: httpx.AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._tasks: list[asyncio.Task[None]] = []
        self.children: dict[str, dict[str, float]] = defaultdict(dict)
        """By memory: when each child was first seen (seconds of time.monotonic)."""
        self.ready: dict[str, float] = {}
        """By memory: when it was first seen Ready for its generation."""

    def start(self) -> None:
        """One stream a kind."""
        for plural, api in CHILDREN.items():
            query = {"labelSelector": _LABEL}
            self._tasks.append(asyncio.create_task(self._watch(f"{api}/namespaces/{self._namespace}/{plural}", query)))
        self._tasks.append(asyncio.create_task(self._watch(f"{GROUP}/namespaces/{self._namespace}/somamemories", {})))

    async def stop(self) -> None:
        """Ends the streams."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, path: str, query: Mapping[str, str]) -> None:
        parents = path.endswith("/somamemories")
        headers = {} if parents else {"Accept": _METADATA_ONLY}
        while True:
            parameters = {**query, "watch": "1", "timeoutSeconds": "3600"}
            async with self._client.stream("GET", path, params=parameters, headers=headers, timeout=None) as stream:
                if stream.status_code != httpx.codes.OK:  # a kind that was established a moment ago
                    await asyncio.sleep(0.2)
                    continue
                async for line in stream.aiter_lines():
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        (self._saw_parent if parents else self._saw_child)(event["object"], path.rpartition("/")[2])

    def _saw_child(self, body: Mapping[str, Any], plural: str) -> None:
        memory = body["metadata"]["labels"][_LABEL]
        self.children[memory].setdefault(f"{plural}/{body['metadata']['name']}", time.monotonic())

    def _saw_parent(self, body: Mapping[str, Any], _: str) -> None:
        for one in (body.get("status") or {}).get("conditions") or ():
            if one["type"] == "Ready" and one["status"] == "True":
                self.ready.setdefault(body["metadata"]["name"], time.monotonic())


class Load:
    """Creates memories, and volumes for their claims: kwok's nodes have no provisioner."""

    def __init__(self, client: httpx.AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def volumes(self, count: int, first: int) -> None:
        """So many PersistentVolumes that any claim of ours may bind."""
        await self._each([self._volume(number) for number in range(first, first + count)], "/api/v1/persistentvolumes")

    async def memories(self, names: list[str]) -> dict[str, float]:
        """Creates them, as fast as the API server takes them; by name, when it had answered."""
        created: dict[str, float] = {}
        bodies = [memory_body(name) for name in names]
        await self._each(bodies, f"{GROUP}/namespaces/{self._namespace}/somamemories", created)
        return created

    async def touch(self, plural: str, names: list[str], stamp: str) -> None:
        """An annotation by somebody else on objects that we own: one watch event each, and nothing to do."""
        path = f"{CHILDREN[plural]}/namespaces/{self._namespace}/{plural}"
        patch = json.dumps({"metadata": {"annotations": {"example.com/touched": stamp}}})
        headers = {"Content-Type": "application/merge-patch+json"}
        turns = asyncio.Semaphore(16)

        async def one(name: str) -> None:
            async with turns:
                answer = await self._client.patch(f"{path}/{name}", content=patch, headers=headers)
                answer.raise_for_status()

        await asyncio.gather(*map(one, names))

    async def own_rate(self, count: int) -> float:
        """Objects a second that the API server takes by server-side apply from four clients at once."""
        turns = asyncio.Semaphore(4)
        path = f"/api/v1/namespaces/{self._namespace}/configmaps"
        headers = {"Content-Type": "application/apply-patch+yaml"}

        async def one(number: int) -> None:
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"rate-{number}"},
                "data": {"a": "b" * 500},
            }
            async with turns:
                query = {"fieldManager": "bench", "force": "true"}
                answer = await self._client.patch(
                    f"{path}/rate-{number}", params=query, content=json.dumps(body), headers=headers
                )
                answer.raise_for_status()

        began = time.monotonic()
        await asyncio.gather(*map(one, range(count)))
        return count / (time.monotonic() - began)

    def _volume(self, number: int) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"bench-{number:05d}"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "bench",
                "hostPath": {"path": "/nowhere"},
            },
        }

    async def _each(self, bodies: list[dict[str, Any]], path: str, at: dict[str, float] | None = None) -> None:
        turns = asyncio.Semaphore(16)

        async def one(body: dict[str, Any]) -> None:
            async with turns:
                answer = await self._client.post(path, json=body)
                answer.raise_for_status()
                if at is not None:
                    at[body["metadata"]["name"]] = time.monotonic()

        await asyncio.gather(*map(one, bodies))


def memory_body(name: str) -> dict[str, Any]:
    """The smallest memory that kwok can serve."""
    return {
        "apiVersion": "memory.somatech.dev/v1alpha1",
        "kind": "SomaMemory",
        "metadata": {"name": name},
        "spec": {"persistence": {"size": "1Gi", "storageClassName": "bench"}},
    }
