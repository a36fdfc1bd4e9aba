"""From an archive back to what the ledger writes: vectors checked, and made anew where the embedding changed."""

from __future__ import annotations

from collections.abc import Sequence

from memory_runtime.embedding import EmbeddingProvider, payload_text
from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.errors import Conflict
from memory_runtime.model.records import Edge, MemoryRecord, Vector
from memory_runtime.stores.contracts import Put
from memory_runtime.stores.values import CLIENT_REVISION, Kept


async def as_puts(
    kept: Sequence[Kept], provider: EmbeddingProvider, dim: int, *, pin: bool
) -> list[tuple[Put, MemoryRecord, Sequence[Edge]]]:
    """What to write for each archived memory. Raises Conflict for a client's vector of another dimension."""
    vectors = await _vectors(kept, provider, dim)
    return [
        (_put(one.record, vector, revision, pin=pin), one.record, one.links)
        for one, (vector, revision) in zip(kept, vectors, strict=True)
    ]


async def _vectors(kept: Sequence[Kept], provider: EmbeddingProvider, dim: int) -> list[tuple[Vector | None, str]]:
    ours = {CLIENT_REVISION, provider.revision}
    stale = [one.record for one in kept if one.record.vector is None or one.record.model_revision not in ours]
    texts = [payload_text(record.payload) for record in stale]
    fresh = dict(zip((record.id for record in stale), await provider.embed(texts) if texts else (), strict=True))
    for one in kept:
        vector = one.record.vector
        if one.record.id not in fresh and vector is not None and len(vector) != dim:
            raise Conflict(
                f"vector: the archive holds vectors of {len(vector)} numbers, not {dim}",
                field="vector",
                remedy="restore it into the memory that it was taken from",
            )
    return [
        (fresh[one.record.id], provider.revision)
        if one.record.id in fresh
        else (one.record.vector, one.record.model_revision)
        for one in kept
    ]


def _put(record: MemoryRecord, vector: Vector | None, revision: str, *, pin: bool) -> Put:
    return Put(
        id=record.id,
        scope=record.scope,
        memory_type=record.memory_type,
        coordinate=record.coordinate_text,
        payload=canonical_json(record.payload),
        search_text=payload_text(record.payload),
        event_time=record.event_time,
        ingest_time=record.ingest_time,
        importance=record.importance,
        features=record.features,
        vector=vector,
        model_revision=revision,
        pinned=pin or record.pinned,
        hold=record.hold,
        expires_at=None if pin else record.expires_at,
    )
