"""A request's trace: taken from the caller, sent to a collector, and found again beside the change that it made."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from memory_runtime.tests.integration.conftest import Serve

pytestmark = pytest.mark.integration
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Collector(HTTPServer):
    """Takes what an OTLP exporter sends, as a collector's HTTP port does."""

    def __init__(self) -> None:
        self.names: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Take)


class _Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        sent = ExportTraceServiceRequest.FromString(body)
        spans = [span for one in sent.resource_spans for scope in one.scope_spans for span in scope.spans]
        assert isinstance(self.server, Collector)
        self.server.names += [(span.name, span.trace_id.hex()) for span in spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _store(serve: Serve, **settings: str) -> tuple[str, str]:
    """The newest outbox row's traceparent after a store with PARENT, and the log of the server, which has ended."""
    server = serve(**settings)
    with server.client() as client:
        body = {"coord": "1,2,3", "payload": {"text": "Ann moved to Lisbon"}}
        assert client.post("/store", json=body, headers={"traceparent": PARENT}).status_code == 200
        assert client.post("/store", json=body, headers={"traceparent": "nonsense\x7f"}).status_code == 200
    assert server.stop() == 0
    with closing(sqlite3.connect(server.data_dir / "ledger.sqlite3")) as connection:
        first, second = connection.execute("SELECT trace FROM outbox ORDER BY seq").fetchall()
    assert TRACE not in second[0]
    return first[0], server.log_path.read_text()


def test_a_request_is_traced_and_its_change_belongs_to_the_trace(serve: Serve, collector: Collector) -> None:
    kept, _ = _store(serve, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}")
    assert ("POST /store", TRACE) in collector.names
    assert kept.split("-")[1] == TRACE
    assert kept != PARENT, "the change's parent is our span, not the caller's"


def test_without_a_collector_the_callers_trace_still_travels(serve: Serve) -> None:
    assert _store(serve)[0] == PARENT


def test_a_collector_that_is_away_costs_nothing_but_its_spans(serve: Serve) -> None:
    kept, log = _store(serve, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert kept.split("-")[1] == TRACE
    assert "Traceback" not in log
