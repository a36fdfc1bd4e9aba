"""Bodies as strict JSON: no NaN, no depth that overflows a parser, no text that UTF-8 cannot carry."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from memory_runtime.model.canonical import canonical_json, parse_json
from memory_runtime.model.errors import SomaError
from memory_runtime.surfaces.http.errors import BodyRefused


class StrictRequest(Request):
    """A request whose `json()` refuses what FastAPI would let through."""

    async def json(self) -> Any:
        """The parsed body. Raises BodyRefused."""
        body = await self.body()
        try:
            value = parse_json(body, field="body")
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
