"""No column is dropped: every field of a memory, written in every way and read by every path of either ledger.

The fields come from the types themselves, each with a value that is not its default. A field that is new is so
covered at once: a path that does not carry it fails here, or says in `but` that it is not meant to.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine.archives import Archives
from memory_runtime.engine.cache.entries import as_record, as_text
from memory_runtime.engine.following import Follower
from memory_runtime.engine.importing import _record, check_exported
from memory_runtime.engine.restoring import as_puts
from memory_runtime.model.records import Edge, MemoryRecord, Scope
from memory_runtime.scoring import PINNED
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import Applied, AuditEntry, Change, Collection, Link, Operation, Put, Rows, Unit
from memory_runtime.stores.values import Kept, Row, Visible
from memory_runtime.surfaces.cli.transfer import _exported
from memory_runtime.surfaces.http.rendering import kept as rendered_beside
from memory_runtime.surfaces.http.rendering import resource
from memory_runtime.surfaces.http.requests import ExportLine
from memory_runtime.tests.ledgers import ACME, DIM, Place, identity, put

NOW = 5000.0
LATER = 1e9
SEEN = Visible(ACME, NOW)
ACCESSED = 8765.5
MANY = 120
"""More rows than one statement takes: PostgreSQL gets them by COPY."""


def value_of(name: str, kind: Any) -> Any:
    """A value of the type that no default has."""
    text = str(kind)
    if "bool" in text:
        return True
    if "float" in text and "Mapping" not in text and "dict" not in text:
        return 1000.5 + sum(map(ord, name))
    if text.startswith("<class 'int'"):
        return 3 + len(name)
    if "str" in text and "Mapping" not in text and "dict" not in text:
        return f"the {name}"
    raise AssertionError(f"say in this test what a {name} of type {text} may be")


def full(number: float, **given: Any) -> Put:
    """A put in which every field says something."""
    told: dict[str, Any] = {
        "id": identity(number),
        "scope": ACME,
        "coordinate": repr(float(number)),
        "memory_type": "episodic",
        "payload": '{"text":"some words !?"}',
        "search_text": "some words !?",
        "expires_at": LATER,
        "features": {"urgent": 0.25},
        "vector": np.array([0.6, 0.8, 0], np.float32),
        "collection": Collection.MEMORIES,
    } | given
    hints = typing.get_type_hints(Put)
    return Put(**{name: told[name] if name in told else value_of(name, kind) for name, kind in hints.items()})


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return one is not None and other is not None and np.asarray(one).tobytes() == np.asarray(other).tobytes()
    return bool(one == other)


def differing(found: Any, wanted: Any, but: Iterable[str] = ()) -> dict[str, tuple[Any, Any]]:
    """The fields in which these two differ, by name."""
    names = [one.name for one in dataclasses.fields(wanted) if one.name not in set(but)]
    pairs = {name: (getattr(found, name), getattr(wanted, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if not same(*pair)}


def wanted_record(write: Put, seq: int, version: int, norm: tuple[float, int]) -> MemoryRecord:
    told: dict[str, Any] = {one.name: getattr(write, one.name, None) for one in dataclasses.fields(MemoryRecord)} | {
        "tenant": write.scope.tenant,
        "namespace": write.scope.namespace,
        "coordinate": (float(write.coordinate),),
        "payload": json.loads(write.payload),
        "importance_norm": norm[0],
        "normaliser_version": norm[1],
        "access_time": ACCESSED,
        "access_count": 3,
        "version": version,
        "seq": seq,
    }
    unsaid = {one.name for one in dataclasses.fields(MemoryRecord) if not np.any(told[one.name])}
    assert not unsaid, f"a default would not be missed: {unsaid}"
    return MemoryRecord(**told)


WAYS: dict[str, Callable[[Any, list[Put]], Any]] = {
    "alone": lambda ledger, puts: ledger.commit(Unit(puts[-1:])),
    "over": lambda ledger, puts: ledger.commit(Unit(puts[-1:])),
    "in bulk": lambda ledger, puts: ledger.commit(Unit(puts)),
    "in groups": lambda ledger, puts: ledger.commit_many([Unit([one]) for one in puts]),
    "in a transaction": lambda ledger, puts: ledger.transact(lambda transaction: transaction.run(Unit(puts[-1:]))),
}


async def row_of(place: Place, number: int) -> int:
    sql = f"SELECT row FROM memories WHERE namespace = 'notes' AND coordinate = '{number}.0'"  # noqa: S608
    return int((await asyncio.to_thread(place.ask, sql))[0][0])


class Written:
    """A full memory in a ledger, and what every path must tell of it."""

    def __init__(self, put: Put, record: MemoryRecord, row: int, heard: list[Applied]) -> None:
        self.put, self.record, self.row, self.heard = put, record, row, heard


async def written(place: Place, way: str) -> tuple[Any, Written]:
    heard: list[Applied] = []
    ledger = place.open(heard)
    # among these its i is neither the neutral one nor an end
    others = [put(n, scope=Scope("acme", "others"), importance=1000.0 * n) for n in range(5)]
    await ledger.commit(Unit(others))
    if way == "over":
        await ledger.commit(Unit([put(1, pinned=False)]))
    puts = [full(number) for number in range(MANY - 1, 0, -1)]
    await WAYS[way](ledger, puts)
    await ledger.transact(lambda transaction: transaction.add_accesses([(3, ACCESSED, puts[-1].id.bytes)]))
    done = next(one for one in reversed(heard) if one.receipt.id == puts[-1].id)
    version = await ledger.transact(lambda transaction: transaction.normaliser("acme").version)
    row = await row_of(place, 1)
    record = wanted_record(
        puts[-1], done.receipt.seq, 2 if way == "over" else 1, (done.importance_norm, max(1, version))
    )
    assert 0 < done.importance_norm < 1
    return ledger, Written(puts[-1], record, row, heard)


async def full_memory(place: Place) -> tuple[Any, Written]:
    """One that is the second version of its memory, after another was stored: i is then not 1."""
    return await written(place, "over")


def asked_words(view: Any, term: str) -> MemoryRecord:
    asked = {
        "exact": True,
        "case_sensitive": False,
        "limit": 2 * MANY,
        "memory_type": None,
        "filters": None,
        "now": NOW,
    }
    return next(one for one in view.by_words(ACME, term, **asked) if one.id == identity(1))


RECORD_PATHS: dict[str, tuple[Callable[[Any, int], MemoryRecord], set[str]]] = {
    "get": (lambda view, row: view.get(identity(1)), set()),
    "by_ids": (lambda view, row: view.by_ids([identity(1).bytes])[identity(1).bytes], {"vector"}),
    "at_coordinate": (lambda view, row: view.at_coordinate(ACME, (1.0,), None, NOW)[0], {"vector"}),
    "by_words": (lambda view, row: asked_words(view, "words"), {"vector"}),
    "by_characters": (lambda view, row: asked_words(view, "!?"), {"vector"}),
    "page": (
        lambda view, row: next(
            one
            for one in view.page(ACME, after=None, limit=2 * MANY, memory_type=None, now=NOW)
            if one.id == identity(1)
        ),
        set(),
    ),
    "described": (lambda view, row: view.described([row])[row], {"vector"}),
}


@pytest.mark.parametrize("way", list(WAYS))
async def test_every_column_that_is_written_is_read(place: Place, way: str) -> None:
    ledger, made = await written(place, way)
    for name, (path, but) in RECORD_PATHS.items():
        found = await ledger.read(lambda view, path=path: path(view, made.row))
        assert differing(found, made.record, but) == {}, name
    assert differing(await ledger.get(made.put.id), made.record) == {}


async def test_the_change_feed_tells_every_column(place: Place) -> None:
    ledger, made = await full_memory(place)
    applied = (await ledger.read(lambda view: view.changes(0, 1000, DIM)))[-1]
    assert differing(applied.write, made.put, {"payload", "search_text"}) == {}
    assert applied.importance_norm == made.record.importance_norm
    assert (applied.receipt.id, applied.receipt.version, applied.receipt.seq) == (made.put.id, 2, made.record.seq)


async def test_the_outbox_tells_every_column(place: Place) -> None:
    ledger = place.open()
    write = full(1)
    done = await ledger.commit(Unit([write], origin="elsewhere", trace="00-ab-cd-01"))
    (change,) = await ledger.tail(0)
    told = {one.name: getattr(write, one.name, None) for one in dataclasses.fields(Change)} | {
        "seq": done.receipts[0].seq,
        "operation": Operation.PUT,
        "version": 1,
        "at": write.ingest_time,
        "created": True,
        "origin": "elsewhere",
        "trace": "00-ab-cd-01",
        # drawn by the ledger
        "history": change.history,
    }
    assert change.history
    assert differing(change, Change(**told)) == {}


def told_rows(made: Written) -> dict[str, Any]:
    record = made.record
    return {
        "last": made.row,
        "ids": record.id.bytes,
        "tenants": record.tenant,
        "namespaces": record.namespace,
        "memory_types": record.memory_type,
        "importance": record.importance_norm,
        "event_time": record.event_time,
        "expires_at": math.inf,  # what is pinned outlives its ttl
        "features": '{"urgent":0.25}',
        "vectors": made.put.vector,
        "pinned": True,
    }


async def test_load_scan_and_some_tell_every_column(place: Place) -> None:
    ledger, made = await full_memory(place)

    def loaded() -> list[Rows]:
        with ledger.load(DIM) as found:
            return list(found.rows)

    ways = {
        "scan": list(ledger.scan(DIM)),
        "load": loaded(),
        "some": await ledger.read(lambda view: list(view.some([made.put.id.bytes], DIM))),
    }
    for name, (rows,) in ways.items():
        found = {field: getattr(rows, field) for field in Rows._fields}
        found = {field: value if field == "last" else value[-1] for field, value in found.items()}
        wrong = {field: value for field, value in found.items() if not same(value, told_rows(made)[field])}
        assert wrong == {}, name


async def test_hybrid_recall_reads_every_column(place: Place) -> None:
    ledger, made = await full_memory(place)
    await ledger.commit(Unit([put(0.5, event_time=made.put.event_time + 1.0), Link(ACME, EDGE, 1.0)]))
    record = made.record
    wanted = Row(
        row=made.row,
        id=record.id.bytes,
        event_time=record.event_time,
        memory_type=record.memory_type,
        coordinate=record.coordinate_text,
        importance=record.importance_norm,
        features=record.features,
        pinned=True,
    )

    def look(view: Any) -> list[Row]:
        (found,) = view.rows(SEEN, [record.id.bytes])
        (other,) = view.rows(SEEN, [identity(0.5).bytes])
        before, _ = view.around(SEEN, other, reach=2, gap=100.0)
        ((_, linked, weight),) = view.linked(SEEN, [other], limit=5)
        assert weight == EDGE.weight
        return [found, *before, linked]

    assert await ledger.read(look) == [wanted] * 3
    vectors = await ledger.read(lambda view: view.vectors([made.row]))
    assert same(vectors[made.row], made.put.vector)


async def test_the_index_is_the_same_by_whatever_way_it_heard(place: Place) -> None:
    """Of this process' own commit, of another's by the change feed, of a load: each row alike, the pin included."""
    ledger, made = await full_memory(place)
    follower = Follower(SMFSettings(vector_dim=DIM, feature_weights={"urgent": 0.5}, half_life="1d"), lambda: NOW)
    taken: list[Any] = []

    class Index:
        damaged = False
        upsert = taken.append

    follower.index = typing.cast(Any, Index)
    follower.apply([one for one in made.heard if one.receipt.id == made.put.id])
    follower.apply(await ledger.read(lambda view: view.changes(0, 1000, DIM)))
    with ledger.load(DIM) as found:
        taken.extend(follower.batch(rows) for rows in found.rows)
    assert len(taken) == 3
    for field in dataclasses.fields(taken[0]):
        values = [getattr(batch, field.name)[-1] for batch in taken]
        assert all(same(value, values[0]) for value in values), field.name
    assert taken[2].memory_type[-1] & PINNED
    assert math.isinf(taken[2].expires_at[-1])  # it is pinned
    assert taken[2].features.tolist()[-1] == [0.25]


async def test_retention_measures_archives_and_gives_back_every_column(place: Place, tmp_path: Path) -> None:
    ledger, made = await full_memory(place)
    measured = await ledger.read(lambda view: view.measure(0, 1000, DIM, ACME))
    row, norm, accessed, count, size, ingested, exempt, own = measured.by_scope[ACME][0]
    record = made.record
    assert (row, norm, accessed, count) == (made.row, record.importance_norm, record.access_time, record.access_count)
    assert (ingested, bool(exempt), bool(own)) == (record.ingest_time, True, True)
    assert size > 0
    archives = Archives(tmp_path / "archive")
    back = archives.read(ACME, archives.write(ACME, [Kept(record, [EDGE], made.row)]).name)
    assert differing(back[0].record, record, {"seq"}) == {}
    assert back[0].links == [EDGE]
    ((write, _, _),) = await as_puts(back, typing.cast(Any, Provider()), DIM, pin=False)
    assert differing(write, made.put) == {}
    moved = dataclasses.replace(write, id=identity(7), coordinate="7.0")
    entry = AuditEntry("acme", "test", "restore", "acme/notes", NOW)
    await ledger.transact(lambda transaction: transaction.restore([(moved, record, [])], NOW, entry))
    restored = await ledger.get(identity(7))
    assert differing(restored, record, {"id", "coordinate", "version", "seq"}) == {}
    # over what lives: left alone, or the next version, and then only that
    for over in (False, True):
        one = (moved, record, [])
        done = await ledger.transact(
            lambda transaction, over=over, one=one: transaction.restore([one], NOW, entry, over=over)
        )
        assert (done.restored, done.present) == (0, 1)
        again = await ledger.get(identity(7))
        assert differing(again, restored, {"version", "seq"}) == {}
        assert again.version == restored.version + over


async def test_what_retention_takes_is_whole(place: Place) -> None:
    """`kept` gives neither pinned nor held memories: of those that it gives, every other column."""
    ledger, made = await full_memory(place)
    write = full(1, pinned=False, hold=False)
    done = await ledger.commit(Unit([full(2, pinned=False, hold=False), Link(ACME, EDGE_BACK, 1.0)]))
    row = await row_of(place, 2)
    (kept,) = await ledger.read(lambda view: view.kept([made.row, row]))
    wanted = dataclasses.replace(
        made.record,
        id=identity(2),
        coordinate=(2.0,),
        version=1,
        seq=done.receipts[0].seq,
        pinned=False,
        hold=False,
        access_count=0,
        access_time=write.ingest_time,
    )
    assert differing(kept.record, wanted, {"importance_norm"}) == {}
    assert kept.record.importance_norm < 1.0
    assert (kept.links, kept.row) == ([EDGE_BACK], row)


async def test_an_export_read_back_is_the_memory(place: Place) -> None:
    ledger, made = await full_memory(place)
    page = await ledger.read(lambda view: view.page(ACME, after=None, limit=1, memory_type=None, now=NOW))
    shown = resource(page[0], vector=True) | rendered_beside(page[0])
    line = json.loads(json.dumps(_exported(shown)))
    line = {name: value for name, value in line.items() if name not in {"kind", "schema"}}
    checked = check_exported(ACME, ExportLine(**line).exported(), SMFSettings(vector_dim=DIM))
    # numbered by the ledger that it is put into; no normaliser of that one has made its i
    ours = {"version", "seq", "normaliser_version"}
    assert differing(_record(ACME, checked), made.record, ours) == {}


async def test_the_read_cache_gives_back_every_column(place: Place) -> None:
    _, made = await full_memory(place)
    text = as_text(made.record)
    assert text is not None
    found = as_record(text)
    assert differing(found, made.record, {"vector"}) == {}
    # what a version without one of the fields has written is no memory: a default would be taken for its value
    for name in json.loads(text):
        assert as_record(json.dumps({key: value for key, value in json.loads(text).items() if key != name})) is None


EDGE = Edge((0.5,), (1.0,), "cause", 0.75, {"why": "so"})
EDGE_BACK = Edge((2.0,), (1.0,), "cause", 0.75, {"why": "so"})


async def test_every_column_of_a_link_is_read(place: Place) -> None:
    ledger = place.open()
    await ledger.commit(Unit([put(0.5), put(1), Link(ACME, EDGE, 1.0)]))
    key = (EDGE.source, EDGE.link_type, EDGE.target)

    def look(view: Any) -> list[list[Edge]]:
        (neighbor,) = view.neighbors(ACME, EDGE.source, link_type=None, hops=1, limit=5)
        return [
            view.edges(ACME, after=None, limit=5),
            view.edges_at(ACME, [EDGE.target]),
            view.edges_standing(ACME, [key]),
            [neighbor.edge],
            view.shortest_path(ACME, EDGE.source, EDGE.target, link_type=None, max_length=3),
            [view.changes(0, 10, DIM)[-1].write.edge],
            *[[edge] for kept in view.kept([1, 2]) for edge in kept.links],
        ]

    assert await ledger.read(look) == [[EDGE]] * 8
    assert await ledger.read(lambda view: view.edge_scopes()) == [Scope("acme", "notes")]


class Provider:
    """One whose vectors the memories have already."""

    revision = "the model_revision"
