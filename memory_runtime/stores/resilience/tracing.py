"""OpenTelemetry spans of calls to back ends; nothing where the package is not installed (the embedded wheel)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memory_runtime.telemetry.tracing import recording

try:
    from opentelemetry import trace
except ImportError:  # the `distributed` extra brings it
    trace = None  # type: ignore[assignment]


class CallSpan:
    """What is said of a call once it is over."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def end(self, outcome: str, attempts: int, error: BaseException | None = None) -> None:
        """`outcome` as in the metrics; only the error's type goes in: its words may hold a key or an address."""
        if self._span is None:
            return
        self._span.set_attribute("soma.outcome", outcome)
        self._span.set_attribute("soma.attempts", attempts)
        if error is not None:
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(trace.Status(trace.StatusCode.ERROR))


@contextmanager
def call_span(adapter: str, operation: str) -> Iterator[CallSpan]:
    """A client span named `adapter operation`, a child of the caller's."""
    if not recording():
        yield CallSpan()
        return
    tracer = trace.get_tracer("memory_runtime.stores")
    with tracer.start_as_current_span(
        f"{adapter} {operation}",
        kind=trace.SpanKind.CLIENT,
        attributes={"db.system.name": adapter, "db.operation.name": operation},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield CallSpan(span if span.is_recording() else None)
