"""Builds the gRPC server and keeps its health service true to the engine's readiness."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from memory_runtime.settings import SettingsError
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as v2_pb2
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2_grpc as v2_grpc
from memory_runtime.surfaces.grpc.generated.somafractalmemory import memory_pb2 as legacy_pb2
from memory_runtime.surfaces.grpc.generated.somafractalmemory import memory_pb2_grpc as legacy_grpc
from memory_runtime.surfaces.grpc.guard import Guard
from memory_runtime.surfaces.grpc.legacy import LegacyMemoryService
from memory_runtime.surfaces.grpc.v2 import MemoryServiceV2
from memory_runtime.surfaces.service import Service
from memory_runtime.telemetry.supervision import Supervised

log = logging.getLogger(__name__)

HEALTH_EVERY_SECONDS = 1.0
LEGACY_NAME = legacy_pb2.DESCRIPTOR.services_by_name["MemoryService"].full_name
V2_NAME = v2_pb2.DESCRIPTOR.services_by_name["MemoryService"].full_name

MOST_CONNECTIONS = 1024
_LARGEST_MESSAGE = "grpc.max_receive_message_length"
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    # Without it a second server shares the port in silence, and half of the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 256),
    # Without it the transport takes in ever more of a request that nobody has asked for yet.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
    # A connection that never speaks HTTP/2, one that makes no calls, and one whose other end is gone do not stay.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 120_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
REBIND_TRIES = 200


class GrpcServer:
    """The gRPC surface: both memory services, health and reflection, on one port."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._health = health_aio.HealthServicer()
        self._watcher: Supervised | None = None
        self.port = 0
        self._guard = Guard(service)
        self._limit = 0
        self._replaced: set[asyncio.Task[None]] = set()
        self._server = self._made()

    def _made(self) -> Any:
        """A server that does not listen yet. Its largest message is fixed with it."""
        service = self._service
        self._limit = service.body_limit
        server = grpc.aio.server(interceptors=[self._guard], options=[*_OPTIONS, (_LARGEST_MESSAGE, self._limit)])
        legacy_grpc.add_MemoryServiceServicer_to_server(  # type: ignore[no-untyped-call]
            LegacyMemoryService(service), server
        )
        v2_grpc.add_MemoryServiceServicer_to_server(MemoryServiceV2(service), server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (LEGACY_NAME, V2_NAME, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
        return server

    async def start(self) -> None:
        """Listens. Raises SettingsError when the address cannot be had."""
        address = self._address(self._service.settings.grpc_port)
        await self._tell(ready=False)
        self.port = _bound(self._server, address)
        if self.port == 0:
            raise SettingsError(
                f"grpc_port: cannot listen on {address}",
                setting="grpc_port",
                remedy="stop what uses it, or choose another with --grpc-port or SOMA_GRPC_PORT",
            )
        await self._server.start()
        self._watcher = self._service.engine.metrics.tasks.start("grpc-health", self._watch)

    def _address(self, port: int) -> str:
        host = self._service.settings.grpc_host
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def _renew(self) -> None:
        """Has another server listen in place of this one, which takes larger messages; calls in flight finish."""
        log.info("gRPC takes messages of up to %d bytes from now on", self._service.body_limit)
        grace = self._service.settings.drain_seconds
        stopping = asyncio.create_task(self._server.stop(grace), name="grpc-replaced")
        self._replaced.add(stopping)
        stopping.add_done_callback(self._replaced.discard)
        self._server = self._made()
        for _ in range(REBIND_TRIES):
            await asyncio.sleep(0.01)  # the former server closes its listener in a thread of its own
            if _bound(self._server, self._address(self.port)):
                await self._server.start()
                return
        self._limit = 0  # tried again at the next turn
        log.error("gRPC port %d could not be taken again; trying on", self.port)

    async def stop(self, grace: float) -> None:
        """Says that it is not serving, lets calls in flight finish for `grace` seconds, then ends."""
        if self._watcher is not None:
            await self._watcher.stop()
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(self._server.stop(grace), *self._replaced)

    async def refresh_health(self) -> None:
        """Asks the engine now rather than at the next turn."""
        await self._tell(ready=(await self._service.readiness()).ready)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_EVERY_SECONDS)
            try:
                if self._service.body_limit > self._limit:
                    await self._renew()
                await self.refresh_health()
            except Exception:  # the watch must outlive any single failure; not ready is what it reports meanwhile
                log.exception("readiness could not be determined")
                await self._tell(ready=False)

    async def _tell(self, *, ready: bool) -> None:
        state = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", LEGACY_NAME, V2_NAME):
            await self._health.set(name, state)


def _bound(server: Any, address: str) -> int:
    """The port that the server took; 0 where it could not."""
    try:
        port: int = server.add_insecure_port(address)
    except RuntimeError:
        return 0
    return port
