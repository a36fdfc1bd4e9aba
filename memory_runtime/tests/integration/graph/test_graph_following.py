"""Mirrors follow the ledger; whatever happens to them, the answer is the ledger's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from hack.services import Authority, Service
from hack.services.proxy import FaultProxy
from memory_runtime.engine import MemoryEngine, build_engine
from memory_runtime.events import Pipeline
from memory_runtime.model.errors import Conflict, SomaError
from memory_runtime.model.records import Edge, Scope
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.graph.feeding import GraphFeed
from memory_runtime.stores.graph.neo4j_graph import Neo4jGraph
from memory_runtime.tests.integration.conftest import Serve
from memory_runtime.tests.samples import item

pytestmark = pytest.mark.integration

ACME = Scope("acme", "notes")


class Opener(Protocol):
    """Opens engines with the relays that `serve` runs beside them."""

    async def __call__(self, **settings: Any) -> MemoryEngine: ...
    async def closed(self) -> None: ...


@pytest.fixture
async def open_engine(tmp_path: Path) -> AsyncIterator[Opener]:
    """Closed when the test ends."""

    class Opened:
        def __init__(self) -> None:
            self.running: list[tuple[MemoryEngine, Pipeline]] = []

        async def __call__(self, **settings: Any) -> MemoryEngine:
            values = {"data_dir": tmp_path / "data", "embedding_provider": "hash", "vector_dim": 3} | settings
            engine = build_engine(SMFSettings(**values))
            pipeline = Pipeline(engine.settings, engine.ledger, engine.metrics, engine.clock, also=engine.graphs.sinks)
            self.running.append((engine, pipeline))
            await engine.start()
            pipeline.start()
            return engine

        async def closed(self) -> None:
            for engine, pipeline in self.running:
                await pipeline.stop()
                await engine.close()
            self.running.clear()

    opener = Opened()
    yield opener
    await opener.closed()


def neo4j_of(service: Service, proxy: FaultProxy | None = None, **others: Any) -> dict[str, Any]:
    url = service.url if proxy is None else proxy.url(service.url)
    return {"graph_backend": "neo4j", "neo4j_url": url, "neo4j_timeout_seconds": 2.0} | others


async def stored(engine: MemoryEngine, *coordinates: float) -> None:
    await engine.store_bulk(ACME, [item(one, [1.0, 0.0, 0.0]) for one in coordinates])


async def reached(engine: MemoryEngine, start: float = 1.0, hops: int = 3) -> list[float]:
    return [one.coordinate[0] for one in await engine.neighbors(ACME, (start,), hops=hops, limit=100)]


def answers(engine: MemoryEngine, answered_by: str, why: str) -> int:
    counted: int = engine.graphs.state()["answers"].get(answered_by, {}).get(why, 0)
    return counted


async def until_mirrored(engine: MemoryEngine, *, seconds: float = 60.0) -> None:
    """Asks until the mirror answers."""
    async with asyncio.timeout(seconds):
        before = answers(engine, engine.graphs.backend, "followed")
        while answers(engine, engine.graphs.backend, "followed") == before:
            await reached(engine)
            await asyncio.sleep(0.05)


@pytest.fixture(params=["networkx", "neo4j"])
def mirrored(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "networkx":
        return {"graph_backend": "networkx"}
    return neo4j_of(request.getfixturevalue("neo4j_server"))


async def test_an_answer_holds_what_was_acknowledged_before_it_whoever_gives_it(
    open_engine: Opener, mirrored: dict[str, Any]
) -> None:
    engine = await open_engine(**mirrored)
    await stored(engine, 1, 2, 3, 4)
    for number in (2, 3, 4):
        await engine.link(ACME, (1.0,), (float(number),), weight=float(number), metadata={"n": number})
        assert len(await reached(engine)) == number - 1
    await until_mirrored(engine)
    assert await reached(engine) == [4, 3, 2]
    await engine.delete(ACME, (3.0,))
    assert await reached(engine) == [4, 2]
    await stored(engine, 3)
    await until_mirrored(engine)
    assert await reached(engine) == [4, 2], "a memory that comes again comes without its links"
    path = await engine.shortest_path(ACME, (1.0,), (4.0,))
    assert path.found
    assert path.edges[0].metadata == {"n": 4}


async def test_a_deleted_types_link_stays_while_another_memory_is_at_its_place(
    open_engine: Opener, mirrored: dict[str, Any]
) -> None:
    engine = await open_engine(**mirrored)
    await engine.store_bulk(ACME, [item(1, [1, 0, 0]), item(2, [1, 0, 0]), item(2, [1, 0, 0], memory_type="semantic")])
    await engine.link(ACME, (1.0,), (2.0,))
    await engine.delete(ACME, (2.0,), "semantic")
    await until_mirrored(engine)
    assert await reached(engine) == [2]
    await engine.delete(ACME, (2.0,))
    await until_mirrored_empty(engine)
    assert await reached(engine) == []


async def until_mirrored_empty(engine: MemoryEngine) -> None:
    assert engine.graphs.mirror is not None
    for _ in range(1200):
        if not await engine.graphs.mirror.count(ACME):
            return
        await asyncio.sleep(0.05)
    pytest.fail("the mirror still has links")


async def test_a_mirror_that_was_wiped_behind_our_back_is_not_asked_and_built_anew(
    open_engine: Opener, neo4j_server: Service, neo4j_graph: Neo4jGraph
) -> None:
    engine = await open_engine(**neo4j_of(neo4j_server))
    await stored(engine, 1, 2, 3)
    await engine.link(ACME, (1.0,), (2.0,))
    await until_mirrored(engine)
    await neo4j_graph.wipe()
    assert await reached(engine) == [2]
    assert answers(engine, "sql", "behind") >= 1
    await engine.link(ACME, (2.0,), (3.0,))  # the next change shows the feed that its mirror is gone
    await until_mirrored(engine)
    assert await neo4j_graph.count(ACME) == 2


async def test_a_link_that_the_ledger_does_not_have_is_never_returned(
    open_engine: Opener, neo4j_server: Service, neo4j_graph: Neo4jGraph
) -> None:
    engine = await open_engine(**neo4j_of(neo4j_server))
    await stored(engine, 1, 2, 3)
    await engine.link(ACME, (1.0,), (2.0,))
    await until_mirrored(engine)
    await neo4j_graph.link(ACME, [Edge((1.0,), (3.0,), "related", 9.0)])
    assert await reached(engine) == [2]
    assert not (await engine.shortest_path(ACME, (1.0,), (3.0,))).found
    assert answers(engine, "sql", "differs") == 2


async def test_while_neo4j_is_away_sql_answers_and_afterwards_it_has_caught_up(
    open_engine: Opener, neo4j_server: Service, neo4j_graph: Neo4jGraph
) -> None:
    with FaultProxy.before(neo4j_server.url) as proxy:
        engine = await open_engine(**neo4j_of(neo4j_server, proxy))
        await stored(engine, 1, 2, 3, 4)
        await engine.link(ACME, (1.0,), (2.0,))
        await until_mirrored(engine)
        away, followed = answers(engine, "sql", "away"), answers(engine, "neo4j", "followed")
        proxy.cut()
        await engine.link(ACME, (1.0,), (3.0,))
        await engine.delete(ACME, (2.0,))
        async with asyncio.timeout(60):
            for _ in range(12):
                assert await reached(engine) == [3]
        assert answers(engine, "sql", "away") - away >= 5
        assert answers(engine, "neo4j", "followed") == followed
        proxy.heal()
        await until_mirrored(engine, seconds=40)
        assert await reached(engine) == [3]
        assert [one async for one in neo4j_graph.edges(ACME)] == [Edge((1.0,), (3.0,), "related", 1.0)]


async def test_a_broken_connection_is_made_again_within_the_call(
    neo4j_server: Service, neo4j_graph: Neo4jGraph
) -> None:
    with FaultProxy.before(neo4j_server.url) as proxy:
        graph = Neo4jGraph(SMFSettings(neo4j_url=proxy.url(neo4j_server.url), neo4j_timeout_seconds=5.0))
        await graph.start()
        await graph.link(ACME, [Edge((1.0,), (2.0,), "related", 1.0)])
        for number in (3, 4, 5):
            proxy.drop()
            await graph.link(ACME, [Edge((1.0,), (float(number),), "related", 1.0)])
            proxy.drop()
            assert len(await graph.neighbors(ACME, (1.0,))) == number - 1
        await graph.close()


async def test_two_feeders_of_one_mirror_do_not_undo_one_another(
    open_engine: Opener, neo4j_server: Service, neo4j_graph: Neo4jGraph
) -> None:
    engine = await open_engine(vector_dim=3)
    await stored(engine, 1, 2)
    await engine.link(ACME, (1.0,), (2.0,))
    changes = await engine.ledger.tail(0)
    feed = GraphFeed(engine.ledger, neo4j_graph, "neo4j")
    assert await feed.deliver(changes) == changes[-1].seq
    position = await neo4j_graph.position()
    with pytest.raises(Conflict):
        await neo4j_graph.follow([], position + 1, expected=position - 1)
    await neo4j_graph.wipe()
    filling = await neo4j_graph.wipe()
    with pytest.raises(Conflict):
        await neo4j_graph.follow([], 5, expected=position)
    await neo4j_graph.follow([], 5, expected=filling)
    assert await feed.deliver(changes) == changes[-1].seq
    assert await neo4j_graph.count() == 1


async def test_tls_is_verified_against_the_authority_that_was_named(
    neo4j_server: Service, neo4j_authority: Authority, neo4j_graph: Neo4jGraph, tmp_path: Path
) -> None:
    url = neo4j_server.url.replace("bolt://", "bolt+s://")
    graph = Neo4jGraph(SMFSettings(neo4j_url=url, neo4j_ca_cert=neo4j_authority.certificate))
    await graph.start()
    assert await graph.ping()
    await graph.close()
    stranger = Authority(tmp_path / "stranger")
    graph = Neo4jGraph(SMFSettings(neo4j_url=url, neo4j_ca_cert=stranger.certificate))
    with pytest.raises(SomaError) as refused:
        await graph.start()
    assert neo4j_server.url.split(":")[2].split("@")[0] not in str(refused.value)
    assert not await graph.ping()
    await graph.close()


async def test_a_wrong_password_is_said_and_not_repeated(neo4j_server: Service) -> None:
    graph = Neo4jGraph(SMFSettings(neo4j_url=neo4j_server.url, neo4j_password="wrong-word"))
    with pytest.raises(SomaError) as refused:
        await graph.start()
    assert "credentials" in (refused.value.remedy or "")
    assert "wrong-word" not in f"{refused.value} {refused.value.remedy}"
    await graph.close()


async def test_an_outbox_does_not_wait_for_a_mirror_that_is_configured_no_more(
    open_engine: Opener, neo4j_server: Service, neo4j_graph: Neo4jGraph
) -> None:
    first = await open_engine(**neo4j_of(neo4j_server))
    await stored(first, 1, 2, 3)
    await first.link(ACME, (1.0,), (2.0,))
    await until_mirrored(first)
    assert "neo4j" in await first.ledger.read(lambda view: view.sinks())
    await open_engine.closed()
    without = await open_engine()
    assert "neo4j" not in await without.ledger.read(lambda view: view.sinks())
    await without.link(ACME, (1.0,), (3.0,))
    await without.delete(ACME, (2.0,))
    await open_engine.closed()
    again = await open_engine(**neo4j_of(neo4j_server))
    assert await reached(again) == [3], "what it missed is not taken from it"
    await until_mirrored(again)
    assert [one async for one in neo4j_graph.edges(ACME)] == [Edge((1.0,), (3.0,), "related", 1.0)]


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"neo4j_url": None}, "neo4j_url"),
        ({"neo4j_url": "http://neo4j:secret@graph.example:7687"}, "neo4j_url"),
        ({"neo4j_url": "bolt://graph.example:7687/other"}, "neo4j_url"),
        ({"neo4j_url": "bolt://graph.example", "neo4j_ca_cert": Path(__file__)}, "neo4j_ca_cert"),
        ({"neo4j_url": "bolt+s://graph.example", "neo4j_ca_cert": Path("absent.crt")}, "neo4j_ca_cert"),
    ],
)
def test_a_bad_setting_is_named_before_anything_starts(values: dict[str, Any], setting: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        build_engine(SMFSettings(data_dir=tmp_path, embedding_provider="hash", graph_backend="neo4j", **values))
    assert refused.value.setting == setting
    assert refused.value.remedy
    assert "secret" not in str(refused.value)


@pytest.mark.usefixtures("neo4j_graph")
def test_a_server_walks_in_neo4j_over_tls_and_says_so(
    serve: Serve, neo4j_server: Service, neo4j_authority: Authority
) -> None:
    server = serve(
        SOMA_GRAPH_BACKEND="neo4j",
        SOMA_NEO4J_URL=neo4j_server.url.replace("bolt://", "bolt+s://"),
        SOMA_NEO4J_CA_CERT=str(neo4j_authority.certificate),
    )
    with server.client(tenant="acme") as http:
        items = [{"coord": str(n), "payload": {"n": n}} for n in range(3)]
        assert http.post("/store_bulk", json={"items": items}).status_code == 200
        links = [{"from_coord": str(n), "to_coord": str(n + 1), "metadata": {"n": n}} for n in range(2)]
        assert http.post("/graph/links", json={"links": links}).status_code == 200
        for _ in range(1200):
            found = http.get("/graph/neighbors", params={"coord": "0", "k_hop": 2}).json()["neighbors"]
            assert [one["coordinate"] for one in found] == [[1.0], [2.0]]
            graph = http.get("/stats").json()["graph"]
            if graph["answers"].get("neo4j"):
                break
            time.sleep(0.05)
        assert graph["backend"] == "neo4j"
        assert graph["answers"]["neo4j"]["followed"] >= 1
        assert http.delete("/memories/1").status_code == 200
        assert http.get("/graph/neighbors", params={"coord": "0", "k_hop": 2}).json()["neighbors"] == []
        assert 'soma_memory_sink_lag{sink="neo4j"}' in http.get("/metrics").text
    secret = neo4j_server.url.split(":")[2].split("@")[0]
    assert secret not in server.log_path.read_text()


async def test_a_mirror_that_follows_another_ledger_is_not_believed(
    open_engine: Opener, neo4j_server: Service, tmp_path: Path
) -> None:
    first = await open_engine(data_dir=tmp_path / "first", **neo4j_of(neo4j_server))
    await stored(first, *range(1, 21))
    # none from 1: an answer without links has none that the ledger could be asked for
    await first.link(ACME, (5.0,), (20.0,))
    await until_mirrored(first)
    await open_engine.closed()
    second = build_engine(
        SMFSettings(data_dir=tmp_path / "second", embedding_provider="hash", vector_dim=3, **neo4j_of(neo4j_server))
    )
    await second.start()
    try:
        await stored(second, 1, 2)
        await second.link(ACME, (1.0,), (2.0,))
        async with asyncio.timeout(60):
            # nobody feeds the mirror here: until it is connected it is away, and then it is not ours
            while not answers(second, "sql", "behind"):
                assert await reached(second) == [2]
                await asyncio.sleep(0.05)
        assert await reached(second) == [2]
        assert not answers(second, "neo4j", "followed")
    finally:
        await second.close()
