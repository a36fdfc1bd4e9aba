"""Bodies as strict JSON: no NaN, no depth that overflows a parser, no text that UTF-8 cannot carry."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from memory_runtime.model.canonical import canonical_json, parse_json
from memory_runtime.model.errors import InvalidArgument, SomaError
from memory_runtime.surfaces.http.errors import BodyRefused

MOST_LEVELS = 64


def _refuse_depth(value: Any) -> None:
    """Raises InvalidArgument for a value so deep that walking it recursively would overflow a stack."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_LEVELS + 1):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise InvalidArgument(f"body: nested deeper than {MOST_LEVELS} levels", field="body", remedy="flatten it")


class StrictRequest(Request):
    """A request whose `json()` refuses what FastAPI would let through."""

    async def json(self) -> Any:
        """The parsed body. Raises BodyRefused."""
        body = await self.body()
        try:
            value = parse_json(body, field="body")
            if body.count(b"[") + body.count(b"{") > MOST_LEVELS:
                _refuse_depth(value)
            if b"\\ud" in body or b"\\uD" in body:
                # An escaped lone surrogate parses, and would break whoever encodes the text later.
                canonical_json(value, field="body")
        except SomaError as error:
            raise BodyRefused(error) from None
        return value


class StrictRoute(APIRoute):
    """A route that reads its body through StrictRequest."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a strict request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
