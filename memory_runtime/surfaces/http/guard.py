"""The guard around every HTTP route: identity, size, deadline, disconnect, admission, and the log of what happened.

Plain ASGI, outside FastAPI: a refused request costs no parsing, and a body is bounded while it arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from memory_runtime.access import named_headers
from memory_runtime.model.actor import current_tenant
from memory_runtime.model.errors import DeadlineExceeded, PayloadTooLarge, SomaError
from memory_runtime.stores.resilience.deadline import deadline_after
from memory_runtime.surfaces.http import wire
from memory_runtime.surfaces.http.errors import error_response, unforeseen
from memory_runtime.surfaces.service import Service
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.telemetry.tracing import request_span

log = logging.getLogger("memory_runtime.http")

OPEN_PATHS = frozenset(
    {"/", "/livez", "/readyz", "/startupz", "/healthz", "/health", "/health/basic", "/ping", "/metrics"}
)
ERA_TWO = re.compile(r"/(?:memories|graph)(?:/|$)")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")


class ClientGone(Exception):  # noqa: N818 -- nobody is left to read an error
    """The client closed the connection before it had its answer."""


class Guard:
    """Wraps the application; one instance for the server."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; every error becomes the one body, nothing is raised."""
        if scope["type"] != "http":
            await _refuse_other(scope, send)
            return
        exchange = _Exchange(scope, send)
        try:
            wire.check(scope)
            await self._serve(exchange, receive)
        except ClientGone:
            exchange.status = 499
        except SomaError as error:
            await exchange.fail(error, receive)
        except Exception:  # the last resort: a defect answers with a request id, its trace goes to the log
            log.exception("request failed", extra={"request_id": exchange.request_id, "path": scope["path"]})
            await exchange.fail(unforeseen(exchange.request_id), receive)
        finally:
            exchange.report(self._service.engine.metrics)

    async def _serve(self, exchange: _Exchange, receive: Receive) -> None:
        scope = exchange.scope
        path: str = scope["path"]
        if path in OPEN_PATHS:
            await self._app(scope, receive, exchange.send)
            return
        headers = named_headers(scope["headers"])
        peer = (scope.get("client") or ("unknown",))[0]
        scope["state"]["soma"] = await self._service.admit(
            headers, peer, wrong_is_forbidden=not ERA_TWO.match(path), open_to_all=path == "/stats"
        )
        seconds = self._service.settings.request_timeout_seconds
        with self._service.admission.enter(current_tenant()), deadline_after(seconds):
            try:
                async with asyncio.timeout(seconds) as deadline, self._body(headers, receive) as replay:
                    with request_span(_span_name(scope), headers):
                        await self._until_gone(exchange, replay, receive, deadline)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"no answer within {seconds:g} s",
                    remedy="ask for less, or try again: a store may have been committed, and is safe to repeat",
                ) from None

    @contextlib.asynccontextmanager
    async def _body(self, headers: dict[str, str], receive: Receive) -> AsyncIterator[_Replay]:
        """The whole body, bounded while it arrives. Raises PayloadTooLarge, Unavailable, ClientGone."""
        limit, budget = self._service.body_limit, self._service.bodies
        announced = headers.get("content-length", "")
        if announced.isdecimal() and len(announced) < 20 and int(announced) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        held = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                if held + len(chunk) > limit:
                    raise _too_large(limit)
                budget.take(len(chunk))
                held += len(chunk)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    break
            yield _Replay(b"".join(chunks))
        finally:
            budget.give_back(held)

    async def _until_gone(
        self, exchange: _Exchange, replay: _Replay, receive: Receive, deadline: asyncio.Timeout
    ) -> None:
        """Runs the application; a client that leaves cancels it, so that nobody computes what nobody reads."""
        gone = False

        async def watch() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            if exchange.finished:
                return
            gone = True
            deadline.reschedule(asyncio.get_running_loop().time())

        watcher = asyncio.create_task(watch())
        try:
            await self._app(exchange.scope, replay, exchange.send)
        except asyncio.CancelledError:
            if gone:
                # The timeout's own bookkeeping turns this into TimeoutError, which would be taken for a deadline.
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()


def _span_name(scope: Scope) -> str:
    """Method and first part of the path: what follows may be a coordinate, and one name for each would help nobody."""
    return f"{scope['method']} /{scope['path'].split('/')[1]}"


class _Replay:
    """Gives the application the body that has been read, then nothing until it ends."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError


class _Exchange:
    """One request and what became of it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        scope.setdefault("state", {})
        self.scope = scope
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["state"]["request_id"] = self.request_id
        self.status = 0
        self.finished = False
        self._send = send
        self._began = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Passes the application's answer on, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            headers.update(self.scope["state"].get("answer_headers", {}))
            headers.setdefault("Cache-Control", "no-store")
        elif not message.get("more_body", False):
            self.finished = True
        await self._send(message)

    async def fail(self, error: SomaError, receive: Receive) -> None:
        """Answers with the error, unless an answer has begun already."""
        if not self.status:
            try:
                await error_response(error)(self.scope, receive, self.send)
            except Exception as reason:  # the connection broke: each protocol says so with an error of its own
                log.debug("the answer could not be sent", extra={"request_id": self.request_id, "reason": str(reason)})

    def report(self, metrics: Metrics) -> None:
        """Counts and logs the request. Neither query string nor body nor token is logged."""
        seconds = time.perf_counter() - self._began
        route = self.scope.get("route")
        endpoint = getattr(route, "path", None) or (self.scope["path"] if self.scope["path"] in OPEN_PATHS else "other")
        method = self.scope["method"] if self.scope["method"] in _METHODS else "other"
        metrics.answered(endpoint, method, str(self.status), seconds)
        if endpoint == "other" and self.status == 404:
            metrics.http_404.inc()
        quiet = endpoint in OPEN_PATHS and self.status < 400
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s %s %d",
            method,
            endpoint,
            self.status,
            extra={
                "request_id": self.request_id,
                "method": self.scope["method"],
                "endpoint": endpoint,
                "status": self.status,
                "seconds": round(seconds, 6),
            },
        )


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        "Request entity too large",
        field="body",
        remedy=f"send at most {limit} bytes at once (SOMA_MAX_REQUEST_BODY_MB)",
    )


async def _refuse_other(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1003})
