"""After an import recall finds what it found before (R32), whatever model made the vectors, whatever lives there."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from memory_runtime.embedding.hashing import HashProvider
from memory_runtime.engine import ExportedMemory, MemoryEngine, RecallRequest
from memory_runtime.model.errors import Conflict, InvalidArgument
from memory_runtime.model.records import MemoryRecord, Scope, StoreItem
from memory_runtime.tests.unit.test_embedding_change import DIM, OLD, Stores, Turned, stores

__all__ = ["stores"]
NUMBERS = 12
CLIENT = np.eye(DIM, dtype=np.float32)[3]


def exported(record: MemoryRecord, **changed: Any) -> ExportedMemory:
    """The record as its line of an export reads."""
    item = StoreItem(
        record.coordinate,
        record.payload,
        record.memory_type,
        timestamp=record.event_time,
        importance=record.importance,
        vector=record.vector,
        features=record.features,
        pinned=record.pinned,
        hold=record.hold,
    )
    told = {
        "importance_norm": record.importance_norm,
        "ingested": record.ingest_time,
        "accessed": record.access_time,
        "access_count": record.access_count,
        "expires_at": record.expires_at,
        "model_revision": record.model_revision,
    }
    return ExportedMemory(item, **(told | changed))


async def filled(engine: MemoryEngine, scope: Scope) -> list[ExportedMemory]:
    """Memories with text, one with the client's own vector; everything about them says something."""
    for n in range(NUMBERS):
        item = StoreItem(
            (float(n),),
            {"text": f"unrepeatable{n} is a word"},
            timestamp=1e9 + n,
            importance=float(n),
            features={"urgent": 0.5},
            pinned=n % 2 == 0,
            ttl=None if n % 3 else 1e6,
        )
        await engine.store(scope, item)
    await engine.store(scope, StoreItem((99.0,), {"text": "the client's own"}, vector=2 * CLIENT))
    await engine.recall(scope, RecallRequest(query="unrepeatable3", top_k=3))
    await engine._housekeeper.flush_access()
    return [exported(record) for record in (await engine.scan(scope, limit=100)).memories]


async def finds_all(engine: MemoryEngine, scope: Scope) -> None:
    for n in range(NUMBERS):
        found = await engine.recall(scope, RecallRequest(query=f"unrepeatable{n} is a word", top_k=1, half_life=None))
        assert [hit.record.coordinate for hit in found.hits] == [(float(n),)]
    (own,) = (await engine.recall(scope, RecallRequest(vector=CLIENT, top_k=1, half_life=None))).hits
    assert own.record.coordinate == (99.0,)


def same_but_for_the_version(one: MemoryRecord, other: MemoryRecord) -> None:
    for field in dataclasses.fields(MemoryRecord):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if field.name == "vector":
            assert left.tobytes() == right.tobytes()
        elif field.name not in {"version", "seq"}:
            assert left == right, field.name


async def test_a_memory_that_replaces_has_nothing_of_what_was_there(stores: Stores, scope: Scope) -> None:
    engine = await stores.open()
    (line, *_) = await filled(engine, scope)
    lived = (await engine.scan(scope, limit=100)).memories
    coordinate = line.item.coordinate
    await engine.link(scope, coordinate, (99.0,))
    done = await engine.import_memories(scope, [dataclasses.replace(line, access_count=0)], replace=True)
    assert tuple(done) == (1, 0, 0)
    back = await engine.get(scope, coordinate)
    assert (back.payload, back.access_count, back.version) == (line.item.payload, 0, lived[0].version + 2)
    assert await engine.links(scope) == []
    await engine.link(scope, coordinate, (99.0,))
    item = StoreItem(coordinate, {"text": "new"})
    (receipt,) = await engine.store_bulk(scope, [item], replace=True, idempotency_key="k")
    assert (receipt.created, receipt.version) == (True, back.version + 2)
    (again,) = await engine.store_bulk(scope, [item], replace=True, idempotency_key="k")
    assert (again.replayed, again.version) == (True, receipt.version)
    assert await engine.links(scope) == []
    found = await engine.recall(scope, RecallRequest(query="new", top_k=1, half_life=None))
    assert found.hits[0].record.payload == {"text": "new"}


