"""Traces: the caller's context taken in, carried through every back end, and handed on with the change that it made.

Without the `distributed` extra, or without an exporter, spans cost nothing and the caller's `traceparent` still travels
into the outbox, so that an event can be followed back to the request that caused it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

try:
    from opentelemetry import context, trace
    from opentelemetry.propagate import extract, inject
except ImportError:  # the `distributed` extra brings it
    trace = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_CARRIED: Final[ContextVar[str]] = ContextVar("soma_traceparent", default="")


def recording() -> bool:
    """Whether somebody wants spans: without a provider, making one for each call would only cost time."""
    return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def request_span(name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """A server span called `name`, a child of the caller's (W3C Trace Context); `headers` have lower-case names."""
    given = headers.get("traceparent", "")
    token = _CARRIED.set(given if _TRACEPARENT.fullmatch(given) else "")
    try:
        if not recording():
            yield
            return
        tracer = trace.get_tracer("memory_runtime.surfaces")
        caller = extract(dict(headers)) if given else None
        with tracer.start_as_current_span(name, caller, kind=trace.SpanKind.SERVER):
            yield
    finally:
        _CARRIED.reset(token)


def current_traceparent() -> str:
    """The W3C `traceparent` of the span that is open, or the caller's own; empty where there is neither."""
    if recording() and trace.get_current_span().get_span_context().is_valid:
        carrier: dict[str, str] = {}
        inject(carrier)
        if "traceparent" in carrier:
            return carrier["traceparent"]
    return _CARRIED.get()


@contextmanager
def continued(traceparent: str) -> Iterator[None]:
    """Inside, spans are children of what an event's header says."""
    token = _CARRIED.set(traceparent if _TRACEPARENT.fullmatch(traceparent) else "")
    attached = None if trace is None else context.attach(extract({"traceparent": traceparent}))
    try:
        yield
    finally:
        if attached is not None:
            context.detach(attached)
        _CARRIED.reset(token)


def span_of_event(traceparent: str, name: str, began: int, ended: int, said: Mapping[str, Any]) -> None:
    """A consumer's span of one event, from `began` to `ended` (nanoseconds since the epoch), in its sender's trace."""
    if not recording() or not _TRACEPARENT.fullmatch(traceparent):
        return
    with continued(traceparent):
        tracer = trace.get_tracer("memory_runtime.events")
        span = tracer.start_span(name, kind=trace.SpanKind.CONSUMER, start_time=began, attributes=dict(said))
        span.end(ended)


def start_exporting(endpoint: str | None, service: str, version: str) -> Any:
    """Sends spans to an OTLP/HTTP collector at `endpoint` (such as http://jaeger:4318); None where none is named.

    Returns the provider, whose `shutdown` flushes what is waiting. A collector that is away loses spans, nothing else.
    """
    if endpoint is None:
        return None
    if trace is None:
        log.warning("otel_exporter_otlp_endpoint has no effect: install the `distributed` extra")
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # the exporter says at every failed batch, with a traceback, what one warning says better
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.sdk").setLevel(logging.ERROR)
    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.version": version}))
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider
