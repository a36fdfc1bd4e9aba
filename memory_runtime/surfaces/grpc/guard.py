"""The interceptor that every call passes: token, tenant, rate, admission, deadline, and errors by the one table.

Every method is served as one that streams its requests: of those the transport holds a few KiB until they are asked
for, whereas it takes in a unary request whole before anybody has looked at the token. Fails closed: a method that is
not of the open services is guarded, and one that is not unary-unary is refused.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from memory_runtime.access import ReadingPlaces, named_metadata
from memory_runtime.access.admission import MOST_BUFFERED_BYTES
from memory_runtime.model.actor import current_tenant
from memory_runtime.model.errors import DeadlineExceeded, Internal, PayloadTooLarge, SomaError
from memory_runtime.model.records import Scope
from memory_runtime.stores.resilience.deadline import deadline_after
from memory_runtime.surfaces.grpc.failing import abort, bare, one_message, parsed
from memory_runtime.surfaces.grpc.open_methods import open_handler, open_places
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
PATIENCE_SECONDS: Final = 2.0
"""How long an admitted caller may take to send a request while others wait to send theirs."""

Behaviour = Callable[[Any, Any], Awaitable[Any]]


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpcio ships without types
    """One instance for the server."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._handlers: dict[str, Any] = {}
        self._readers = ReadingPlaces(self._most_readers, patience=PATIENCE_SECONDS)
        self._open_readers = open_places()

    def _most_readers(self) -> int:
        return max(4, MOST_BUFFERED_BYTES // max(1, self._service.body_limit))

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The handler of a call, guarded unless it is open."""
        method: str = details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        handler = await continuation(details)
        if handler is None:
            return None
        if method.startswith(OPEN_SERVICES) or method in OPEN_METHODS:
            made = open_handler(handler, self._open_readers)
        elif handler.unary_unary is None:
            raise AssertionError(f"{method} is not unary-unary: teach the guard before serving it")
        else:
            made = grpc.stream_unary_rpc_method_handler(
                self._guarded(handler, method),
                # None hands over the bytes: nothing is parsed for a caller who has not been admitted.
                request_deserializer=None,
                response_serializer=handler.response_serializer,
            )
        self._handlers[method] = made
        return made

    def _guarded(self, handler: Any, method: str) -> Behaviour:
        async def call(_: Any, context: Any) -> Any:
            began = time.perf_counter()
            failure: SomaError | None = None
            answer: Any = None
            try:
                answer = await self._serve(handler, method, context)
            except SomaError as error:
                # its traceback holds the frames that hold the request: in a cycle with this one, until a collection
                failure = bare(error)
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
                await abort(context, failure)
            return answer

        return call

    async def _serve(self, handler: Any, method: str, context: Any) -> Any:
        headers = named_metadata(context.invocation_metadata() or ())
        CALLER.set(await self._service.admit(headers, peer_address(context.peer())))
        allowed = self._service.settings.request_timeout_seconds
        remaining = context.time_remaining()
        seconds = allowed if remaining is None else min(allowed, remaining)
        with self._service.admission.enter(current_tenant()), deadline_after(seconds):
            try:
                async with asyncio.timeout(max(0.0, seconds)):
                    raw = one_message(await self._readers.read(context.read))
                    return await self._answer(handler, method, headers, raw, context)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"no answer within {seconds:.3g} s",
                    remedy="allow more time, or try again: a store is safe to repeat",
                ) from None

    async def _answer(self, handler: Any, method: str, headers: dict[str, str], raw: bytes, context: Any) -> Any:
        limit, budget = self._service.body_limit, self._service.bodies
        if len(raw) > limit:  # the transport's own limit is that of the start, or above
            raise PayloadTooLarge(
                f"the request is larger than {limit} bytes",
                remedy="send less at once, or raise SOMA_MAX_REQUEST_BODY_MB",
            )
        size = len(raw)
        budget.take(size)
        try:
            with request_span(method, headers):
                return await handler.unary_unary(parsed(handler, raw), context)
        finally:
            budget.give_back(size)


def peer_address(peer: str) -> str:
    """The address within gRPC's peer text, such as `ipv4:127.0.0.1:50123`, without the port."""
    address = urllib.parse.unquote(peer)
    kind, _, rest = address.partition(":")
    return rest.rpartition(":")[0] if kind in {"ipv4", "ipv6"} else address
