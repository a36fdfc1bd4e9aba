"""`soma.memory.v2.MemoryService`: the engine's own words, with packed vectors, scores and sequence numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from memory_runtime.engine import UNSET, Hit, RecallRequest
from memory_runtime.model.coordinates import received_coordinate
from memory_runtime.model.records import MemoryRecord, StoreItem, StoreReceipt, Vector
from memory_runtime.surfaces.explanations import factors
from memory_runtime.surfaces.grpc.answers import bounded
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as pb
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2_grpc as stubs
from memory_runtime.surfaces.grpc.guard import CALLER
from memory_runtime.surfaces.grpc.values import json_object, most
from memory_runtime.surfaces.service import Service

# json.dumps with an argument makes an encoder at each call
_TEXT = json.JSONEncoder(ensure_ascii=False)


class MemoryServiceV2(stubs.MemoryServiceServicer):
    """Translates; the guard has admitted the caller, the engine decides."""

    def __init__(self, service: Service) -> None:
        self._engine = service.engine

    async def Store(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the proto's name
        """Stores one memory; durable when answered."""
        item = _item(request.item, "item.")
        receipt = await self._engine.store(CALLER.get(), item, idempotency_key=request.idempotency_key or None)
        return pb.StoreResponse(receipt=_receipt(receipt))

    async def StoreBulk(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Stores many memories in one transaction."""
        items = [_item(item, f"items.{index}.") for index, item in enumerate(request.items)]
        receipts = await self._engine.store_bulk(CALLER.get(), items, idempotency_key=request.idempotency_key or None)
        return pb.StoreBulkResponse(receipts=[_receipt(receipt) for receipt in receipts])

    async def Recall(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Recalls memories with their scores."""
        wanted = RecallRequest(
            query=request.text or None,
            vector=_vector(request.vector),
            top_k=most(context, request.top_k or 5, self._engine.settings.top_k_max),
            memory_type=request.memory_type or None,
            filters=json_object(request.filters_json, field="filters_json") or None,
            half_life=_half_life(request),
            as_of=request.as_of if request.HasField("as_of") else None,
            min_seq=request.min_seq if request.HasField("min_seq") else None,
            explain=request.explain,
            hybrid=request.hybrid if request.HasField("hybrid") else None,
        )
        result = await self._engine.recall(CALLER.get(), wanted)

        def response(hits: Sequence[Hit]) -> Any:
            made = [_hit(hit) for hit in hits]
            return pb.RecallResponse(hits=made, seq=result.seq, as_of=result.as_of, route=result.route)

        return await bounded(response, result.hits)

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        """One memory; `as_of`, as it was then."""
        coordinate = received_coordinate(request.coordinate, field="coordinate")
        as_of = request.as_of if request.HasField("as_of") else None
        record = await self._engine.get(CALLER.get(), coordinate, request.memory_type or None, as_of=as_of)
        return pb.GetResponse(record=_record(record))

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Deletes what is at a coordinate."""
        coordinate = received_coordinate(request.coordinate, field="coordinate")
        receipt = await self._engine.delete(CALLER.get(), coordinate, request.memory_type or None)
        return pb.DeleteResponse(deleted=receipt.deleted, seq=receipt.seq)

    async def Stats(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Counts of the caller's scope."""
        stats = await self._engine.stats(CALLER.get())
        return pb.StatsResponse(
            total_memories=stats.total_memories,
            by_type=stats.by_type,
            head_seq=stats.head_seq,
            applied_seq=stats.applied_seq,
            embedding_provider=stats.embedding_provider,
            vector_dim=stats.vector_dim,
            stale=stats.stale,
        )


def _vector(values: Sequence[float]) -> Vector | None:
    return np.array(values, dtype=np.float32) if len(values) else None


def _half_life(request: Any) -> Any:
    kind = request.WhichOneof("decay")
    if kind is None:
        return UNSET
    return request.half_life_seconds if kind == "half_life_seconds" else None


def _item(item: Any, path: str) -> StoreItem:
    return StoreItem(
        coordinate=received_coordinate(item.coordinate, field=f"{path}coordinate"),
        payload=json_object(item.payload_json, field=f"{path}payload_json", checked_later=True),
        memory_type=item.memory_type or "episodic",
        timestamp=item.timestamp if item.HasField("timestamp") else None,
        importance=item.importance if item.HasField("importance") else None,
        vector=_vector(item.vector),
        features=dict(item.features) or None,
        pinned=item.pinned,
        ttl=item.ttl_seconds if item.HasField("ttl_seconds") else None,
    )


def _receipt(receipt: StoreReceipt) -> Any:
    return pb.Receipt(
        id=str(receipt.id),
        version=receipt.version,
        seq=receipt.seq,
        created=receipt.created,
        replayed=receipt.replayed,
    )


def _record(record: MemoryRecord) -> Any:
    return pb.Record(
        id=str(record.id),
        coordinate=record.coordinate,
        payload_json=_TEXT.encode(record.payload),
        memory_type=record.memory_type,
        timestamp=record.event_time,
        importance=1.0 if record.importance is None else record.importance,
        importance_norm=record.importance_norm,
        features=record.features,
        pinned=record.pinned,
        expires_at=record.expires_at,
        version=record.version,
        seq=record.seq,
    )


def _hit(hit: Hit) -> Any:
    explanation = "" if hit.explanation is None else json.dumps(factors(hit))
    return pb.Hit(record=_record(hit.record), score=hit.score, log2_score=hit.log2_score, explanation_json=explanation)
