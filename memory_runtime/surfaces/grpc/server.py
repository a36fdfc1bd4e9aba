"""Builds the gRPC server and keeps its health service true to the engine's readiness."""

from __future__ import annotations

import asyncio
import logging

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


class GrpcServer:
    """The gRPC surface: both memory services, health and reflection, on one port."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._health = health_aio.HealthServicer()
        self._watcher: Supervised | None = None
        self.port = 0
        self._server = grpc.aio.server(
            interceptors=[Guard(service)],
            options=[
                ("grpc.max_receive_message_length", service.body_limit),
                ("grpc.max_send_message_length", -1),
                # Without it a second server shares the port in silence, and half of the calls.
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", 256),
            ],
        )
        legacy_grpc.add_MemoryServiceServicer_to_server(  # type: ignore[no-untyped-call]
            LegacyMemoryService(service), self._server
        )
        v2_grpc.add_MemoryServiceServicer_to_server(  # type: ignore[no-untyped-call]
            MemoryServiceV2(service), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (LEGACY_NAME, V2_NAME, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server)

    async def start(self) -> None:
        """Listens. Raises SettingsError when the address cannot be had."""
        host, port = self._service.settings.grpc_host, self._service.settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        await self._tell(ready=False)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            raise SettingsError(
                f"grpc_port: cannot listen on {address}",
                setting="grpc_port",
                remedy="stop what uses it, or choose another with --grpc-port or SOMA_GRPC_PORT",
            )
        await self._server.start()
        self._watcher = self._service.engine.metrics.tasks.start("grpc-health", self._watch)

    async def stop(self, grace: float) -> None:
        """Says that it is not serving, lets calls in flight finish for `grace` seconds, then ends."""
        if self._watcher is not None:
            await self._watcher.stop()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    async def refresh_health(self) -> None:
        """Asks the engine now rather than at the next turn."""
        await self._tell(ready=(await self._service.readiness()).ready)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_EVERY_SECONDS)
            try:
                await self.refresh_health()
            except Exception:  # the watch must outlive any single failure; not ready is what it reports meanwhile
                log.exception("readiness could not be determined")
                await self._tell(ready=False)

    async def _tell(self, *, ready: bool) -> None:
        state = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", LEGACY_NAME, V2_NAME):
            await self._health.set(name, state)
