"""`somafractalmemory.MemoryService`, bit for bit: a coordinate is its own vector, a memory type its own collection.

Two things differ on purpose: errors are errors (the old service swallowed those of Delete), and a token is required.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from memory_runtime.engine.types import CoordinateHit
from memory_runtime.model.coordinates import received_coordinate
from memory_runtime.surfaces.grpc.answers import bounded
from memory_runtime.surfaces.grpc.generated.somafractalmemory import memory_pb2 as pb
from memory_runtime.surfaces.grpc.generated.somafractalmemory import memory_pb2_grpc as stubs
from memory_runtime.surfaces.grpc.guard import CALLER
from memory_runtime.surfaces.grpc.values import json_object, most
from memory_runtime.surfaces.service import Service

DEFAULT_COLLECTION = "memories"
DEFAULT_TOP_K = 5


def legacy_id(coordinate: Sequence[float]) -> str:
    """The id that the old service gave: uuid5 of the URL namespace over Python's text of the list, in hex."""
    return uuid.uuid5(uuid.NAMESPACE_URL, repr(list(coordinate))).hex


class LegacyMemoryService(stubs.MemoryServiceServicer):
    """Translates; the guard has admitted the caller, the engine decides."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Store(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the proto's name
        """Stores a coordinate with its payload; durable when answered."""
        memory = request.memory
        coordinate = received_coordinate(memory.coord.values, field="memory.coord")
        payload = json_object(memory.payload_json, field="memory.payload_json")
        await self._service.engine.coordinate_store(
            CALLER.get(), coordinate, payload, memory.memory_type or DEFAULT_COLLECTION
        )
        return pb.StoreResponse(ok=True, id=legacy_id(memory.coord.values))

    async def Recall(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The nearest coordinates of the collection, by cosine."""
        collection = request.memory_type or DEFAULT_COLLECTION
        hits = await self._service.engine.coordinate_recall(
            CALLER.get(),
            received_coordinate(request.query.values, field="query"),
            top_k=most(context, request.top_k or DEFAULT_TOP_K, self._service.engine.settings.top_k_max),
            memory_type=collection,
        )

        def response(found: Sequence[CoordinateHit]) -> Any:
            memories = [
                pb.Memory(
                    coord=pb.Coordinate(values=hit.record.coordinate),
                    payload_json=json.dumps(hit.record.payload),
                    memory_type=collection,
                )
                for hit in found
            ]
            return pb.RecallResult(memories=memories)

        return await bounded(response, hits)

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Deletes a coordinate from every collection: the request names none."""
        coordinate = received_coordinate(request.coord.values, field="coord")
        await self._service.engine.coordinate_delete(CALLER.get(), coordinate)
        return pb.DeleteResponse(ok=True)

    async def Health(self, request: Any, context: Any) -> Any:  # noqa: N802
        """OK, or DEGRADED while the ledger is away or the index behind."""
        readiness = await self._service.readiness()
        return pb.HealthResponse(status="OK" if readiness.ready else "DEGRADED")
