"""Puts the HTTP application together: routes, error bodies, guard, CORS, and the published description."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from memory_runtime.surfaces.http import (
    errors,
    routes_admin,
    routes_flags,
    routes_graph,
    routes_memories,
    routes_probes,
    routes_verbs,
)
from memory_runtime.surfaces.http.guard import OPEN_PATHS, Guard
from memory_runtime.surfaces.service import Service
from memory_runtime.surfaces.version import product_version

TITLE = "SomaFractalMemory API"
_STATUSES = {
    "400": "The request can never succeed as it is written",
    "401": "No token, or one that is not known",
    "403": "A wrong token, on the routes of era E1",
    "404": "No such memory in the caller's scope",
    "409": "The idempotency key was used with another body",
    "413": "The body is too large",
    "422": "Well-formed, but its values do not fit",
    "429": "The rate limit is spent; Retry-After says until when",
    "500": "A defect, logged under the request id",
    "503": "Starting, draining, overloaded or without its ledger; Retry-After says until when",
    "504": "The deadline passed",
}
_HEADERS = {
    "X-Soma-Tenant": "Whose memories; absent: the default tenant.",
    "X-Soma-Namespace": "`namespace` or `namespace:tenant`; absent: the default namespace.",
}

_EXPOSED = ["X-Request-ID", "X-Soma-Seq", "X-Soma-Id", "X-Soma-Version", "Idempotency-Replayed", "Retry-After"]


def build_app(service: Service) -> ASGIApp:
    """The application to serve: CORS around the guard around FastAPI, so that a browser can read a refusal too."""
    # The interactive pages load scripts from elsewhere; the document is enough for whoever wants them.
    app = FastAPI(title=TITLE, version=product_version(), docs_url=None, redoc_url=None)
    app.state.service = service
    errors.install(app)
    for room in (routes_verbs, routes_memories, routes_graph, routes_probes, routes_admin, routes_flags):
        app.include_router(room.router)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return Cors(Guard(app, service), service)


class Cors:
    """The headers that let a browser call from the origins in force; origins may change while the process serves."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._bare = app
        self._service = service
        self._origins: list[str] = []
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        origins = self._service.settings.cors_origins
        if origins != self._origins:
            self._origins, self._app = origins, self._wrapped(origins)
        await self._app(scope, receive, send)

    def _wrapped(self, origins: list[str]) -> ASGIApp:
        if not origins:
            return self._bare
        return CORSMiddleware(
            self._bare,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
        )


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with the error body, the token and the scope's headers on every route."""
    if app.openapi_schema is None:
        app.openapi_schema = _complete(get_openapi(title=app.title, version=app.version, routes=app.routes))
    return app.openapi_schema


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["ErrorBody"] = errors.ErrorBody.model_json_schema()
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "authToken": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
    }
    body = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
    scoped = [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in _HEADERS.items()
    ]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            open_route = path in OPEN_PATHS
            wanted = ("500", "503") if open_route else tuple(_STATUSES)
            responses = operation["responses"]
            responses.pop("422", None)
            responses |= {status: {"description": _STATUSES[status], "content": body} for status in wanted}
            if not open_route:
                operation["security"] = [{"bearer": []}, {"apiKey": []}, {"authToken": []}]
                operation.setdefault("parameters", []).extend(scoped)
    return document
