"""The peer: the same children by kopf as its documentation shows it, with create and update handlers and an index.

It renders with our templates, so that what is compared is the way of reconciling and not the YAML. Server-side apply by
the official client, in kopf's threads; the status is written when a Deployment changes.
"""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import kopf
import kubernetes
from prometheus_client import CollectorRegistry, Counter, start_http_server

from soma_operator.api import SomaMemory
from soma_operator.catalog.kinds import CHILD_KINDS
from soma_operator.catalog.names import CHILD_SELECTOR, MEMORY_LABEL
from soma_operator.desired.children import children
from soma_operator.desired.inputs import Defaults, Inputs

GROUP, VERSION, PLURAL = "memory.somatech.dev", "v1alpha1", "somamemories"
REGISTRY = CollectorRegistry()
WRITES = Counter("plain_writes", "Requests that may change something.", ["verb"], registry=REGISTRY)
_API = kubernetes.client.ApiClient


def _call(method: str, path: str, body: Any, **query: str) -> None:
    api = _client()
    WRITES.labels(method).inc()
    headers = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
    api.call_api(
        *api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
    ).read()


_LOCAL = threading.local()


def _client() -> Any:
    if not hasattr(_LOCAL, "api"):
        _LOCAL.api = _API()
    return _LOCAL.api


@kopf.on.startup()
def _start(settings: kopf.OperatorSettings, **_: Any) -> None:
    kubernetes.config.load_kube_config()  # type: ignore[no-untyped-call]
    settings.peering.standalone = True
    settings.posting.enabled = False
    for kind in CHILD_KINDS:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = CHILD_SELECTOR


@kopf.on.create(GROUP, VERSION, PLURAL)
@kopf.on.resume(GROUP, VERSION, PLURAL)
@kopf.on.update(GROUP, VERSION, PLURAL)
def _apply(body: kopf.Body, **_: Any) -> None:
    memory = SomaMemory.parse({key: body[key] for key in ("apiVersion", "kind", "metadata", "spec")})
    for child in children(Inputs(memory, Defaults(os.environ["SOMA_OPERATOR_RUNTIME_IMAGE"], "bench"))):
        path = child.ref.kind.path(child.ref.namespace, child.ref.name)
        _call("PATCH", path, child.manifest, fieldManager="plain", force="true")


def _by_memory(
    name: str, namespace: str | None, labels: Any, body: kopf.Body, **_: Any
) -> dict[tuple[str | None, str], Any]:
    return {(namespace, labels[MEMORY_LABEL]): (body["kind"], name, body.get("status", {}).get("readyReplicas", 0))}


for _kind in CHILD_KINDS:
    kopf.index(
        _kind.group, _kind.version, _kind.plural, id=f"{_kind.plural}_index", labels={MEMORY_LABEL: kopf.PRESENT}
    )(_by_memory)


@kopf.on.event("apps", "v1", "deployments", labels={MEMORY_LABEL: kopf.PRESENT})
def _status(namespace: str | None, labels: Any, body: kopf.Body, **indexes: Any) -> None:
    memory = labels[MEMORY_LABEL]
    ready = any(one[2] for one in indexes["deployments_index"].get((namespace, memory), ()))
    now = body["metadata"]["creationTimestamp"]
    condition = {"type": "Ready", "status": str(ready), "reason": "Serving" if ready else "RolloutInProgress"}
    condition |= {"message": "", "lastTransitionTime": now}
    status = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "SomaMemory", "status": {"conditions": [condition]}}
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}/{memory}/status"
    _call("PATCH", path, {**status, "metadata": {"name": memory}}, fieldManager="plain", force="true")


class _Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if _Ready.ready.is_set() else 503)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass

    ready = threading.Event()


def main() -> None:
    """Until SIGTERM."""
    server = HTTPServer(("127.0.0.1", int(os.environ["SOMA_OPERATOR_HEALTH_PORT"])), _Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    start_http_server(int(os.environ["SOMA_OPERATOR_METRICS_PORT"]), "127.0.0.1", REGISTRY)
    kopf.run(clusterwide=True, standalone=True, ready_flag=_Ready.ready)


if __name__ == "__main__":
    main()
