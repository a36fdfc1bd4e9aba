"""The vector store's feed and its proof read either ledger alike."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import AsyncQdrantClient

from memory_runtime.engine.following import Follower
from memory_runtime.engine.vectors.feed import SINK, VectorFeed
from memory_runtime.engine.vectors.placement import Placement
from memory_runtime.engine.vectors.reconcile import Reconciler
from memory_runtime.events.relay import Relay
from memory_runtime.model.records import Scope
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Collection, Unit
from memory_runtime.stores.qdrant import QdrantOptions, QdrantVectorStore
from memory_runtime.telemetry.metrics import Metrics
from memory_runtime.tests.contract.conftest import sqlite_place
from memory_runtime.tests.ledgers import ACME, DIM, Place, drop, identity, link, put


async def test_stamps_are_the_living_memories_in_order_of_id(place: Place) -> None:
    ledger = place.open()
    done = await ledger.commit(Unit([put(n) for n in range(5)]))
    await ledger.commit(Unit([put(7, collection=Collection.COORDINATES, vector=None), drop(2)]))
    again = await ledger.commit(Unit([put(3)]))
    wanted = {one.id.bytes: one.seq for one in [*done.receipts, *again.receipts]}
    del wanted[identity(2).bytes]
    every = await ledger.read(lambda view: view.stamps(bytes(16), 10))
    assert every == sorted(wanted.items())
    assert await ledger.read(lambda view: view.stamps(every[1][0], 1)) == every[2:3]


async def test_what_is_fed_is_what_the_ledger_holds(place: Place) -> None:
    follower = Follower(SMFSettings(vector_dim=DIM, half_life="1d"), time.time)
    store = QdrantVectorStore(QdrantOptions("notes", DIM), client=AsyncQdrantClient(":memory:"))
    ledger = place.open()
    feed = VectorFeed(ledger, store, Placement(follower), DIM)
    other = Scope("zeta", "notes")
    await ledger.commit(Unit([put(n, scope=scope, event_time=1e9 + n) for scope in (ACME, other) for n in range(20)]))
    seq = await feed.deliver(await ledger.tail(0))
    assert seq == ledger.head_seq
    await ledger.commit(Unit([put(3, importance=4.0), drop(4), link(1, 2), put(30, expires_at=9e9, pinned=True)]))
    seq = await feed.deliver(await ledger.tail(seq))
    await ledger.transact(lambda transaction: transaction.advance_sink(SINK, seq, 1.0))
    found = await Reconciler(ledger, store, feed).run(repair=False)
    assert (found.equal, found.ledger_rows, found.store_rows, found.pending) == (True, 40, 40, 0)
    assert found.ledger_hash == found.store_hash
    assert await store.count(other) == 20
    await store.erase([identity(3), identity(5, other)])
    found = await Reconciler(ledger, store, feed).run(repair=True)
    assert (found.equal, found.repaired) == (True, 2)
    await store.close()


async def test_a_restored_ledger_takes_its_store_back_from_the_future_that_it_lost(tmp_path: Path) -> None:
    """Highest sequence wins no longer: the abandoned future had more of them."""
    follower = Follower(SMFSettings(vector_dim=DIM, half_life="1d"), time.time)
    store = QdrantVectorStore(QdrantOptions("notes", DIM), client=AsyncQdrantClient(":memory:"))
    place = sqlite_place(tmp_path / "data")

    def opened() -> tuple[Any, Relay, Reconciler]:
        ledger = place.open()
        feed = VectorFeed(ledger, store, Placement(follower), DIM)
        reconciler = Reconciler(ledger, store, feed)
        feed.compare = lambda: reconciler.run(repair=True)
        return ledger, Relay(ledger, feed, Metrics()), reconciler

    async def caught_up(relay: Relay) -> None:
        relay.start()
        await asyncio.wait_for(relay.caught_up(), 30)
        await relay.stop()

    ledger, relay, _ = opened()
    await ledger.commit(Unit([put(n) for n in range(10)]))
    await caught_up(relay)
    ledger.close()
    shutil.copytree(tmp_path / "data", tmp_path / "kept")
    ledger, relay, _ = opened()
    other = np.array([0, 1, 0], np.float32)
    await ledger.commit(Unit([put(1, vector=other), drop(2), put(20), put(21), *(put(3) for _ in range(20))]))
    await caught_up(relay)
    ledger.close()
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "kept", tmp_path / "data")
    ledger, relay, reconciler = opened()
    # the sequences of the lost changes once more: of the same memory, of one that was deleted there, of a new one
    third = np.array([0, 0, 1], np.float32)
    await ledger.commit(Unit([put(1, vector=third), put(2, vector=third), put(30), put(3, vector=third)]))
    await caught_up(relay)
    found = await reconciler.run(repair=False)
    assert (found.equal, found.pending) == (True, 0)
    assert set(await store.seqs([identity(n) for n in range(40)])) == {identity(n) for n in (*range(10), 30)}
    hits = await store.search(ACME, third, 40)
    assert {one.id for one in hits if one.similarity > 0.9} == {identity(1), identity(2), identity(3)}
    await store.close()
    ledger.close()
