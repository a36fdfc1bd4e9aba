"""What a consumer tells over HTTP, as it serves nobody else: /livez, /startupz, /readyz, and /metrics if enabled.

From a thread of its own, so that it answers while a batch is applied; liveness is the event loop's heartbeat and no
back end's, or an outage of Kafka would restart every consumer.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from memory_runtime.telemetry.heartbeat import Heartbeat


@dataclass(slots=True)
class Vitals:
    """How the consumer is; `ready` says that its ledger was opened."""

    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    ready: bool = False


def serve_probes(port: int, vitals: Vitals, registry: CollectorRegistry | None) -> ThreadingHTTPServer:
    """A server on `port` (0: a free one), running; `registry` None leaves /metrics out. Raises OSError."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics" and registry is not None:
                self._answer(HTTPStatus.OK, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif path in {"/livez", "/startupz", "/readyz"}:
                well = not vitals.heartbeat.stalled if path == "/livez" else vitals.ready
                status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, b"ok\n" if well else b"not yet\n", "text/plain")
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes come every second: no line for each."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
