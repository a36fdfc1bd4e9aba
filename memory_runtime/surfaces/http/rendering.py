"""How the engine's answers look on the wire. The old shapes stay as they were; keys are added only where asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi.responses import Response

from memory_runtime.engine import Hit, RecallResult
from memory_runtime.model.records import Edge, MemoryRecord, StoreReceipt
from memory_runtime.model.timestamps import shown_time
from memory_runtime.stores.answer_size import answer_bound
from memory_runtime.surfaces.explanations import factors, plain
from memory_runtime.surfaces.http.encoding import encoded

Json = dict[str, Any]


def resource(record: MemoryRecord, *, vector: bool = False) -> Json:
    """A memory as era E2 shows it: the payload nested, what the server knows beside it."""
    shown: Json = {
        "id": str(record.id),
        "coordinate": list(record.coordinate),
        "payload": record.payload,
        "memory_type": record.memory_type,
        "metadata": {},
        "importance": record.importance,
        "importance_norm": record.importance_norm,
        "timestamp": record.event_time,
        "created_at": shown_time(record.ingest_time),
        "updated_at": shown_time(record.ingest_time),
        "access_count": record.access_count,
        "features": record.features,
        "pinned": record.pinned,
        "expires_at": record.expires_at,
        "version": record.version,
        "seq": record.seq,
    }
    if vector and record.vector is not None:
        shown["vector"] = record.vector.tolist()
    return shown


def scored(hit: Hit) -> Json:
    """A hit with its score, as /recall_with_scores shows it; its explanation if there is one."""
    shown: Json = {"payload": hit.record.legacy_payload(), "score": hit.score}
    if hit.explanation is not None:
        shown |= explained(hit)
    return shown


def found(hit: Hit) -> Json:
    """A hit as /memories/search shows it."""
    shown = resource(hit.record) | {"score": hit.score}
    return shown if hit.explanation is None else shown | explained(hit)


def explained(hit: Hit) -> Json:
    """The factors of a hit's score."""
    return {"id": str(hit.record.id), "log2_score": hit.log2_score, "explanation": factors(hit)}


def context_of(result: RecallResult, *, explain: bool) -> Json:
    """What an answer adds about itself where an explanation was asked for."""
    if not explain:
        return {}
    return {
        "seq": result.seq,
        "as_of": result.as_of,
        "route": result.route,
        "suppressed": [plain(memory) for memory in result.suppressed],
    }


def receipts_of(receipts: Sequence[StoreReceipt]) -> list[Json]:
    """Receipts as they are shown when asked for."""
    return [plain(receipt) for receipt in receipts]


def store_headers(receipts: Sequence[StoreReceipt]) -> dict[str, str]:
    """What a store tells beside its old answer: the sequence to read one's write by, and whether it was a replay."""
    headers = {"X-Soma-Seq": str(max((receipt.seq for receipt in receipts), default=0))}
    if len(receipts) == 1:
        headers |= {"X-Soma-Id": str(receipts[0].id), "X-Soma-Version": str(receipts[0].version)}
    if any(receipt.replayed for receipt in receipts):
        headers["Idempotency-Replayed"] = "true"
    return headers


def recall_headers(results: Iterable[RecallResult]) -> dict[str, str]:
    """The sequence that an answer includes."""
    return {"X-Soma-Seq": str(min((result.seq for result in results), default=0))}


def kept(record: MemoryRecord) -> Json:
    """What an export keeps beside: exact times, the hold, the embedding."""
    return {
        "hold": record.hold,
        "ingested": record.ingest_time,
        "accessed": record.access_time,
        "model_revision": record.model_revision,
    }


def edge_data(edge: Edge) -> Json:
    """An edge as era E1 shows it beside the neighbour's coordinate."""
    return {**edge.metadata, "to": list(edge.target), "type": edge.link_type, "weight": edge.weight}


def answer(body: Json, headers: dict[str, str] | None = None) -> Response:
    """The response, without a second validation of what we have made ourselves.

    A value may be an iterator, so that a long list is made while it is encoded. Raises PayloadTooLarge.
    """
    return encoded(body, headers, answer_bound())
