"""The graph stores' contract, on the graphs of both ledgers: what NetworkX and Neo4j answer, SQL answers too."""

from __future__ import annotations

import pytest

from memory_runtime.tests.integration.graph.ledger_graph import LedgerGraph
from memory_runtime.tests.integration.graph.test_graph_contract import (  # noqa: F401 -- pytest collects them here
    test_a_path_has_the_fewest_links_and_takes_the_heavier_of_two,
    test_a_walk_that_goes_too_far_is_refused,
    test_edges_vanish_with_their_memories,
    test_every_edge_of_a_scope_is_listed_once,
    test_every_type_of_link_between_the_same_two_is_shown,
    test_linking_again_is_an_update,
    test_neighbors_come_nearest_first_then_heaviest_then_by_name,
    test_nothing_crosses_scopes,
    test_weights_metadata_and_long_unicode_come_back_as_they_were_sent,
)
from memory_runtime.tests.ledgers import ACME, Place, link


@pytest.fixture
def graph(place: Place) -> LedgerGraph:
    """An empty ledger's graph."""
    return LedgerGraph(place.open())


async def test_only_standing_edges_and_those_at_a_place_are_found(graph: LedgerGraph) -> None:
    edges = [link(1, 2).edge, link(2, 3, "cites", 2.0, why="so").edge, link(4, 1).edge, link(5, 5).edge]
    await graph.link(ACME, edges)
    at = await graph.ledger.read(lambda view: view.edges_at(ACME, [(1.0,), (5.0,), (9.0,)]))
    assert sorted((one.source, one.target) for one in at) == [((1.0,), (2.0,)), ((4.0,), (1.0,)), ((5.0,), (5.0,))]
    keys = [((2.0,), "cites", (3.0,)), ((2.0,), "related", (3.0,)), ((3.0,), "cites", (2.0,))]
    assert await graph.ledger.read(lambda view: view.edges_standing(ACME, keys)) == [edges[1]]
    assert await graph.ledger.read(lambda view: view.edge_scopes()) == [ACME]
