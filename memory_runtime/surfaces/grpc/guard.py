"""The interceptor that every call passes: token, tenant, rate, admission, deadline, and errors by the one table.

Fails closed: a method that is not of the open services is guarded, and one that is not unary-unary is refused.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from memory_runtime.model.actor import current_tenant
from memory_runtime.model.errors import DeadlineExceeded, Internal, InvalidArgument, SomaError
from memory_runtime.model.records import Scope
from memory_runtime.stores.resilience.deadline import deadline_after
from memory_runtime.surfaces.service import Service
from memory_runtime.telemetry.tracing import request_span

log = logging.getLogger("memory_runtime.grpc")

CALLER: contextvars.ContextVar[Scope] = contextvars.ContextVar("caller")
OPEN_SERVICES = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/grpc.reflection.v1.ServerReflection/",
)
OPEN_METHODS = frozenset({"/somafractalmemory.MemoryService/Health"})
_CODES = {code.name: code for code in grpc.StatusCode}

Behaviour = Callable[[Any, Any], Awaitable[Any]]


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpcio ships without types
    """One instance for the server."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._handlers: dict[str, Any] = {}

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The handler of a call, guarded unless it is open."""
        method: str = details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        handler = await continuation(details)
        if handler is None or method.startswith(OPEN_SERVICES) or method in OPEN_METHODS:
            return handler
        if handler.unary_unary is None:
            raise AssertionError(f"{method} is not unary-unary: teach the guard before serving it")
        guarded = self._handlers[method] = grpc.unary_unary_rpc_method_handler(
            self._guarded(handler, method),
            # None hands over the bytes: nothing is parsed for a caller who has not been admitted.
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )
        return guarded

    def _guarded(self, handler: Any, method: str) -> Behaviour:
        async def call(request: Any, context: Any) -> Any:
            began = time.perf_counter()
            failure: SomaError | None = None
            answer: Any = None
            try:
                answer = await self._serve(handler, method, request, context)
            except SomaError as error:
                failure = error
            except Exception:  # the last resort: a defect answers without its traceback
                log.exception("call failed", extra={"method": method})
                failure = Internal(
                    "an internal error; it has been logged", remedy="report it with the time of the call"
                )
            status = "OK" if failure is None else failure.code
            seconds = time.perf_counter() - began
            self._service.engine.metrics.answered(method, "GRPC", status, seconds)
            if log.isEnabledFor(logging.INFO):
                log.info("call", extra={"method": method, "status": status, "seconds": round(seconds, 6)})
            if failure is not None:
                await context.abort(_CODES[failure.status.grpc], failure.message, trailing_metadata(failure))
            return answer

        return call

    async def _serve(self, handler: Any, method: str, raw: bytes, context: Any) -> Any:
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        CALLER.set(await self._service.admit(headers, peer_address(context.peer())))
        allowed = self._service.settings.request_timeout_seconds
        remaining = context.time_remaining()
        seconds = allowed if remaining is None else min(allowed, remaining)
        with self._service.admission.enter(current_tenant()), deadline_after(seconds):
            try:
                async with asyncio.timeout(max(0.0, seconds)):
                    with request_span(method, headers):
                        return await handler.unary_unary(_parsed(handler, raw), context)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"no answer within {seconds:.3g} s",
                    remedy="allow more time, or try again: a store is safe to repeat",
                ) from None


def _parsed(handler: Any, raw: bytes) -> Any:
    try:
        return handler.request_deserializer(raw)
    except DecodeError:
        message = "the request is not a message of this method"
        raise InvalidArgument(message, remedy="use the published proto; reflection serves it") from None


def peer_address(peer: str) -> str:
    """The address within gRPC's peer text, such as `ipv4:127.0.0.1:50123`, without the port."""
    address = urllib.parse.unquote(peer)
    kind, _, rest = address.partition(":")
    return rest.rpartition(":")[0] if kind in {"ipv4", "ipv6"} else address


def trailing_metadata(error: SomaError) -> tuple[tuple[str, str | bytes], ...]:
    """The error body as trailing metadata: its JSON in `soma-error-bin`, and each field as ASCII for plain clients."""
    body = error.body()
    fields = [(f"soma-{name}", value.encode("ascii", "replace").decode()) for name, value in body.items() if value]
    if error.retry_after is not None:
        fields.append(("retry-after", f"{error.retry_after:.3f}"))
    printable = [(name, "".join(c if c.isprintable() else "?" for c in value)) for name, value in fields]
    return (("soma-error-bin", json.dumps(body, ensure_ascii=False).encode()), *printable)