async def test_what_is_held_is_not_replaced_and_nothing_beside_it_either(stores: Stores, scope: Scope) -> None:
    engine = await stores.open()
    lines = await filled(engine, scope)
    before = (await engine.scan(scope, limit=100)).memories
    await engine.retention.hold(scope, lines[3].item.coordinate)
    with pytest.raises(Conflict):
        await engine.import_memories(scope, lines, replace=True)
    with pytest.raises(Conflict):
        await engine.store_bulk(scope, [one.item for one in lines], replace=True)
    after = (await engine.scan(scope, limit=100)).memories
    assert [(one.id, one.version) for one in after] == [(one.id, one.version) for one in before]


async def test_an_own_export_over_itself_changes_versions_only(stores: Stores, scope: Scope) -> None:
    engine = await stores.open()
    lines = await filled(engine, scope)
    before = (await engine.scan(scope, limit=100)).memories
    for times in (1, 2):
        done = await engine.import_memories(scope, lines)
        assert tuple(done) == (0, NUMBERS + 1, 0)
        after = (await engine.scan(scope, limit=100)).memories
        for one, other in zip(before, after, strict=True):
            same_but_for_the_version(one, other)
            assert other.version == one.version + times
    await finds_all(engine, scope)


@pytest.mark.parametrize("over", [True, False])
async def test_another_models_vectors_are_made_anew_and_a_clients_stay(
    stores: Stores, scope: Scope, over: bool, tmp_path: Any
) -> None:
    hashing = await stores.open()
    lines = await filled(hashing, scope)
    assert {one.model_revision for one in lines} == {OLD, "client"}
    other = await Stores(tmp_path / "other").open(Turned())
    stores.open_.append(other)
    if over:
        await filled(other, scope)
    done = await other.import_memories(scope, lines)
    assert tuple(done) == ((0, NUMBERS + 1, 0) if over else (NUMBERS + 1, 0, 0))
    await finds_all(other, scope)
    for record in (await other.scan(scope, limit=100)).memories:
        client = record.coordinate == (99.0,)
        assert record.model_revision == ("client" if client else "turned-1")
    # a next model replaces what this one has made, and not what the client sent
    assert {record.model_revision for record in (await other.scan(scope, limit=100)).memories} == {"turned-1", "client"}


async def test_vectors_of_another_dimension_are_made_anew(stores: Stores, scope: Scope) -> None:
    engine = await stores.open()
    lines = await filled(engine, scope)
    made = HashProvider(8)
    small = [
        dataclasses.replace(
            one,
            item=dataclasses.replace(one.item, vector=made.embed_now([str(one.item.payload["text"])])[0]),
            model_revision=revision,
        )
        for one, revision in zip(lines, [made.revision, OLD, "client"] * len(lines), strict=False)
    ]
    assert tuple(await engine.import_memories(scope, small)) == (0, NUMBERS + 1, 0)
    records = (await engine.scan(scope, limit=100)).memories
    assert {record.model_revision for record in records} == {OLD}
    for n in range(NUMBERS):
        found = await engine.recall(scope, RecallRequest(query=f"unrepeatable{n} is a word", top_k=1, half_life=None))
        assert [hit.record.coordinate for hit in found.hits] == [(float(n),)]


async def test_who_embeds_no_text_takes_only_a_clients_vectors(stores: Stores, scope: Scope, tmp_path: Any) -> None:
    lines = await filled(await stores.open(), scope)
    client = await Stores(tmp_path / "client").open(embedding_provider="client")
    stores.open_.append(client)
    with pytest.raises(InvalidArgument, match="vector"):
        await client.import_memories(scope, lines)
    assert (await client.stats(scope)).total_memories == 0
    own = [one for one in lines if one.model_revision == "client"]
    assert tuple(await client.import_memories(scope, own)) == (1, 0, 0)
