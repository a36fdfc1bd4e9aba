"""The compat profile: keyword search and hybrid recall by the rules of the service we replace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.engine.compatibility import Terms, derived_terms
from memory_runtime.model.records import Scope, StoreItem

PAYLOADS: list[dict[str, Any]] = [
    {"text": "The adopted cat sleeps", "tags": ["cat", "home"]},
    {"text": "cat"},
    {"text": "CAT"},
    {"text": "a concatenation of strings", "note": {"deep": ["Category theory"]}},
    {"text": "dogs only", "id": "0xDEADbeef"},
    {"text": "我吃拉面", "place": "Straße"},
    {"text": 'quote " and \\ backslash'},
]


@pytest.fixture
async def engine(open_engine: Any, scope: Scope) -> MemoryEngine:
    opened: MemoryEngine = await open_engine(compat_profile=True, importance_exponent=0.0, vector_dim=2)
    vectors = [[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0], [0.9, 0.1], [0.1, 0.9]]
    items = [
        StoreItem((float(n),), one, vector=np.array(vector, np.float32), importance=float(5 - n))
        for n, (one, vector) in enumerate(zip(PAYLOADS, vectors, strict=True))
    ]
    await opened.store_bulk(scope, items)
    return opened


async def keywords(engine: MemoryEngine, scope: Scope, term: str, **rest: Any) -> list[int]:
    return [int(one.coordinate[0]) for one in await engine.keyword_search(scope, term, **rest)]


async def test_keyword_search_compares_whole_fields_or_finds_substrings(engine: MemoryEngine, scope: Scope) -> None:
    assert await keywords(engine, scope, "cat") == [0, 1, 2]
    assert await keywords(engine, scope, "CAT", case_sensitive=True) == [2]
    assert await keywords(engine, scope, "cat", exact=False) == [0, 1, 2, 3]
    assert await keywords(engine, scope, "cat", exact=False, case_sensitive=True) == [0, 1, 3]
    assert await keywords(engine, scope, "CATEN", exact=False) == [3]
    assert await keywords(engine, scope, "拉", exact=False) == [5]
    assert await keywords(engine, scope, "straße") == [5]
    assert await keywords(engine, scope, '" and \\', exact=False) == [6]
    assert await keywords(engine, scope, "cat", exact=False, top_k=2) == [0, 1]
    assert await keywords(engine, scope, "cat", exact=False, filters={"text": "CAT"}) == [2]
    assert await keywords(engine, scope, "absent") == []


async def test_without_the_profile_words_are_found_as_words(open_engine: Any, scope: Scope) -> None:
    engine = await open_engine()
    await engine.store_bulk(scope, [StoreItem((float(n),), one) for n, one in enumerate(PAYLOADS)])
    assert set(await keywords(engine, scope, "cat")) == {0, 1, 2}
    assert set(await keywords(engine, scope, "cat", exact=False)) == {0, 1, 2}


async def recalled(engine: MemoryEngine, scope: Scope, **rest: Any) -> list[tuple[int, float]]:
    asked = {"vector": np.array([1.0, 0.0], np.float32), "hybrid": True, "top_k": 7} | rest
    found = await engine.recall(scope, RecallRequest(**asked))
    return [(int(hit.record.coordinate[0]), pytest.approx(hit.score, abs=1e-6)) for hit in found.hits]


async def test_hybrid_recall_adds_the_boost_for_each_match(engine: MemoryEngine, scope: Scope) -> None:
    found = await recalled(engine, scope, terms=("cat", "home"))
    # one term in one text field is a match: memory 0 has two; importance counts for nothing
    assert found[:3] == [(0, 1.0 + 2 * 2.0), (1, 0.8 + 2.0), (2, 0.6 + 2.0)]
    assert (5, 0.9938837) in found
    inside = await recalled(engine, scope, terms=("cat",), exact=False, boost=3.0)
    assert inside[:4] == [(0, 1.0 + 2 * 3.0), (3, 0.0 + 2 * 3.0), (1, 0.8 + 3.0), (2, 0.6 + 3.0)]
    cased = await recalled(engine, scope, terms=("CAT",), case_sensitive=True)
    assert cased[0] == (2, 0.6 + 2.0)


async def test_a_memory_unlike_the_query_is_found_by_its_words(engine: MemoryEngine, scope: Scope) -> None:
    assert (await recalled(engine, scope, terms=("0xdeadbeef",)))[0] == (4, 2.0)
    assert (await recalled(engine, scope, terms=("0xdeadbeef",), top_k=1)) == [(4, 2.0)]
    assert 4 not in [n for n, _ in await recalled(engine, scope, terms=("0xdeadbeef",), filters={"text": "cat"})]


def test_a_query_without_terms_names_them_itself() -> None:
    query = "find \"red cat\" or 'blue' in 0xABCD by Ann Smith-Jones"
    assert derived_terms(query) == ("red cat", "blue", "0xABCD", "find", "Smith-Jones")
    assert derived_terms("is it so?") == ()


def test_matches_are_counted_by_field_and_term() -> None:
    payload = {"a": "Cat", "b": ["cat", {"c": "cats"}], "n": 5, "none": None}
    assert Terms(("cat",), exact=True, case_sensitive=False).matches(payload) == 2
    assert Terms(("cat",), exact=True, case_sensitive=True).matches(payload) == 1
    assert Terms(("cat", "ca"), exact=False, case_sensitive=False).matches(payload) == 6
    deep: Any = "cat"
    for _ in range(9):
        deep = [deep]
    assert Terms(("cat",), exact=True, case_sensitive=False).matches({"a": deep}) == 0
