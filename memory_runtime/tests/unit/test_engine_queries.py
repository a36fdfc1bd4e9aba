"""How the engine is asked: filters, decay, words, pages, links, the old collections; and what it refuses."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.model.errors import (
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)
from memory_runtime.model.records import Scope
from memory_runtime.tests.samples import DAY, Clock, asked, coordinates, item


async def test_decay_orders_by_event_time_and_explain_says_what_it_suppressed(open_engine: Any, scope: Scope) -> None:
    clock = Clock()
    engine: MemoryEngine = await open_engine(vector_dim=3, half_life="1d", clock=clock)
    await engine.store(scope, item(1, [1, 0, 0], timestamp=clock.now - 10 * DAY))
    await engine.store(scope, item(2, [1, 0.5, 0], timestamp=clock.now))
    assert coordinates(await engine.recall(scope, asked([1, 0, 0]))) == [2.0, 1.0]
    assert coordinates(await engine.recall(scope, asked([1, 0, 0], half_life=None))) == [1.0, 2.0]
    result = await engine.recall(scope, asked([1, 0, 0], top_k=1, explain=True))
    assert [one.coordinate for one in result.suppressed] == [(1.0,)]
    explanation = result.hits[0].explanation
    assert explanation is not None
    assert explanation.score == pytest.approx(result.hits[0].score)
    clock.now += DAY
    assert (await engine.recall(scope, asked([1, 0, 0], top_k=1))).hits[0].score == pytest.approx(explanation.score / 2)
    past = await engine.recall(scope, asked([1, 0, 0], as_of=clock.now - 5 * DAY))
    assert coordinates(past) == [1.0]


async def test_an_answer_holds_so_many_bytes_and_a_page_ends_early(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3, max_response_body_mb=1)
    text = "zebra " * 10_000
    await engine.store_bulk(scope, [item(n, [1, 0, 0], payload={"text": text}) for n in range(30)])
    refused = (
        engine.recall(scope, asked([1, 0, 0], top_k=30)),
        engine.recall(scope, RecallRequest(query="zebra", top_k=30, hybrid=True)),
        engine.recall(scope, asked([1, 0, 0], top_k=30, filters={"text": text})),
        engine.keyword_search(scope, "zebra"),
    )
    for call in refused:
        with pytest.raises(PayloadTooLarge) as caught:
            await call
        assert "SOMA_MAX_RESPONSE_BODY_MB" in str(caught.value.remedy)
    # who is refused takes nobody who comes at the same time with him
    asked_at_once = [engine.recall(scope, asked([1, 0, 0], top_k=30 if n == 2 else 3)) for n in range(5)]
    fates = await asyncio.gather(*asked_at_once, return_exceptions=True)
    assert [fate for n, fate in enumerate(fates) if n != 2 and isinstance(fate, BaseException)] == []
    seen: list[float] = []
    after = None
    while True:
        page = await engine.scan(scope, after=after, limit=30)
        assert 0 < len(page.memories) < 15
        seen += [one.coordinate[0] for one in page.memories]
        after = page.memories[-1].id
        if not page.more:
            break
    assert sorted(seen) == [float(n) for n in range(30)]


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("similarity_exponent", [1.0, 2.0])
async def test_no_score_is_zero_however_old_a_memory_is(
    open_engine: Any, scope: Scope, hybrid: bool, similarity_exponent: float
) -> None:
    clock = Clock()
    engine: MemoryEngine = await open_engine(
        vector_dim=3, half_life="1h", clock=clock, similarity_exponent=similarity_exponent
    )
    await engine.store(scope, item(1, [1, 0, 0], timestamp=clock.now - 4000 * DAY, payload={"text": "the old zebra"}))
    await engine.store(scope, item(2, [1, 0, 0], timestamp=clock.now - 3000 * DAY, payload={"text": "a young zebra"}))
    await engine.store(scope, item(3, [-1, 0, 0], payload={"text": "opposite"}))
    query: dict[str, Any] = {"terms": ("zebra",), "hybrid": True} if hybrid else {}
    for request in (asked([1, 0, 0], explain=True, **query), RecallRequest(query="zebra", explain=True, hybrid=hybrid)):
        hits = (await engine.recall(scope, request)).hits
        old = [hit for hit in hits if hit.record.coordinate != (3.0,)]
        assert [hit.record.coordinate for hit in old] == [(2.0,), (1.0,)]
        assert all(hit.score > 0 and math.isfinite(hit.log2_score) for hit in hits)
        assert old[0].log2_score > old[1].log2_score
        assert all(hit.explanation is not None and hit.explanation.score > 0 for hit in hits)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"tag": "a"}, [1, 3]),
        ({"tag": "a", "n": 3}, [3]),
        ({"n": 3.0}, [3]),
        ({"n": "3"}, []),
        ({"flag": True}, [1]),
        ({"flag": 1}, [2]),
        ({"metadata.source": "mail"}, [2]),
        ({"dotted.key": "x"}, [3]),
        ({"nothing": None}, [1]),
        ({"list": [1, 2]}, [2]),
        ({"memory_type": "episodic"}, [1, 2, 3]),
        ({"tag": "' OR 1=1 --"}, []),
        ({"missing": "x"}, []),
    ],
)
async def test_filters_are_equalities_applied_before_the_top_k(
    open_engine: Any, scope: Scope, filters: dict[str, Any], expected: list[float]
) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    payloads: list[dict[str, Any]] = [
        {"tag": "a", "n": 1, "flag": True, "nothing": None},
        {"tag": "b", "n": 2, "flag": 1, "metadata": {"source": "mail"}, "list": [1, 2]},
        {"tag": "a", "n": 3, "dotted.key": "x"},
    ]
    await engine.store_bulk(scope, [item(n, [1, 0.1 * n, 0], payload=one) for n, one in enumerate(payloads, 1)])
    await engine.store_bulk(
        scope, [item(n, [1, 0, 0], payload={"tag": "noise"}, memory_type="noise") for n in range(10, 40)]
    )
    found = await engine.recall(scope, asked([1, 0, 0], top_k=3, filters=filters))
    assert sorted(coordinates(found)) == expected


@pytest.mark.parametrize("name", ["", 'a"b', "a\x00b", "a\\b", "$", "é"])
async def test_a_filter_may_name_any_field(open_engine: Any, scope: Scope, name: str) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    await engine.store_bulk(scope, [item(n, [1, 0, 0], payload={name: n}) for n in (1, 2)])
    assert coordinates(await engine.recall(scope, asked([1, 0, 0], filters={name: 2}))) == [2]
    with pytest.raises(InvalidArgument) as caught:
        await engine.recall(scope, asked([1, 0, 0], filters={name + "x" * 257: 1}))
    assert caught.value.field == "filters"


async def test_hybrid_recall_boosts_the_words_and_finds_them_beyond_the_plain_top_k(
    open_engine: Any, scope: Scope
) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    await engine.store_bulk(scope, [item(n, [1, 0.01 * n, 0], payload={"text": "plain"}) for n in range(10)])
    await engine.store(scope, item(50, [1, 0.6, 0], payload={"text": "The Zebra crossed"}))
    plain = await engine.recall(scope, asked([1, 0, 0], top_k=3))
    boosted = await engine.recall(scope, asked([1, 0, 0], top_k=3, hybrid=True, terms=("zebra",), boost=2.0))
    assert 50.0 not in coordinates(plain)
    assert coordinates(boosted)[0] == 50.0
    assert boosted.hits[0].lexical


async def test_keyword_search_knows_phrases_any_words_and_case(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    texts = ["The quick brown fox", "brown quick", "Étude in C++", "QUICK BROWN"]
    await engine.store_bulk(scope, [item(n, [1, 0, 0], payload={"text": text}) for n, text in enumerate(texts)])

    async def found(term: str, **options: Any) -> set[float]:
        return {one.coordinate[0] for one in await engine.keyword_search(scope, term, **options)}

    assert await found("quick brown") == {0.0, 3.0}
    assert await found("quick brown", case_sensitive=True) == {0.0}
    assert await found("quick brown", exact=False) == {0.0, 1.0, 3.0}
    assert await found("etude") == {2.0}
    assert await found("++") == {2.0}
    assert await found('" OR *') == set()
    assert await found("quick", memory_type="semantic") == set()


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (RecallRequest(), "query"),
        (RecallRequest(query="a", vector=np.ones(3, np.float32)), "query"),
        (RecallRequest(query=" "), "query"),
        (RecallRequest(query="a", top_k=0), "top_k"),
        (RecallRequest(query="a", top_k=1001), "top_k"),
        (RecallRequest(query="a", half_life=-1.0), "half_life"),
        (RecallRequest(query="a", as_of=math.nan), "as_of"),
        (RecallRequest(query="a", min_seq=-1), "min_seq"),
        (RecallRequest(query="a", boost=0.5), "boost"),
    ],
)
async def test_a_bad_query_is_refused_by_field(open_engine: Any, scope: Scope, bad: RecallRequest, field: str) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    with pytest.raises(InvalidArgument) as caught:
        await engine.recall(scope, bad)
    assert caught.value.field == field


async def test_a_future_min_seq_is_refused_and_says_where_the_memory_is(
    open_engine: Any, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory_runtime.engine.engine.MIN_SEQ_WAIT_SECONDS", 0.05)
    engine: MemoryEngine = await open_engine(vector_dim=3)
    with pytest.raises(Unavailable, match="min_seq: 5"):
        await engine.recall(scope, asked([1, 0, 0], min_seq=5))


async def test_the_graph_walks_typed_edges_and_refuses_strangers(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    await engine.store_bulk(scope, [item(n, [1, 0, 0]) for n in range(5)])
    for source, target in ((0, 1), (1, 2), (2, 3), (0, 4)):
        await engine.link(scope, (float(source),), (float(target),), link_type="next", weight=1.0 + target)
    await engine.link(scope, (0.0,), (3.0,), link_type="jump", metadata={"why": "test"})
    near = await engine.neighbors(scope, (0.0,), link_type="next", hops=2)
    assert [(one.coordinate, one.hops) for one in near] == [((4.0,), 1), ((1.0,), 1), ((2.0,), 2)]
    path = await engine.shortest_path(scope, (0.0,), (3.0,), link_type="next")
    assert path.coordinates == ((0.0,), (1.0,), (2.0,), (3.0,))
    shortest = await engine.shortest_path(scope, (0.0,), (3.0,))
    assert [edge.link_type for edge in shortest.edges] == ["jump"]
    assert not (await engine.shortest_path(scope, (3.0,), (0.0,))).found
    assert not (await engine.shortest_path(scope, (0.0,), (3.0,), link_type="next", max_length=2)).found
    await engine.link(scope, (0.0,), (99.0,))
    await engine.link(scope, (0.0,), (99.0,), link_type="cites")
    assert await engine.unlink(scope, (0.0,), (99.0,), link_type="none") == 0
    assert await engine.unlink(scope, (0.0,), (99.0,), link_type="cites") == 1
    assert await engine.unlink(scope, (0.0,), (99.0,)) == 1
    assert await engine.unlink(scope, (0.0,), (99.0,)) == 0
    assert (4.0,) in [one.coordinate for one in await engine.neighbors(scope, (0.0,))]


async def test_legacy_collections_are_apart_and_take_a_zero_coordinate(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    for coordinate in ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (-1.0, 0.0, 0.0)):
        await engine.coordinate_store(scope, coordinate, {"at": list(coordinate)})
    await engine.coordinate_store(scope, (1.0, 0.0, 0.0), {"other": True}, "episodic")
    for _ in range(2):
        hits = await engine.coordinate_recall(scope, (2.0, 0.0, 0.0), top_k=2)
        assert [hit.record.coordinate for hit in hits] == [(1.0, 0.0, 0.0), (1.0, 1.0, 0.0)]
        nearest = await engine.coordinate_recall(scope, (0.0, 0.0, 0.0), top_k=1)
        assert nearest[0].record.coordinate == (0.0, 0.0, 0.0)
        assert (await engine.stats(scope)).total_memories == 0
        assert (await engine.stats(scope)).coordinates == 5
        await engine.close()
        engine = await open_engine(vector_dim=3)
    assert coordinates(await engine.recall(scope, asked([1, 0, 0]))) == []
    assert (await engine.coordinate_delete(scope, (1.0, 0.0, 0.0))).deleted
    assert await engine.coordinate_recall(scope, (1.0, 0.0, 0.0), memory_type="episodic") == []
    with pytest.raises(NotFound):
        await engine.get(scope, (1.0, 1.0, 0.0))


async def test_pages_give_every_memory_of_the_scope_once_with_its_vector(open_engine: Any, scope: Scope) -> None:
    engine: MemoryEngine = await open_engine(vector_dim=3)
    await engine.store_bulk(scope, [item(n, [1, n, 0]) for n in range(25)])
    await engine.store_bulk(Scope("other", "notes"), [item(n, [1, n, 0]) for n in range(25)])
    seen = []
    after = None
    while page := (await engine.scan(scope, after=after, limit=10)).memories:
        seen += page
        after = page[-1].id
    assert sorted(one.coordinate[0] for one in seen) == [float(n) for n in range(25)]
    assert all(one.vector is not None and one.tenant == "acme" for one in seen)
