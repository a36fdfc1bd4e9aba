"""What a consumer tells over HTTP, as it serves nobody else: /livez, /startupz, /readyz, and /metrics if enabled.

From a thread and an event loop of its own, so that it answers while a batch is applied; liveness is the heartbeat of
the consumer's loop and no back end's, or an outage of Kafka would restart every consumer. Connections have the same
times and bounds as those of `serve`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from memory_runtime.model.errors import NotFound, SomaError
from memory_runtime.surfaces.http import wire
from memory_runtime.surfaces.http.connections import IDLE_SECONDS, timed_protocol
from memory_runtime.telemetry.heartbeat import Heartbeat

MOST_CONNECTIONS: Final = 128


@dataclass(slots=True)
class Vitals:
    """How the consumer is; `ready` says that its ledger was opened."""

    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    ready: bool = False


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals to the consumer."""
        yield


class ProbeServer:
    """A server that runs in its own thread until `shutdown`."""

    def __init__(self, listener: socket.socket, app: ASGIApp) -> None:
        self._listener = listener
        self.server_port: int = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=timed_protocol(lambda _: None, MOST_CONNECTIONS),
            loop="asyncio",
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            h11_max_incomplete_event_size=wire.LONGEST_LINE + wire.LARGEST_HEADERS,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._listener]))

    def shutdown(self) -> None:
        """Ends the thread."""
        self._server.should_exit = True
        self._thread.join(5.0)

    def server_close(self) -> None:
        """Gives the port back."""
        self._listener.close()


def serve_probes(port: int, vitals: Vitals, registry: CollectorRegistry | None) -> ProbeServer:
    """A server on `port` (0: a free one), running; `registry` None leaves /metrics out. Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return ProbeServer(listener, probes(vitals, registry))


def probes(vitals: Vitals, registry: CollectorRegistry | None) -> ASGIApp:
    """The application: three probes, and the metrics of the registry."""

    def answer(path: str) -> tuple[int, bytes, str]:
        if path == "/metrics" and registry is not None:
            return 200, generate_latest(registry), CONTENT_TYPE_LATEST
        if path not in {"/livez", "/startupz", "/readyz"}:
            raise NotFound("Not Found", remedy="ask /livez, /startupz, /readyz or /metrics")
        well = not vitals.heartbeat.stalled if path == "/livez" else vitals.ready
        return (200, b"ok\n", "text/plain") if well else (503, b"not yet\n", "text/plain")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            wire.check(scope)
            status, body, kind = answer(scope["path"])
            headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        except SomaError as error:
            status, headers, body = wire.raw_response(error)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
