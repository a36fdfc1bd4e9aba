"""Property: whatever is stored, replaced, deleted, retried and restarted, the memory equals a dictionary."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memory_runtime.engine import RecallRequest, build_engine
from memory_runtime.model.errors import Conflict
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.sqlite import following

SCOPES = (Scope("a", "x"), Scope("b", "x"))
WORDS = ("fox", "dog", "cat")
Key = tuple[Scope, float, str]


class MemoryMachine(RuleBasedStateMachine):
    """Compares an engine on a real file with a dictionary from (scope, coordinate, type) to (word, version)."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="soma-model-"))
        self.live: dict[Key, tuple[str, int]] = {}
        self.versions: dict[Key, int] = {}
        self.kept: dict[tuple[Scope, str], tuple[float, str, str]] = {}
        self.last_seq = 0

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(step)

    @initialize()
    def open(self) -> None:
        made = SMFSettings(data_dir=self.directory, vector_dim=3, embedding_provider="hash")
        self.engine = build_engine(made)
        self.run(self.engine.start())

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.run(self.engine.close())
        self.loop.close()
        shutil.rmtree(self.directory)

    def _stored(self, key: Key, word: str, version: int, seq: int) -> None:
        self.versions[key] = self.versions.get(key, 0) + 1
        assert version == self.versions[key]
        assert seq > self.last_seq
        self.last_seq = seq
        self.live[key] = (word, version)

    @rule(
        scope=st.sampled_from(SCOPES),
        at=st.integers(0, 3),
        kind=st.sampled_from(("episodic", "semantic")),
        word=st.sampled_from(WORDS),
        importance=st.none() | st.floats(-5, 5),
    )
    def store(self, scope: Scope, at: int, kind: str, word: str, importance: float | None) -> None:
        receipt = self.run(self.engine.store(scope, self._item(at, kind, word, importance)))
        assert receipt.created == ((scope, float(at), kind) not in self.live)
        self._stored((scope, float(at), kind), word, receipt.version, receipt.seq)

    @rule(scope=st.sampled_from(SCOPES), words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
    def store_bulk(self, scope: Scope, words: list[str]) -> None:
        items = [self._item(n % 3, "episodic", word, None) for n, word in enumerate(words)]
        receipts = self.run(self.engine.store_bulk(scope, items))
        for n, (word, receipt) in enumerate(zip(words, receipts, strict=True)):
            self._stored((scope, float(n % 3), "episodic"), word, receipt.version, receipt.seq)

    @rule(scope=st.sampled_from(SCOPES), at=st.integers(0, 3), word=st.sampled_from(WORDS), name=st.sampled_from("kl"))
    def store_with_a_key(self, scope: Scope, at: int, word: str, name: str) -> None:
        body = (float(at), "episodic", word)
        known = self.kept.get((scope, name))
        try:
            receipt = self.run(self.engine.store(scope, self._item(at, "episodic", word, None), idempotency_key=name))
        except Conflict:
            assert known is not None
            assert known != body
            return
        assert receipt.replayed == (known is not None)
        if known is None:
            self.kept[(scope, name)] = body
            self._stored((scope, float(at), "episodic"), word, receipt.version, receipt.seq)

    @rule(scope=st.sampled_from(SCOPES), at=st.integers(0, 3), kind=st.sampled_from(("episodic", "semantic", None)))
    def delete(self, scope: Scope, at: int, kind: str | None) -> None:
        doomed = [key for key in self.live if key[:2] == (scope, float(at)) and kind in (None, key[2])]
        receipt = self.run(self.engine.delete(scope, (float(at),), kind))
        assert receipt.deleted == bool(doomed)
        for key in doomed:
            del self.live[key]
            self.versions[key] += 1
        if doomed:
            assert receipt.seq > self.last_seq
            self.last_seq = receipt.seq

    @precondition(lambda self: self.last_seq)
    @rule()
    def restart(self) -> None:
        self.run(self.engine.close())
        self.open()

    @staticmethod
    def _item(at: int, kind: str, word: str, importance: float | None) -> StoreItem:
        vector = np.array([1, at, WORDS.index(word)], np.float32)
        return StoreItem((float(at),), {"text": word}, kind, vector=vector, importance=importance)

    @invariant()
    def every_way_of_asking_gives_what_the_dictionary_holds(self) -> None:
        if not hasattr(self, "engine"):
            return
        for scope in SCOPES:
            expected = {(key[1], key[2]): value for key, value in self.live.items() if key[0] == scope}
            request = RecallRequest(vector=np.ones(3, np.float32), top_k=50, min_seq=self.last_seq)
            hits = self.run(self.engine.recall(scope, request)).hits
            found = {
                (hit.record.coordinate[0], hit.record.memory_type): (hit.record.payload["text"], hit.record.version)
                for hit in hits
            }
            assert found == expected
            assert len(hits) == len(expected)
            for word in WORDS:
                words = self.run(self.engine.keyword_search(scope, word))
                assert {(one.coordinate[0], one.memory_type) for one in words} == {
                    place for place, value in expected.items() if value[0] == word
                }
            assert self.run(self.engine.stats(scope)).total_memories == len(expected)
        assert not any(self.run(self.engine.ledger.read(lambda view: following.half_visible(view.connection))).values())


MemoryMachine.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestMemoryIsADictionary = MemoryMachine.TestCase
