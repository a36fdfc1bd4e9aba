"""Entries in Redis that a write takes out, and that no late reader brings back: on one server and on a cluster."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from hack.services import RedisCluster
from memory_runtime.engine import build_engine
from memory_runtime.engine.cache.changes import RecentChanges
from memory_runtime.engine.cache.reading import RecordCache
from memory_runtime.model.errors import Conflict, SomaError, Unavailable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Delete, Unit
from memory_runtime.stores.redis.marked import Entry, MarkedEntries
from memory_runtime.tests.stores.conftest import target

pytestmark = pytest.mark.integration

HOME = Scope("acme", "notes")
KEYS = [f"key {n}" for n in range(30)]


@pytest.fixture(params=["standalone", "cluster"])
async def entries(request: pytest.FixtureRequest) -> AsyncIterator[MarkedEntries]:
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        where = target(cluster.members[0].url, redis_topology="cluster", redis_nodes=cluster.nodes)
    else:
        where = target(request.getfixturevalue("redis_service").url)
    client = where.client()
    yield MarkedEntries(client, where.guard(), prefix=f"soma:{uuid.uuid4().hex}:")
    await client.aclose()


async def test_after_a_write_nothing_older_comes_in(entries: MarkedEntries) -> None:
    await entries.fill_texts(dict.fromkeys(KEYS, "old"), 5, 60.0)
    assert set((await entries.look(KEYS)).values()) == {(5, "old")}
    await entries.outdate(KEYS, 7)
    assert await entries.look(KEYS) == {}
    await entries.fill_texts(dict.fromkeys(KEYS, "a late reader's"), 6, 60.0)
    assert await entries.look(KEYS) == {}
    await entries.fill_texts(dict.fromkeys(KEYS, "new"), 7, 60.0)
    assert set((await entries.look(KEYS)).values()) == {(7, "new")}


async def test_a_write_that_is_late_takes_nothing_newer_out(entries: MarkedEntries) -> None:
    await entries.fill_texts({"a": "newer"}, 9, 60.0)
    await entries.outdate(["b"], 9)
    await asyncio.gather(entries.outdate(["a", "b"], 8), entries.outdate(["c"], 3), entries.outdate(["c"], 4))
    await entries.fill_texts({"b": "old", "c": "old"}, 3, 60.0)
    assert await entries.look(["a", "b", "c"]) == {"a": (9, "newer")}
    await entries.fill_texts({"b": "new"}, 9, 60.0)
    assert (await entries.look(["b"])) == {"b": (9, "new")}


async def test_beside_a_mark_a_write_makes_it_contended(entries: MarkedEntries) -> None:
    """Whoever marked the key may have committed earlier or later: its value must not come in when it settles."""
    token = await entries.mark(["a"])
    await entries.outdate(["a"], 7)
    await entries.settle(token, {"a": Entry("whose turn was it?", 60.0, 6)})
    await entries.fill_texts({"a": "a reader's"}, 8, 60.0)
    assert await entries.look(["a"]) == {}


async def test_while_a_commits_outcome_is_not_known_readers_are_sent_to_the_ledger(
    entries: MarkedEntries, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build_engine(SMFSettings(data_dir=tmp_path, embedding_provider="hash", vector_dim=3))
    await engine.start()
    try:
        item = StoreItem((1.0,), {"text": "kept"}, vector=np.array([1, 0, 0], np.float32))
        receipt = await engine.store(HOME, item)
        refusal: list[SomaError] = []

        async def commit(_: Unit) -> Any:
            raise refusal[-1]

        # no real ledger fails at a moment that a test can choose
        monkeypatch.setattr(engine.ledger, "commit", commit)
        cache = RecordCache(engine.ledger, engine.follower, RecentChanges(), entries)
        await cache.start()
        view: Any = await cache.at_coordinate(HOME, (1.0,), None, lambda: 0.0)
        await cache.idle()
        assert view.id == receipt.id
        assert receipt.id.bytes in await cache.by_ids(HOME, [receipt.id.bytes])
        unit = Unit([Delete(receipt.id, HOME, "episodic", at=1.0)])
        for error, kept in ((Conflict("held"), True), (Unavailable("nobody knows"), False)):
            refusal.append(error)
            with pytest.raises(type(error)):
                await cache.commit(unit)
            await cache.idle()
            assert (receipt.id.bytes in await cache.by_ids(HOME, [receipt.id.bytes])) is kept
    finally:
        await engine.close()
