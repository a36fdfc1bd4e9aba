"""Another embedding for what is stored: refused unless asked for, resumable, and never mixed with the old one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.embedding.hashing import HashProvider
from memory_runtime.engine import MemoryEngine, RecallRequest, build_engine
from memory_runtime.engine import gate as gate_module
from memory_runtime.engine.gate import Gate
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.sqlite import following

DIM = 48
OLD = f"signed-hash-v1/{DIM}"
KEPT = {"embedding_revision", "ledger_identity", "schema_serves_back_to", "vector_dim"}


class Turned(HashProvider):
    """Another space: the hash vectors, turned round; `limit` texts, then it waits for `go_on`."""

    def __init__(self, revision: str = "turned-1", limit: int = 10**9) -> None:
        super().__init__(DIM)
        self.revision = revision
        self.limit = limit
        self.embedded: list[str] = []
        self.held, self.go_on = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        if len(self.embedded) + len(texts) > self.limit:
            self.held.set()
            await self.go_on.wait()
        self.embedded += texts
        return -np.roll(self.embed_now(texts), 7, axis=1)


class Stores:
    """Opens engines on one directory, one after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.open_: list[MemoryEngine] = []

    async def open(self, provider: Any = None, **settings: Any) -> MemoryEngine:
        values = {"data_dir": self.directory, "embedding_provider": "hash", "vector_dim": DIM} | settings
        engine = build_engine(SMFSettings(**values), provider=provider)
        self.open_.append(engine)
        await engine.start()
        return engine


@pytest.fixture
async def stores(tmp_path: Path) -> Any:
    made = Stores(tmp_path / "data")
    yield made
    for engine in made.open_:
        await engine.close()


def memory(n: int, text: str | None = None) -> StoreItem:
    return StoreItem((float(n),), {"text": text or f"word{n} thing{n * 7} place{n * 13}"})


async def fill(stores: Stores, scope: Scope, count: int = 300) -> None:
    engine = await stores.open()
    await engine.store_bulk(scope, [memory(n) for n in range(count)])
    await engine.close()


async def top(engine: MemoryEngine, scope: Scope, n: int) -> tuple[float, float]:
    hit = (await engine.recall(scope, RecallRequest(query=memory(n).payload["text"], top_k=1))).hits[0]
    return hit.record.coordinate[0], hit.score


async def state(engine: MemoryEngine) -> tuple[set[str], set[str], set[str]]:
    """(revisions of memories, facts' keys, tables of vectors)."""

    def read(connection: Any) -> tuple[set[str], set[str], set[str]]:
        revisions = {
            row[0] for row in connection.execute("SELECT DISTINCT model_revision FROM memories WHERE deleted = 0")
        }
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'vectors%'")}
        return revisions, set(following.facts(connection)), tables

    return await engine.ledger.read(lambda view: read(view.connection))


async def test_a_changed_embedding_is_refused_unless_asked_for(stores: Stores, scope: Scope) -> None:
    await fill(stores, scope, 3)
    with pytest.raises(SettingsError, match="embedded by") as caught:
        await stores.open(Turned())
    assert "SOMA_REEMBED" in str(caught.value.remedy)


async def test_the_old_model_must_be_at_hand(stores: Stores, scope: Scope) -> None:
    engine = await stores.open(Turned("some-model@0123456789ab"))
    await engine.store(scope, memory(1))
    await engine.close()
    with pytest.raises(SettingsError, match="previous_model_dir"):
        await stores.open(Turned(), reembed=True)


async def test_recall_serves_the_old_space_until_the_new_one_is_whole(stores: Stores, scope: Scope) -> None:
    await fill(stores, scope)
    target = Turned(limit=128)
    engine = await stores.open(target, reembed=True)
    await target.held.wait()
    assert engine.provider.revision == OLD
    for n in (0, 127, 128, 299):
        assert await top(engine, scope, n) == (n, pytest.approx(1.0, abs=1e-5))
    assert "of 300" in engine.reembedder.note
    target.go_on.set()
    await engine.reembedder.wait()
    assert engine.provider.revision == target.revision
    for n in (0, 127, 128, 299):
        assert await top(engine, scope, n) == (n, pytest.approx(1.0, abs=1e-5))
    assert await state(engine) == ({target.revision}, KEPT, {"vectors"})
    assert engine.reembedder.note == ""


async def test_a_restart_goes_on_where_it_stopped(stores: Stores, scope: Scope) -> None:
    await fill(stores, scope)
    first = Turned(limit=128)
    engine = await stores.open(first, reembed=True)
    await first.held.wait()
    await engine.close()
    second = Turned()
    engine = await stores.open(second, reembed=True)
    await engine.reembedder.wait()
    assert len(second.embedded) <= 300 - 128 + 64
    assert await top(engine, scope, 5) == (5, pytest.approx(1.0, abs=1e-5))
    await engine.close()
    reopened = await stores.open(Turned())
    assert await top(reopened, scope, 299) == (299, pytest.approx(1.0, abs=1e-5))


