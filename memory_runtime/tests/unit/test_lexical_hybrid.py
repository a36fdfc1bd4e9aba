"""Hybrid recall through the engine: what fusion adds, and what it must not break."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest, RecallResult
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.surfaces.explanations import factors

DAY = 86_400.0
NOW = 1_700_000_000.0
TALK = [
    "Ana: Did you ever find a home for the kitten?",
    "Ben: Yes, my sister took it last spring.",
    "Ana: That is lovely.",
    "Ben: She named it Biscuit.",
    "Ana: My train was late again.",
    "Ben: I repaired the bicycle.",
]


def said(at: int, text: str, **rest: Any) -> StoreItem:
    values = {"timestamp": NOW - 10 * DAY} | rest
    return StoreItem((float(at), 0.0), {"text": text} | values.pop("payload", {}), **values)


def texts(result: RecallResult) -> list[str]:
    return [hit.record.payload["text"] for hit in result.hits]


def ask(query: str, **rest: Any) -> RecallRequest:
    return RecallRequest(query=query, hybrid=True, **rest)


@pytest.fixture
async def engine(open_engine: Any, scope: Scope) -> MemoryEngine:
    opened: MemoryEngine = await open_engine(clock=lambda: NOW)
    await opened.store_bulk(scope, [said(n, text) for n, text in enumerate(TALK)])
    return opened


async def test_an_answer_is_found_by_the_question_that_stands_before_it(engine: MemoryEngine, scope: Scope) -> None:
    plain = await engine.recall(scope, RecallRequest(query="who has the kitten?", top_k=6))
    hybrid = await engine.recall(scope, ask("who has the kitten?", top_k=2))
    assert texts(hybrid) == TALK[:2]
    assert texts(plain)[:2] != TALK[:2] or hybrid.hits[1].fusion is not None
    second = hybrid.hits[1].fusion
    assert second is not None
    assert second.matched.keys() == {"kitten"}
    assert second.around > 0


async def test_a_word_is_found_in_another_form(engine: MemoryEngine, scope: Scope) -> None:
    result = await engine.recall(scope, ask("repairing bicycles", top_k=1))
    assert texts(result) == [TALK[5]]
    fusion = result.hits[0].fusion
    assert fusion is not None
    assert fusion.matched.keys() == {"repairing", "bicycles"}


async def test_what_was_said_in_another_sitting_lends_nothing(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(clock=lambda: NOW)
    await engine.store(scope, said(1, "the kitten question", timestamp=NOW - 5 * DAY))
    await engine.store(scope, said(2, "an unrelated remark", timestamp=NOW - 4 * DAY))
    result = await engine.recall(scope, ask("kitten", explain=True))
    assert all(hit.fusion is not None and hit.fusion.around == 0 for hit in result.hits)


async def test_decay_and_importance_apply_to_the_fused_score_and_explain_says_both_parts(
    engine: MemoryEngine, scope: Scope
) -> None:
    (hit,) = (await engine.recall(scope, ask("the kitten's home", top_k=1, half_life=5 * DAY, explain=True))).hits
    assert hit.fusion is not None
    assert hit.explanation is not None
    assert hit.explanation.similarity == hit.fusion.relevance
    assert hit.score == hit.explanation.score
    assert hit.score == pytest.approx(hit.fusion.relevance * 2.0**-2)
    assert hit.log2_score == pytest.approx(math.log2(hit.score))
    own = (1 - hit.fusion.words_share) * hit.fusion.vector + hit.fusion.words_share * hit.fusion.words
    assert hit.fusion.relevance == pytest.approx((own + hit.fusion.around) / 2.1)


async def test_an_old_memory_yields_to_a_fresh_one_under_decay_and_is_told_as_suppressed(
    open_engine: Any, scope: Scope
) -> None:
    engine: MemoryEngine = await open_engine(clock=lambda: NOW)
    await engine.store(scope, said(1, "the kitten sleeps in the kitchen", timestamp=NOW - 400 * DAY))
    await engine.store(scope, said(2, "the kitten went out", timestamp=NOW - DAY))
    undecayed = await engine.recall(scope, ask("kitten sleeps kitchen", top_k=1))
    decayed = await engine.recall(scope, ask("kitten sleeps kitchen", top_k=1, half_life=7 * DAY, explain=True))
    assert [hit.record.coordinate[0] for hit in undecayed.hits] == [1.0]
    assert [hit.record.coordinate[0] for hit in decayed.hits] == [2.0]
    assert [one.coordinate[0] for one in decayed.suppressed] == [1.0]


async def test_neither_answer_nor_neighbour_comes_from_another_scope_type_or_filter(
    engine: MemoryEngine, scope: Scope
) -> None:
    other = Scope("rival", scope.namespace)
    await engine.store_bulk(other, [said(n, f"kitten {n}") for n in range(3)])
    await engine.store(scope, said(90, "the kitten fact", memory_type="semantic", payload={"who": "ana"}))
    result = await engine.recall(scope, ask("kitten", top_k=50))
    assert all(hit.record.tenant == scope.tenant for hit in result.hits)
    typed = await engine.recall(scope, ask("kitten", top_k=50, memory_type="semantic"))
    assert texts(typed) == ["the kitten fact"]
    filtered = await engine.recall(scope, ask("kitten", top_k=50, filters={"who": "ana"}, explain=True))
    assert texts(filtered) == ["the kitten fact"]
    assert filtered.hits[0].fusion is not None
    assert filtered.hits[0].fusion.around == 0


async def test_a_deleted_memory_neither_returns_nor_lends(engine: MemoryEngine, scope: Scope) -> None:
    await engine.delete(scope, (0.0, 0.0))
    result = await engine.recall(scope, ask("kitten", top_k=10))
    assert TALK[0] not in texts(result)
    assert all(hit.fusion is not None and not hit.fusion.matched for hit in result.hits)


async def test_as_of_hides_what_came_later(engine: MemoryEngine, scope: Scope) -> None:
    await engine.store(scope, said(7, "the kitten grew into a cat", timestamp=NOW - DAY))
    then = await engine.recall(scope, ask("kitten cat", top_k=10, as_of=NOW - 2 * DAY))
    assert "the kitten grew into a cat" not in texts(then)
    now = await engine.recall(scope, ask("kitten cat", top_k=10))
    assert texts(now)[0] == "the kitten grew into a cat"


async def test_a_date_in_the_question_prefers_its_time(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(clock=lambda: NOW)  # 14 November 2023
    for n, day in enumerate((300, 180, 60)):
        await engine.store(scope, said(n, "we went hiking", timestamp=NOW - day * DAY))
    result = await engine.recall(scope, ask("where did we go hiking in May 2023?", top_k=1))
    assert result.hits[0].record.coordinate[0] == 1.0
    assert result.hits[0].fusion is not None
    assert result.hits[0].fusion.dates == 1.0


async def test_a_linked_memory_is_lifted_by_what_it_is_linked_with(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(clock=lambda: NOW)
    for n, text in enumerate(("the kitten is called Biscuit", "vet appointment", "dentist appointment")):
        await engine.store(scope, said(n, text, timestamp=NOW - n * DAY))
    before = await engine.recall(scope, ask("kitten appointment", top_k=3))
    await engine.link(scope, (0.0, 0.0), (1.0, 0.0), weight=1.0)
    after = await engine.recall(scope, ask("kitten appointment", top_k=3))

    def score(result: RecallResult, text: str) -> float:
        return next(hit.score for hit in result.hits if hit.record.payload["text"] == text)

    assert score(after, "vet appointment") > score(before, "vet appointment")
    assert score(after, "dentist appointment") == score(before, "dentist appointment")


async def test_words_that_no_index_can_hold_fall_back_to_vectors(engine: MemoryEngine, scope: Scope) -> None:
    result = await engine.recall(scope, ask("?!", top_k=3))
    assert all(hit.fusion is not None and hit.fusion.words == 0 for hit in result.hits)


@pytest.mark.parametrize(
    "text", ['"', "AND OR NOT", "NEAR(kitten", "kitten*", "text:kitten", "kitten' --", "(((", "\x00a"]
)
async def test_query_syntax_in_a_question_is_only_text(engine: MemoryEngine, scope: Scope, text: str) -> None:
    await engine.recall(scope, ask(text, top_k=3))


async def test_an_empty_scope_answers_nothing(engine: MemoryEngine) -> None:
    assert (await engine.recall(Scope("nobody", "home"), ask("kitten"))).hits == ()


async def test_scores_fall_ids_are_distinct_and_zero_never_returns(engine: MemoryEngine, scope: Scope) -> None:
    hits = (await engine.recall(scope, ask("kitten train bicycle", top_k=50))).hits
    logs = [hit.log2_score for hit in hits]
    assert logs == sorted(logs, reverse=True)
    assert len({hit.record.id for hit in hits}) == len(hits)
    assert all(0 < hit.score <= 1 for hit in hits)


async def test_a_clients_vector_is_used_beside_the_words_of_memories(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(clock=lambda: NOW, vector_dim=3)
    for n, vector in enumerate(([1, 0, 0], [0, 1, 0])):
        item = StoreItem((float(n),), {"text": f"memory {n}"}, vector=np.array(vector, np.float32), timestamp=NOW)
        await engine.store(scope, item)
    asked = RecallRequest(vector=np.array([0, 1, 0], np.float32), hybrid=True, top_k=1)
    assert [hit.record.coordinate[0] for hit in (await engine.recall(scope, asked)).hits] == [1.0]


@pytest.mark.parametrize(("term", "exact", "found"), [("named", True, 1), ("names", True, 0), ("names", False, 1)])
async def test_exact_search_asks_for_the_very_word_where_the_index_holds_stems(
    engine: MemoryEngine, scope: Scope, term: str, exact: bool, found: int
) -> None:
    assert len(await engine.keyword_search(scope, term, exact=exact)) == found


async def test_an_explained_hybrid_hit_shows_both_parts_on_the_wire(engine: MemoryEngine, scope: Scope) -> None:
    (hit,) = (await engine.recall(scope, ask("kitten", top_k=1, explain=True))).hits
    shown = factors(hit)
    assert shown["similarity"] == shown["fusion"]["relevance"]
    assert shown["fusion"]["matched"].keys() == {"kitten"}
    assert factors((await engine.recall(scope, ask("kitten", top_k=1))).hits[0]) == {}
