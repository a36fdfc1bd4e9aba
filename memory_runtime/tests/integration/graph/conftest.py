"""One Neo4j for the session, with TLS beside plain Bolt, emptied for each test that asks; and a graph of each kind."""

from __future__ import annotations

import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.errors import ClusterError
from hack.requirement import unavailable
from hack.services import Authority, Service, ServiceError, start_neo4j
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.graph.neo4j_graph import Neo4jGraph
from memory_runtime.stores.graph.networkx_graph import NetworkXGraph
from memory_runtime.stores.sqlite import SQLiteLedger
from memory_runtime.tests.integration.graph.ledger_graph import LedgerGraph


@pytest.fixture(scope="session")
def neo4j_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("neo4j-pki"))


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory, neo4j_authority: Authority) -> Iterator[Service]:
    try:
        service = start_neo4j(tmp_path_factory.mktemp("neo4j"), authority=neo4j_authority)
    except (ClusterError, ServiceError) as error:
        unavailable(str(error))
    yield service
    service.kill()  # nothing of it is wanted any more, and it takes its time to stop


def neo4j_settings(service: Service, **others: Any) -> SMFSettings:
    return SMFSettings(neo4j_url=service.url, neo4j_timeout_seconds=5.0, **others)


def address(service: Service) -> tuple[str, int]:
    url = urllib.parse.urlsplit(service.url)
    return str(url.hostname), int(url.port or 0)


@pytest.fixture
async def neo4j_graph(neo4j_server: Service) -> AsyncIterator[Neo4jGraph]:
    """A started store whose database is empty."""
    graph = Neo4jGraph(neo4j_settings(neo4j_server))
    await graph.start()
    await graph.wipe()
    yield graph
    await graph.close()


@pytest.fixture
async def networkx_graph() -> AsyncIterator[NetworkXGraph]:
    graph = NetworkXGraph()
    await graph.start()
    yield graph
    await graph.close()


@pytest.fixture
def ledger_graph(tmp_path: Path) -> Iterator[LedgerGraph]:
    """The embedded ledger's own graph, in SQL."""

    def normaliser(state: str | None) -> ImportanceNormaliser:
        return ImportanceNormaliser() if state is None else ImportanceNormaliser.loads(state)

    ledger = SQLiteLedger(tmp_path, normalisers=normaliser, observer=lambda _: None)
    ledger.open()
    yield LedgerGraph(ledger)
    ledger.close()


@pytest.fixture
def mirror(request: pytest.FixtureRequest) -> NetworkXGraph | Neo4jGraph:
    """The store that the test's parameter names."""
    found: NetworkXGraph | Neo4jGraph = request.getfixturevalue(request.param)
    return found