async def test_what_is_stored_changed_and_deleted_meanwhile_is_right_afterwards(stores: Stores, scope: Scope) -> None:
    await fill(stores, scope)
    target = Turned(limit=192)
    engine = await stores.open(target, reembed=True)
    await target.held.wait()
    await engine.store(scope, memory(3, "rewritten after it was done"))
    await engine.store(scope, memory(900, "brand new"))
    await engine.delete(scope, (4.0,))
    await engine.delete(scope, (280.0,))
    own = np.eye(DIM, dtype=np.float32)[0]
    await engine.store(scope, StoreItem((901.0,), {"text": "a client's own"}, vector=own))
    target.go_on.set()
    await engine.reembedder.wait()
    for query, at in (("rewritten after it was done", 3.0), ("brand new", 900.0)):
        hit = (await engine.recall(scope, RecallRequest(query=query, top_k=1))).hits[0]
        assert (hit.record.coordinate[0], hit.score) == (at, pytest.approx(1.0, abs=1e-5))
    (hit,) = (await engine.recall(scope, RecallRequest(vector=own, top_k=1))).hits
    assert (hit.record.coordinate[0], hit.score) == (901.0, pytest.approx(1.0, abs=1e-5))
    found = await engine.recall(scope, RecallRequest(query="word4 thing28 place52 word280", top_k=400))
    assert not {4.0, 280.0} & {hit.record.coordinate[0] for hit in found.hits}
    assert len(engine.follower.index) == 300
    assert (await state(engine))[0] == {target.revision, "client"}


async def test_no_answer_ever_mixes_the_two_spaces(stores: Stores, scope: Scope) -> None:
    """A memory asked for by its own text has similarity 1 in either space, and far less across them."""
    await fill(stores, scope, 400)
    engine = await stores.open(Turned(), reembed=True)
    seen: list[tuple[int, tuple[float, float]]] = []

    async def ask_on() -> None:
        n = 0
        while engine.provider.target is not None:
            n = (n + 37) % 400
            seen.append((n, await top(engine, scope, n)))

    await asyncio.gather(*(ask_on() for _ in range(4)))
    await engine.reembedder.wait()
    assert len(seen) > 4
    assert all(at == n and score == pytest.approx(1.0, abs=1e-5) for n, (at, score) in seen)


async def test_another_target_throws_away_what_was_made_for_the_first(stores: Stores, scope: Scope) -> None:
    await fill(stores, scope)
    first = Turned(limit=64)
    engine = await stores.open(first, reembed=True)
    await first.held.wait()
    await engine.close()
    second = Turned("turned-2")
    engine = await stores.open(second, reembed=True)
    await engine.reembedder.wait()
    assert len(second.embedded) == 300
    assert (await state(engine))[0] == {"turned-2"}


async def test_going_back_to_the_old_embedding_drops_the_half_made_one(stores: Stores, scope: Scope) -> None:
    await fill(stores, scope)
    half = Turned(limit=64)
    engine = await stores.open(half, reembed=True)
    await half.held.wait()
    await engine.close()
    engine = await stores.open()
    await engine.reembedder.wait()
    assert await state(engine) == ({OLD}, KEPT, {"vectors"})
    assert await top(engine, scope, 7) == (7, pytest.approx(1.0, abs=1e-5))


async def test_a_slow_request_does_not_hold_up_the_others_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "FIRST_PATIENCE_SECONDS", 0.05)
    gate, slow = Gate(), asyncio.Event()
    entered = asyncio.Event()

    async def dawdle() -> None:
        async with gate.shared():
            await slow.wait()

    async def alone() -> None:
        async with gate.alone():
            entered.set()

    tasks = [asyncio.create_task(dawdle()), asyncio.create_task(alone())]
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1), gate.shared():
        assert not entered.is_set()
    slow.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert entered.is_set()


async def test_who_wants_to_be_alone_is_let_in_before_newcomers() -> None:
    gate, order = Gate(), list[str]()
    inside = asyncio.Event()

    async def shared(name: str, wait: asyncio.Event | None = None) -> None:
        async with gate.shared():
            if wait is not None:
                await wait.wait()
            order.append(name)

    async def alone() -> None:
        async with gate.alone():
            order.append("alone")

    first = asyncio.create_task(shared("first", inside))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(alone())
    await asyncio.sleep(0)
    late = asyncio.create_task(shared("late"))
    await asyncio.sleep(0)
    inside.set()
    await asyncio.gather(first, waiting, late)
    assert order == ["first", "alone", "late"]
