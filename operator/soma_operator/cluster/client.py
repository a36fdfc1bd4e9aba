"""Requests to the API server: get, list, apply, create, delete; each with a deadline, a turn, a metric and a
classified error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.exceptions import ApiException

from soma_operator.catalog.flow_text import flow_text
from soma_operator.catalog.kinds import EVENT, Kind, Ref
from soma_operator.catalog.names import FIELD_MANAGER, TOKEN_MANAGER
from soma_operator.cluster.errors import ApiError, classify, unreachable
from soma_operator.cluster.throttle import Throttle
from soma_operator.telemetry import metrics

Body = dict[str, Any]

# With its charset named, the client sends the text as it is. Else it would write JSON, which the API server reads as
# YAML: the two escape what lies beyond U+FFFF differently, so one emoji in an annotation would fail the object.
_APPLY = "application/apply-patch+yaml; charset=utf-8"
_JSON = "application/json"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE = 250
_TIMEOUT = 15.0


def accept(kind: Kind, *, many: bool = False) -> str:
    """The Accept header for answers about `kind`: metadata only, unless its bodies are ours to read."""
    if kind.bodies:
        return _JSON
    return _METADATA_LIST if many else _METADATA


class ClusterClient:
    """One API server. Every method raises ApiError, and nothing else, when it does not get what it asked for."""

    def __init__(self, api: ApiClient, throttle: Throttle) -> None:
        self._api = api
        self._throttle = throttle

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, ref: Ref) -> Body | None:
        """The object, or its metadata only; None if it does not exist."""
        try:
            return await self._request("GET", ref.kind, ref.kind.path(ref.namespace, ref.name))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def list(self, kind: Kind, selector: str = "") -> AsyncIterator[Sequence[Body]]:
        """All objects of a kind in all namespaces, page by page."""
        query = [("limit", str(_PAGE))] + ([("labelSelector", selector)] if selector else [])
        token = ""
        while True:
            page = await self._request(
                "GET", kind, kind.path(), query=query + ([("continue", token)] if token else []), many=True
            )
            for item in page.get("items") or ():
                item.setdefault("kind", kind.name)
            yield page.get("items") or ()
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    async def pods(self, namespace: str, selector: str) -> Sequence[Body]:
        """The pods of one memory: asked for only while a rollout does not get on, never watched."""
        kind = Kind("", "v1", "Pod", "pods")
        query = [("labelSelector", selector), ("limit", "20")]
        page = await self._request("GET", kind, kind.path(namespace), query=query, many=True)
        items: Sequence[Body] = page.get("items") or ()
        return items

    async def apply(
        self,
        ref: Ref,
        manifest: Mapping[str, Any],
        *,
        force: bool,
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Body:
        """Server-side apply. Without force a field that somebody else owns is a conflict."""
        query = [("fieldManager", manager), ("force", "true" if force else "false")]
        if dry_run:
            query.append(("dryRun", "All"))
        path = ref.kind.path(ref.namespace, ref.name)
        return await self._request("PATCH", ref.kind, path, query=query, body=manifest, content=_APPLY)

    async def apply_status(self, ref: Ref, manifest: Mapping[str, Any]) -> Body:
        """Server-side apply of the status subresource."""
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        path = ref.kind.path(ref.namespace, ref.name, "status")
        return await self._request("PATCH", ref.kind, path, query=query, body=manifest, content=_APPLY)

    async def create(self, ref: Ref, manifest: Mapping[str, Any]) -> Body:
        """Create, never overwrite: an object of that name is a conflict. For what is made once, such as a token."""
        query = [("fieldManager", TOKEN_MANAGER)]
        return await self._request("POST", ref.kind, ref.kind.path(ref.namespace), query=query, body=manifest)

    async def delete(self, ref: Ref, uid: str) -> None:
        """Delete exactly that object; one that is gone already is fine."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        try:
            await self._request("DELETE", ref.kind, ref.kind.path(ref.namespace, ref.name), body=body)
        except ApiError as error:
            if not error.not_found:
                raise

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        """Record a Kubernetes Event."""
        await self._request("POST", EVENT, EVENT.path(namespace), body=event)

    async def apply_event(self, namespace: str, name: str, event: Mapping[str, Any]) -> None:
        """Extend the series of an Event."""
        query = [("fieldManager", FIELD_MANAGER), ("force", "true")]
        path = EVENT.path(namespace, name)
        await self._request("PATCH", EVENT, path, query=query, body=event, content="application/merge-patch+json")

    async def _request(
        self,
        method: str,
        kind: Kind,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Mapping[str, Any] | None = None,
        content: str = _JSON,
        many: bool = False,
    ) -> Body:
        await self._throttle.turn()
        headers = {"Accept": accept(kind, many=many)}
        if body is not None:
            headers["Content-Type"] = content
        try:
            prepared = await self._api.param_serialize(
                method,
                path,
                query_params=list(query),
                header_params=headers,
                body=flow_text(body) if content == _APPLY else body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*prepared, _request_timeout=_TIMEOUT)
            raw: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (TimeoutError, aiohttp.ClientError, ApiException, OSError) as error:
            metrics.API_REQUESTS.labels(method, kind.name, "none").inc()
            raise unreachable(error) from None
        metrics.API_REQUESTS.labels(method, kind.name, str(response.status)).inc()
        if response.status >= 400:
            raise classify(response.status, response.headers.get("Content-Type", ""), raw, response.headers)
        answer: Body = json.loads(raw)
        return answer
