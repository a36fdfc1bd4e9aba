"""What can be asked of every ledger: the same question has the same answer on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import math
import uuid
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import AuditEntry, Collection, Unit
from memory_runtime.stores.values import Facts, Visible
from memory_runtime.tests.ledgers import ACME, DIM, Place, drop, identity, key, link, put

SEEN = Visible(ACME, 5000.0)


def words(view: Any, term: str, **rest: Any) -> list[float]:
    asked = {"exact": True, "case_sensitive": False, "limit": 50, "memory_type": None, "filters": None, "now": 5000.0}
    return [one.coordinate[0] for one in view.by_words(ACME, term, **(asked | rest))]


async def test_words_are_found_as_they_stand_or_by_their_stem(place: Place) -> None:
    ledger = place.open()
    texts = {
        1: "She adopted a black cat in Paris",
        2: "The cat sat; the cat slept. A café!",
        3: "adopt, adopts, adopting",
        4: "CAT scans at 50% off: a_b (x-y)",
        5: "nothing of the kind",
        6: "black   cat\nblack-cat",
    }
    await ledger.commit(Unit([put(n, text, payload=json.dumps({"text": text})) for n, text in texts.items()]))

    def look(view: Any) -> None:
        assert words(view, "cat")[:2] == [2.0, 6.0] or words(view, "cat")[:2] == [6.0, 2.0]
        assert set(words(view, "cat")) == {1.0, 2.0, 4.0, 6.0}
        assert words(view, "CAT", case_sensitive=True) == [4.0]
        assert set(words(view, "black cat")) == {1.0, 6.0}
        assert set(words(view, "adopt")) == {3.0}
        assert set(words(view, "adopting cats", exact=False)) == {1.0, 2.0, 3.0, 4.0, 6.0}
        assert words(view, "CAFE") == [2.0]
        assert words(view, "%") == [4.0]
        assert words(view, "!") == [2.0]
        assert words(view, "$") == []
        assert words(view, "cat", limit=1) == words(view, "cat")[:1]
        assert view.any_word(ACME, "!?", limit=5, now=5000.0) is None
        assert view.any_word(ACME, "zebra", limit=5, now=5000.0) == []
        assert view.frequency("adopted", limit=9) == 2
        assert view.frequency("cats", limit=2) == 3
        assert view.frequency("?", limit=2) == 0

    await ledger.read(look)
    await ledger.commit(Unit([put(2, "no more of them", payload="{}"), drop(6)]))
    assert set(await ledger.read(lambda view: words(view, "cat"))) == {1.0, 4.0}


async def test_bm25_is_the_formula(place: Place) -> None:
    """k1 1.2, b 0.75, over the whole ledger; sums over words; phrases count as they stand."""
    ledger = place.open()
    other = Scope("other", "notes")
    texts = ["red fox", "red red fox jumps over the lazy dog", "blue bird sings", "a red house with a fox in it", "dog"]
    await ledger.commit(Unit([put(n, text) for n, text in enumerate(texts)]))
    await ledger.commit(Unit([put(n, "green grass grows here", scope=other) for n in range(6)]))
    lengths = [len(one.split()) for one in texts]
    mean = (sum(lengths) + 24) / 11

    def score(n: int, tf: int, documents: int) -> float:
        idf = np.log((11 - documents + 0.5) / (documents + 0.5))
        return float(idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * lengths[n] / mean)))

    def look(view: Any) -> None:
        best = view.best_by_words(SEEN, ["red", "dogs"], limit=10)
        expected = {0: score(0, 1, 3), 1: score(1, 2, 3) + score(1, 1, 2), 3: score(3, 1, 3), 4: score(4, 1, 2)}
        assert best == pytest.approx({identity(n).bytes: one for n, one in expected.items()})
        assert list(best) == sorted(best, key=best.__getitem__, reverse=True)
        hits = view.any_word(ACME, "red dog", limit=2, now=5000.0)
        assert [hit.id for hit in hits] == list(best)[:2]
        assert [-hit.rank for hit in hits] == pytest.approx(list(best.values())[:2])
        rows = {row.id: row.row for row in view.rows(SEEN, list(best))}
        scores = view.word_scores("red", list(rows.values()))
        assert scores == pytest.approx({rows[identity(n).bytes]: score(n, tf, 3) for n, tf in ((0, 1), (1, 2), (3, 1))})
        phrase = view.best_by_words(SEEN, ["red fox"], limit=10)
        assert phrase == pytest.approx({identity(n).bytes: score(n, 1, 2) for n in (0, 1)})
        grass = view.best_by_words(Visible(other, 5000.0), ["grass"], limit=10)
        least = 1e-6 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 4 / mean))
        assert list(grass.values()) == pytest.approx([least] * 6)

    await ledger.read(look)


async def test_filters_compare_by_type_and_value(place: Place) -> None:
    ledger = place.open()
    payloads: list[Any] = [
        {"a": 1, "s": "x", "n": None, "b": True, "m": {"source": "web"}, "l": [1, 2]},
        {"a": 1.0, "s": "1", "b": False, "m.source": "web", "l": [1.0, 2]},
        {"a": "1", "m": {"source": 3}, "importance": 7, "memory_type": "own"},
        {"a": 2**70, "big": 0.1, "zero": "nul\0nul", "m": [{"source": "web"}]},
        {"a": True, "é": "ü"},
    ]
    texts = [json.dumps(one, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for one in payloads]
    await ledger.commit(Unit([put(n, payload=text, importance=0.5) for n, text in enumerate(texts)]))

    def found(view: Any, **filters: Any) -> list[int]:
        ids = view.allowed_ids(ACME, filters, memory_type=None, now=5000.0)
        return sorted(n for n in range(len(payloads)) if identity(n).bytes in ids)

    def look(view: Any) -> None:
        assert found(view, a=1) == found(view, a=1.0) == [0, 1]
        assert found(view, a="1") == [2]
        assert found(view, a=True) == [4]
        assert found(view, a=2**70) == [3]
        assert found(view, n=None) == [0]
        assert found(view, b=False) == [1]
        assert found(view, **{"m.source": "web"}) == [0, 1]
        assert found(view, **{"m.source": 3}) == [2]
        assert found(view, l=[1, 2]) == [0, 1]
        assert found(view, l=[True, 2]) == []
        assert found(view, m={"source": "web"}) == [0]
        assert found(view, big=0.1) == [3]
        assert found(view, é="ü") == [4]
        assert found(view, importance=7) == [2]
        assert found(view, importance=0.5) == [0, 1, 3, 4]
        assert found(view, memory_type="episodic") == [0, 1, 3, 4]
        assert found(view, memory_type="own") == [2]
        assert found(view, a=1, s="x") == [0]
        assert found(view, nothing=1) == []
        for absent in ('with"quote', "", "line\nbreak"):
            assert found(view, **{absent: 1}) == []
        with pytest.raises(InvalidArgument):
            found(view, **{"x" * 300: 1})
        with pytest.raises(InvalidArgument):
            found(view, **{f"k{n}": n for n in range(33)})
        with pytest.raises(InvalidArgument):
            found(view, a=float("nan"))

    await ledger.read(look)
    record = await ledger.get(identity(3))
    assert record.payload == payloads[3]


async def test_what_is_pinned_or_held_is_found_beyond_its_ttl(place: Place) -> None:
    """It is kept, so every door shows it: an export without it would be a backup without it."""
    ledger = place.open()
    late = {"expires_at": 1500.0}
    await ledger.commit(Unit([put(1, **late, hold=True), put(2, **late, pinned=True), put(3, **late), put(4, **late)]))
    entry = AuditEntry("acme", "me", "hold", "notes/4.0", 1.0)
    assert await ledger.transact(lambda transaction: transaction.hold(ACME, "4.0", None, True, entry)) == 1
    guard = key("request:held", at=2000.0, implicit=True)
    await ledger.commit(Unit([put(1, **late)], guard))

    def look(view: Any) -> None:
        for number, there in ((1, 1), (2, 1), (3, 0), (4, 1)):
            assert len(view.at_coordinate(ACME, (float(number),), None, 5000.0)) == there
        there = {identity(number) for number in (1, 2, 4)}
        assert {one.id for one in view.page(ACME, after=None, limit=9, memory_type=None, now=5000.0)} == there
        ids = view.allowed_ids(ACME, {}, memory_type=None, now=5000.0)
        assert {uuid.UUID(bytes=one) for one in ids} == there
        between = view.coordinates_between(ACME, (0.0,), (9.0,), memory_type=None, limit=9, now=5000.0)
        assert between == [(1.0,), (2.0,), (4.0,)]
        assert sorted(words(view, "words")) == [1.0, 2.0, 4.0]
        hits = view.any_word(ACME, "words", limit=9, now=5000.0)
        assert {uuid.UUID(bytes=one.id if isinstance(one.id, bytes) else one.id.bytes) for one in hits} == there
        assert len(view.rows(SEEN, [identity(number).bytes for number in range(1, 5)])) == 3
        assert view.find_reply(guard) is not None
        assert sorted(view.held_beyond(1000.0, 2000.0)) == sorted(identity(number).bytes for number in (1, 4))
        assert view.held_beyond(1501.0, 2000.0) == []
        assert [one[0] for one in view.expired(5000.0, 9)] == [identity(3)]

    await ledger.read(look)
    ends = {uuid.UUID(bytes=i): at for run in ledger.scan(DIM) for i, at in zip(run.ids, run.expires_at, strict=True)}
    assert ends == {identity(3): 1500.0} | dict.fromkeys(map(identity, (1, 2, 4)), math.inf)


async def test_records_by_id_place_range_and_page(place: Place) -> None:
    ledger = place.open()
    away = Scope("acme", "away")
    await ledger.commit(Unit([put(n) for n in range(6)]))
    await ledger.commit(
        Unit([put(1, memory_type="semantic"), put(3, expires_at=4000.0), put(9, scope=away), drop(5), put(-1)])
    )
    await ledger.commit(Unit([put(2, "", collection=Collection.COORDINATES, vector=None, memory_type="m")]))

    def look(view: Any) -> None:
        assert view.get(identity(5)) is None
        assert set(view.by_ids([identity(0).bytes, identity(5).bytes])) == {identity(0).bytes}
        at = view.at_coordinate(ACME, (1.0,), None, 5000.0)
        assert [one.memory_type for one in at] == ["semantic", "episodic"]
        assert view.at_coordinate(ACME, (3.0,), None, 5000.0) == []
        assert len(view.at_coordinate(ACME, (3.0,), None, 3000.0)) == 1
        assert view.types_at(ACME, (1.0,), Collection.MEMORIES) == ["episodic", "semantic"]
        assert view.types_at(ACME, (2.0,), Collection.COORDINATES) == ["m"]
        between = view.coordinates_between(ACME, (-1.0,), (2.0,), memory_type=None, limit=9, now=5000.0)
        assert between == [(-1.0,), (0.0,), (1.0,), (2.0,)]
        pages: list[Any] = []
        while found := view.page(ACME, after=pages[-1].id if pages else None, limit=2, memory_type=None, now=5000.0):
            pages += found
        assert [one.id for one in pages] == sorted((one.id for one in pages), key=lambda one: one.bytes)
        assert len(pages) == 6
        assert all(one.vector.tolist() == [1, 0, 0] for one in pages)
        assert [one[0] for one in view.expired(5000.0, 9)] == [identity(3)]
        assert len(view.newest_importance(3)) == 3
        assert view.counts() == {
            ("acme", "notes", "episodic", 0): 6,
            ("acme", "notes", "semantic", 0): 1,
            ("acme", "away", "episodic", 0): 1,
            ("acme", "notes", "m", 1): 1,
        }
        assert [one[1:] for one in view.coordinate_rows()] == [("acme", "notes", "m", "2.0")]
        assert [len(one.ids) for one in view.some([identity(0).bytes, identity(5).bytes], DIM)] == [1]

    await ledger.read(look)


async def test_what_was_said_around_it_and_what_it_is_linked_with(place: Place) -> None:
    ledger = place.open()
    times = {0: 100.0, 1: 110.0, 2: 110.0, 3: 130.0, 4: 300.0}
    await ledger.commit(Unit([put(n, event_time=at) for n, at in times.items()]))
    await ledger.commit(Unit([link(2, 4, weight=0.5), link(0, 2, weight=0.9), link(2, 2)]))

    def look(view: Any) -> None:
        by_id = {row.id: row for row in view.rows(SEEN, [identity(n).bytes for n in times])}
        assert by_id[identity(4).bytes].event_time == 300.0
        before, after = view.around(SEEN, by_id[identity(2).bytes], reach=3, gap=30.0)
        assert [row.coordinate for row in before] == ["1.0", "0.0"]
        assert [row.coordinate for row in after] == ["3.0"]
        assert view.around(SEEN, by_id[identity(2).bytes], reach=1, gap=5.0)[1] == []
        linked = view.linked(SEEN, [by_id[identity(2).bytes]], limit=10)
        assert sorted((row.coordinate, weight) for _, row, weight in linked) == [("0.0", 0.9), ("4.0", 0.5)]
        earlier = Visible(ACME, 150.0, hide_later=True)
        assert [row.coordinate for _, row, _ in view.linked(earlier, [by_id[identity(2).bytes]], limit=10)] == ["0.0"]
        rows = [row.row for row in by_id.values()]
        vectors = view.vectors(rows)
        assert (sorted(vectors), {tuple(one.tolist()) for one in vectors.values()}) == (sorted(rows), {(1, 0, 0)})

    await ledger.read(look)


async def test_edges_are_walked_paged_and_vanish_with_their_memories(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(n) for n in range(5)] + [put(1, memory_type="semantic")]))
    await ledger.commit(Unit([link(0, 1), link(1, 2, weight=2.0), link(2, 3, "cites"), link(1, 4, why="so")]))
    await ledger.commit(Unit([link(1, 2, weight=3.0)]))

    def look(view: Any) -> None:
        near = view.neighbors(ACME, (0.0,), link_type=None, hops=2, limit=9)
        assert [(one.coordinate, one.hops) for one in near] == [((1.0,), 1), ((2.0,), 2), ((4.0,), 2)]
        assert near[1].edge.weight == 3.0
        path = view.shortest_path(ACME, (0.0,), (3.0,), link_type=None, max_length=5)
        assert [edge.target for edge in path] == [(1.0,), (2.0,), (3.0,)]
        assert view.shortest_path(ACME, (0.0,), (3.0,), link_type="related", max_length=5) is None
        paged: list[Any] = []
        while True:
            after = (paged[-1].source, paged[-1].link_type, paged[-1].target) if paged else None
            found = view.edges(ACME, after=after, limit=2)
            if not found:
                break
            paged += found
        assert [(one.source[0], one.target[0]) for one in paged] == [(0, 1), (1, 2), (1, 4), (2, 3)]
        assert {one.target[0] for one in view.edges_at(ACME, [(4.0,), (0.0,)])} == {1, 4}
        standing = view.edges_standing(ACME, [((1.0,), "related", (4.0,)), ((1.0,), "related", (3.0,))])
        assert [one.metadata for one in standing] == [{"why": "so"}]
        assert view.edge_scopes() == [ACME]

    await ledger.read(look)
    await ledger.commit(Unit([drop(1)]))
    assert len(await ledger.read(lambda view: view.edges(ACME, after=None, limit=9))) == 4
    semantic = put(1, memory_type="semantic")
    gone = type(drop(1))(semantic.id, ACME, "semantic", at=1.0)
    await ledger.commit(Unit([gone]))
    left = await ledger.read(lambda view: view.edges(ACME, after=None, limit=9))
    assert [(one.source[0], one.target[0]) for one in left] == [(2, 3)]


async def test_retention_reads_purges_and_restores(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(n, importance=float(n), pinned=n == 3) for n in range(4)]))
    await ledger.commit(Unit([link(0, 1), link(2, 0)]))
    await ledger.transact(
        lambda one: one.add_accesses([(2, 9000.0, identity(0).bytes), (1, 8000.0, identity(0).bytes)])
    )
    entry = AuditEntry("acme", "", "purge", "notes", 1.0)

    def measured(view: Any) -> Any:
        first = view.measure(0, 3, DIM)
        assert first.rows == 3
        assert first.last is not None
        rest = view.measure(first.last, 3, DIM, ACME)
        assert (rest.rows, rest.last) == (1, None)
        rows = [*first.by_scope[ACME], *rest.by_scope[ACME]]
        assert [(one[2], one[3]) for one in rows] == [(9000.0, 3), (2000.0, 0), (2000.0, 0), (2000.0, 0)]
        assert [one[6:] for one in rows] == [(0, 0), (0, 0), (0, 0), (1, 0)]
        assert {one[4] for one in rows} == {256 + 12 + len('{"text":"words"}') + len("words")}
        numbers = [one[0] for one in rows]
        kept = view.kept(numbers)
        assert {one.record.coordinate[0] for one in kept} == {0, 1, 2}
        assert view.ids_of(numbers[:2]) == [identity(0).bytes, identity(1).bytes]
        assert view.described(numbers)[numbers[3]].pinned
        return kept

    kept = await ledger.read(measured)
    of_zero = next(one for one in kept if one.record.coordinate == (0.0,))
    assert len(of_zero.links) == 2
    await ledger.commit(Unit([put(1, "stored again")]))
    records = [one.record for one in kept]
    gone = await ledger.transact(lambda transaction: transaction.purge(records, 3000.0, entry))
    assert {one.id for one in gone} == {identity(0), identity(2)}
    archived = [(_as_put(one.record), one.record, one.links) for one in kept]
    done = await ledger.transact(lambda transaction: transaction.restore(archived, 4000.0, entry))
    assert done == (2, 1, 2)
    back = await ledger.get(identity(0))
    was = of_zero.record
    assert (back.importance_norm, back.access_time, back.access_count) == (was.importance_norm, 9000.0, 3)
    assert not any(place.half_visible().values())


async def test_a_memory_that_is_deleted_and_put_back_in_one_transaction_has_nothing_of_what_was(place: Place) -> None:
    """What an import with --replace does: readers see one or the other, and after a start it is the new one."""
    ledger = place.open()
    await ledger.commit(Unit([put(1, "old"), put(1, "older"), put(2), link(1, 2)]))
    await ledger.transact(lambda transaction: transaction.add_accesses([(5, 9000.0, identity(1).bytes)]))
    record = replace(await ledger.get(identity(1)), access_count=1, access_time=2500.0)
    entry = AuditEntry("acme", "test", "import", "notes", 3000.0)

    def write(transaction: Any) -> Any:
        transaction.run(Unit([drop(1)]))
        return transaction.restore([(put(1, "new"), record, [])], 4000.0, entry, over=True)

    assert (await ledger.transact(write)).restored == 1
    await ledger.commit(Unit([drop(2), put(2, "again")]))
    ledger.close()
    ledger = place.open()
    back = await ledger.get(identity(1))
    assert (back.payload, back.access_count, back.access_time) == ({"text": "new"}, 1, 2500.0)
    assert (await ledger.get(identity(2))).payload == {"text": "again"}
    assert back.vector.tolist() == [1.0, 0.0, 0.0]
    assert len(next(iter(ledger.scan(DIM))).vectors) == 2
    assert await ledger.read(lambda view: view.edges(ACME, after=None, limit=9)) == []
    assert not any(place.half_visible().values())


async def test_an_archive_brings_no_link_to_a_memory_that_was_deleted(place: Place) -> None:
    """A link may join coordinates that hold nothing; but one that went with a deleted memory stays gone."""
    ledger = place.open()
    await ledger.commit(Unit([put(0), put(1), put(2), link(0, 1), link(0, 2)]))

    def measured(view: Any) -> Any:
        rows = view.measure(0, 9, DIM, ACME).by_scope[ACME]
        return [one for one in view.kept([row[0] for row in rows]) if one.record.coordinate == (0.0,)]

    (kept,) = await ledger.read(measured)
    entry = AuditEntry("acme", "test", "purge", "notes", 3000.0)
    await ledger.transact(lambda transaction: transaction.purge([kept.record], 3000.0, entry))
    await ledger.commit(Unit([drop(1)]))
    archived = [(_as_put(kept.record), kept.record, kept.links)]
    done = await ledger.transact(lambda transaction: transaction.restore(archived, 4000.0, entry))
    assert done == (1, 0, 1)
    left = await ledger.read(lambda view: view.edges(ACME, after=None, limit=9))
    assert [(one.source, one.target) for one in left] == [((0.0,), (2.0,))]


def _as_put(record: Any) -> Any:
    text = json.dumps(record.payload, separators=(",", ":"))
    return put(record.coordinate[0], record.payload["text"], payload=text, importance=record.importance)


async def test_importance_is_rebuilt_and_given_back(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(n, importance=float(n)) for n in range(6)] + [put(9)]))
    before = {n: (await ledger.get(identity(n))).importance_norm for n in range(6)}
    values, count = await ledger.read(lambda view: view.raw_values("acme", 3))
    assert count == 6
    assert 2 <= len(values) <= 3
    raw = await ledger.read(lambda view: view.raw_of("acme", [identity(2).bytes, identity(9).bytes]))
    assert raw == {identity(2).bytes: 2.0}
    changed = await ledger.transact(lambda one: one.rebuild_importance("acme", lambda raw: raw / 100, 7))
    assert changed == 6
    first = await ledger.read(lambda view: view.facts())
    assert (await ledger.get(identity(3))).importance_norm == 0.03
    await ledger.commit(Unit([put(4, importance=4.0)]))
    returned = await ledger.transact(lambda one: one.undo_importance("acme", lambda raw: raw / 10, 3, 7))
    assert returned == 5
    after = {n: (await ledger.get(identity(n))).importance_norm for n in range(6)}
    assert {n: one for n, one in after.items() if n != 4} == {n: one for n, one in before.items() if n != 4}
    second = await ledger.read(lambda view: view.facts())
    assert int(second[Facts.GENERATION]) > int(first[Facts.GENERATION]) > 0
    assert (await ledger.get(identity(9))).importance_norm == 1.0


async def test_vectors_of_the_next_embedding_take_the_place_of_the_old_in_one_commit(place: Place) -> None:
    ledger = place.open()
    await ledger.transact(lambda transaction: transaction.remember(Facts.EMBEDDING, "old"))
    await ledger.commit(Unit([put(n, model_revision="old") for n in range(5)]))
    await ledger.transact(lambda transaction: transaction.begin_reembedding("new"))
    made = np.array([0, 0, 1], np.float32).tobytes()
    pending = await ledger.read(lambda view: view.pending(0, 3))
    assert [one.vector for one in pending] == [np.array([1, 0, 0], np.float32).tobytes()] * 3
    await ledger.commit(Unit([put(1, model_revision="old"), drop(4)]))
    kept = await ledger.transact(lambda one: one.keep_vectors([(item, made) for item in pending]))
    assert kept == 2
    assert not await ledger.transact(lambda transaction: transaction.swap_vectors())
    await ledger.commit(Unit([put(0, model_revision="old")]))
    assert await ledger.read(lambda view: view.progress()) == (1, 4)
    assert [len(one.ids) for one in await ledger.read(lambda view: list(view.scan(DIM, 9, "vectors_next")))] == [1]
    rest = await ledger.read(lambda view: view.pending(0, 99))
    assert len(rest) == 3
    await ledger.transact(lambda one: one.keep_vectors([(item, made) for item in rest]))
    assert await ledger.transact(lambda transaction: transaction.swap_vectors())
    assert {tuple(one) for rows in ledger.scan(DIM) for one in rows.vectors.tolist()} == {(0, 0, 1)}
    facts = await ledger.read(lambda view: view.facts())
    assert (facts[Facts.EMBEDDING], facts[Facts.REEMBEDDED_FROM]) == ("new", "old")
    assert not await ledger.transact(lambda transaction: transaction.finish_reembedding(2))
    while not await ledger.transact(lambda transaction: transaction.finish_reembedding(2)):
        pass
    assert (await ledger.get(identity(2))).model_revision == "new"
    await ledger.commit(Unit([put(8, model_revision="new")]))
    await ledger.transact(lambda transaction: transaction.begin_reembedding("third"))
    assert len(await ledger.read(lambda view: view.pending(0, 99))) == 5
    await ledger.transact(lambda transaction: transaction.discard_reembedding())
    assert Facts.REEMBEDDING_TO not in await ledger.read(lambda view: view.facts())
    assert not any(place.half_visible().values())


async def test_text_that_a_database_may_choke_on_is_kept_byte_for_byte(place: Place) -> None:
    ledger = place.open()
    strange = ["nul\0inside", "back\\slash \\u0000", "emoji 🦊 e\u0301", "quote\" ' ; --", "x" * 100_000, "\\\\\0"]
    for n, text in enumerate(strange):
        await ledger.commit(Unit([put(n, text, payload=json.dumps({"text": text}, ensure_ascii=False))]))
    for n, text in enumerate(strange):
        assert (await ledger.get(identity(n))).payload == {"text": text}
    many = " ".join(f"w{n}" for n in range(60_000))
    await ledger.commit(Unit([put(50, many), put(51, "long" * 100_000)]))
    assert await ledger.read(lambda view: words(view, "w7")) == [50.0]
    assert not any(place.half_visible().values())


async def test_payloads_that_hold_fragments_are_found_by_coordinate(place: Place) -> None:
    ledger = place.open()
    texts = ["Black CAT", "no such thing", "concatenated", "Äpfel 100%_", "dog"]
    await ledger.commit(
        Unit([put(-n, payload=json.dumps({"name": text}), pinned=n == 4) for n, text in enumerate(texts)])
    )
    await ledger.commit(Unit([put(9, payload='{"name":"cat"}', scope=Scope("acme", "away")), drop(-1)]))

    def look(view: Any) -> None:
        asked = {"memory_type": None, "filters": None, "now": 5000.0, "limit": 10}

        def found(fragments: list[str], **rest: Any) -> list[float]:
            return [one.coordinate[0] for one in view.holding(ACME, fragments, **(asked | rest))]

        assert found(["cat"]) == [-2.0, 0.0]
        assert found(["cat", "dog"]) == [-4.0, -2.0, 0.0]
        assert found(["100%_"]) == [-3.0]
        assert found([]) == [-4.0, -3.0, -2.0, 0.0]
        assert found(["cat"], limit=1) == [-2.0]
        assert found(["cat"], filters={"name": "Black CAT"}) == [0.0]
        assert found(["cat"], memory_type="semantic") == []

    await ledger.read(look)
