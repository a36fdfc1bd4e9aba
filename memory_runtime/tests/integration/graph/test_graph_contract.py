"""One contract for every graph: SQL, NetworkX and Neo4j give the same answers in the same order."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from memory_runtime.model.errors import Unavailable, Unprocessable
from memory_runtime.model.records import Edge, Scope
from memory_runtime.stores import walking
from memory_runtime.stores.graph.networkx_graph import NetworkXGraph
from memory_runtime.stores.interfaces import IGraphStore
from memory_runtime.tests.integration.graph.ledger_graph import LedgerGraph

pytestmark = pytest.mark.integration

ACME, OTHER = Scope("acme", "notes"), Scope("acme", "plans")
Graph = LedgerGraph | IGraphStore


def edge(source: float, target: float, link_type: str = "related", weight: float = 1.0, **metadata: object) -> Edge:
    return Edge((float(source),), (float(target),), link_type, weight, metadata)


@pytest.fixture(params=["ledger_graph", "networkx_graph", "neo4j_graph"])
def graph(request: pytest.FixtureRequest) -> Graph:
    if request.param == "neo4j_graph":
        request.getfixturevalue("neo4j_server")
    found: Graph = request.getfixturevalue(request.param)
    return found


def reached(found: Iterable[walking.Neighbor]) -> list[tuple[float, int, str]]:
    return [(one.coordinate[0], one.hops, one.edge.link_type) for one in found]


async def test_neighbors_come_nearest_first_then_heaviest_then_by_name(graph: Graph) -> None:
    await graph.link(
        ACME,
        [
            edge(1, 2, weight=1.0),
            edge(1, 3, weight=2.0),
            edge(1, 30, weight=1.0),
            edge(1, 2, "cites", weight=1.0),
            edge(3, 4),
            edge(4, 5),
            edge(5, 1),
        ],
    )
    found = await graph.neighbors(ACME, (1.0,), hops=2, limit=10)
    # 2 is reached by two types of link, each of which is shown; 30 comes after 2 as text does
    assert reached(found) == [
        (3, 1, "related"),
        (2, 1, "cites"),
        (2, 1, "related"),
        (30, 1, "related"),
        (4, 2, "related"),
    ]
    assert reached(await graph.neighbors(ACME, (1.0,), hops=16, limit=3)) == reached(found)[:3]
    assert reached(await graph.neighbors(ACME, (1.0,), link_type="cites", hops=3)) == [(2, 1, "cites")]
    assert await graph.neighbors(ACME, (77.0,), hops=3) == []


async def test_every_type_of_link_between_the_same_two_is_shown(graph: Graph) -> None:
    await graph.link(
        ACME,
        [
            *(edge(1, 2, "a", 1.0), edge(1, 2, "b", 2.0), edge(1, 3, "a"), edge(2, 9, "a"), edge(2, 9, "c", 4.0)),
            *(edge(3, 9, "a", 3.0), edge(3, 9, "d", 0.5)),
        ],
    )
    found = await graph.neighbors(ACME, (1.0,), hops=2)
    # at two hops 9 is there once for each type, by the heaviest link of that type, whichever way it came
    assert [(one.coordinate[0], one.edge.source[0], one.edge.link_type) for one in found] == [
        (2, 1, "b"),
        (2, 1, "a"),
        (3, 1, "a"),
        (9, 2, "c"),
        (9, 3, "a"),
        (9, 3, "d"),
    ]
    path = await graph.shortest_path(ACME, (1.0,), (9.0,))
    assert path is not None
    assert [(one.source[0], one.target[0], one.link_type) for one in path] == [
        (1, 2, "b"),
        (1, 2, "a"),
        (2, 9, "c"),
        (2, 9, "a"),
    ], "the path goes where the heaviest link of the last step comes from, and has every type between each two"
    only = await graph.shortest_path(ACME, (1.0,), (9.0,), link_type="a")
    assert only is not None
    assert [(one.source[0], one.link_type) for one in only] == [(1, "a"), (3, "a")]


async def test_a_path_has_the_fewest_links_and_takes_the_heavier_of_two(graph: Graph) -> None:
    await graph.link(
        ACME,
        [edge(1, 2, weight=0.1), edge(2, 9), edge(1, 3), edge(3, 9, weight=5.0), edge(1, 4), edge(4, 5), edge(5, 9)],
    )
    path = await graph.shortest_path(ACME, (1.0,), (9.0,))
    assert path is not None
    assert [one.target for one in path] == [(3.0,), (9.0,)]
    assert await graph.shortest_path(ACME, (1.0,), (1.0,)) == []
    assert await graph.shortest_path(ACME, (1.0,), (9.0,), max_length=1) is None
    assert await graph.shortest_path(ACME, (9.0,), (1.0,)) is None, "links have a direction"
    assert await graph.shortest_path(ACME, (1.0,), (9.0,), link_type="cites") is None


async def test_weights_metadata_and_long_unicode_come_back_as_they_were_sent(graph: Graph) -> None:
    long = tuple(n / 7 for n in range(3000))
    metadata = {"why": "Grüße 🌱 <&>", "deep": {"list": [1, 2.5, None, True, "\u2028"]}, "empty": {}}
    sent = Edge(long, (-1e-300, 2.0**53), "lié à", 0.1 + 0.2, metadata)
    await graph.link(ACME, [sent])
    (found,) = await graph.neighbors(ACME, long)
    assert found.edge == sent
    assert [one async for one in graph.edges(ACME)] == [sent]


async def test_linking_again_is_an_update(graph: Graph) -> None:
    await graph.link(ACME, [edge(1, 2, weight=1.0, old=True), edge(1, 2, "cites")])
    await graph.link(ACME, [edge(1, 2, weight=3.0, new=True)])
    assert sorted([(one.link_type, one.weight, one.metadata) async for one in graph.edges(ACME)]) == [
        ("cites", 1.0, {}),
        ("related", 3.0, {"new": True}),
    ]
    assert await graph.count(ACME) == 2


async def test_nothing_crosses_scopes(graph: Graph) -> None:
    await graph.link(ACME, [edge(1, 2)])
    await graph.link(OTHER, [edge(1, 3), edge(3, 4)])
    assert reached(await graph.neighbors(ACME, (1.0,), hops=5)) == [(2, 1, "related")]
    assert await graph.shortest_path(ACME, (1.0,), (4.0,)) is None
    assert await graph.forget(ACME, [(3.0,)]) == 0
    assert (await graph.count(ACME), await graph.count(OTHER), await graph.count()) == (1, 2, 3)


async def test_edges_vanish_with_their_memories(graph: Graph) -> None:
    await graph.link(ACME, [edge(1, 2), edge(2, 3), edge(3, 2, "back"), edge(2, 2, "self"), edge(1, 3)])
    assert await graph.forget(ACME, [(2.0,)]) == 4
    assert await graph.forget(ACME, [(2.0,)]) == 0
    assert [one async for one in graph.edges(ACME)] == [edge(1, 3)]
    assert reached(await graph.neighbors(ACME, (1.0,), hops=3)) == [(3, 1, "related")]


async def test_every_edge_of_a_scope_is_listed_once(graph: Graph) -> None:
    sent = [edge(n % 7, n % 11, f"t{n % 3}") for n in range(231)]
    await graph.link(ACME, sent)
    listed = [(one.source, one.link_type, one.target) async for one in graph.edges(ACME)]
    assert len(listed) == len(set(listed)) == len(sent)


async def test_a_walk_that_goes_too_far_is_refused(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "MAX_VISITED", 5)
    await graph.link(ACME, [edge(1, n) for n in range(2, 9)])
    with pytest.raises(Unprocessable, match="coordinates"):
        await graph.neighbors(ACME, (1.0,), hops=2, limit=100)


@pytest.mark.parametrize("mirror", ["networkx_graph", "neo4j_graph"], indirect=True)
async def test_unlink_removes_one_type_or_all(mirror: IGraphStore) -> None:
    await mirror.link(ACME, [edge(1, 2), edge(1, 2, "cites"), edge(1, 2, "quotes"), edge(2, 1)])
    assert await mirror.unlink(ACME, (1.0,), (2.0,), "cites") == 1
    assert await mirror.unlink(ACME, (1.0,), (2.0,), "cites") == 0
    assert await mirror.unlink(ACME, (1.0,), (2.0,)) == 2
    assert await mirror.unlink(ACME, (8.0,), (9.0,)) == 0
    assert [one async for one in mirror.edges(ACME)] == [edge(2, 1)]


async def test_all_three_answer_alike_on_a_random_graph(
    ledger_graph: LedgerGraph, networkx_graph: IGraphStore, neo4j_graph: IGraphStore
) -> None:
    dice = random.Random(5)
    edges = [
        edge(dice.randrange(40), dice.randrange(40), dice.choice("ab"), dice.choice([0.0, 1.0, 2.0]))
        for _ in range(160)
    ]
    unique = list({(one.source, one.link_type, one.target): one for one in edges}.values())
    graphs: list[Graph] = [ledger_graph, networkx_graph, neo4j_graph]
    for one in graphs:
        await one.link(ACME, unique)
        await one.forget(ACME, [(3.0,), (17.0,)])
    for _ in range(25):
        start, goal = (float(dice.randrange(40)),), (float(dice.randrange(40)),)
        kind, hops, limit = dice.choice([None, "a", "b"]), dice.randint(1, 4), dice.randint(1, 30)
        asked: list[object] = []
        for one in graphs:
            near = await one.neighbors(ACME, start, link_type=kind, hops=hops, limit=limit)
            asked.append((near, await one.shortest_path(ACME, start, goal, link_type=kind, max_length=hops)))
        assert asked[0] == asked[1] == asked[2], (start, goal, kind, hops, limit)


async def test_networkx_refuses_what_is_beyond_its_bound_and_says_which() -> None:
    graph = NetworkXGraph(max_edges=3)
    await graph.start()
    await graph.link(ACME, [edge(1, 2), edge(2, 3)])
    with pytest.raises(Unavailable) as refused:
        await graph.link(ACME, [edge(1, 2, weight=9.0), edge(3, 4), edge(4, 5)])
    assert refused.value.field == "graph_max_edges"
    assert sorted([one.weight async for one in graph.edges(ACME)]) == [1.0, 1.0], "all or none"
    await graph.link(OTHER, [edge(3, 4)])
    await graph.link(ACME, [edge(1, 2, weight=2.0)])
    assert await graph.forget(ACME, [(2.0,)]) == 2
    await graph.link(ACME, [edge(3, 4), edge(4, 5)])
    assert await graph.count() == 3
