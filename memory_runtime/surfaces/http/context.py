"""What a route needs of its request: the engine, the caller's scope, the key that makes a retry safe."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.requests import Request

from memory_runtime.access import named_headers
from memory_runtime.engine import MemoryEngine, RequestId
from memory_runtime.model.canonical import canonical_json, content_hash, parse_json
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Scope
from memory_runtime.surfaces.http.responses import Json
from memory_runtime.surfaces.service import Service

LONGEST_KEY = 255


def service(request: Request) -> Service:
    """The running service."""
    found: Service = request.app.state.service
    return found


def engine(request: Request) -> MemoryEngine:
    """The engine."""
    return service(request).engine


def scope(request: Request) -> Scope:
    """The scope that the guard found the caller to have."""
    found: Scope = request.state.soma
    return found


def idempotency_key(request: Request, body: BaseModel) -> str | None:
    """The key under which a repeated request is answered with the first one's reply; None where none was sent.

    `Idempotency-Key` with another body is a conflict. `X-Request-ID` is what existing clients send for the same
    purpose, and also what proxies and tracers send with unrelated requests: there the body is part of the key, and the
    reply is repeated only while the memories are as it left them.
    """
    key = named_headers(request.scope["headers"]).get("idempotency-key", "").strip()
    if key:
        if len(key) > LONGEST_KEY or not key.isprintable():
            raise InvalidArgument(
                f"Idempotency-Key: at most {LONGEST_KEY} printable characters",
                field="Idempotency-Key",
                remedy="send a UUID",
            )
        return key
    given = request.headers.get("x-request-id", "").strip()
    if not given or len(given) > LONGEST_KEY or not given.isprintable():
        return None
    return RequestId(f"request:{given}:{content_hash(body.model_dump(mode='json'))}")


def asked_for_receipt(request: Request) -> bool:
    """Whether the query string says `receipt=true`."""
    return request.query_params.get("receipt", "").lower() in {"1", "true", "yes"}


def json_object(text: str | None, *, field: str) -> Json | None:
    """An object given as JSON text in a query string. Raises InvalidArgument."""

    if text is None or not text.strip():
        return None
    value = parse_json(text, field=field)
    if not isinstance(value, dict):
        raise InvalidArgument(
            f"{field}: not a JSON object", field=field, remedy='send an object, such as {"user":"ann"}'
        )
    canonical_json(value, field=field)
    return value
