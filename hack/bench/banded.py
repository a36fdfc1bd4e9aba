"""The approximate route for what does not fit a replica, as served: rows scaled inside bands of L, best band first.

L never changes, so a row is stored as v·2^(L - w·b) in the band b = floor(L/w): Qdrant then searches the decayed score
itself, not similarity. The client's local mode scans, so nothing is lost there and its times are Python's; a server's
graph is approximate inside each band, which is why answers from such a route are labelled and why gate G5 knows a
penalty. `SOMA_TEST_QDRANT_URL` names a server to measure instead.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hack.bench.corpus import NotAvailable
from hack.bench.datasets import Dataset
from memory_runtime.model.records import Scope
from memory_runtime.stores.interfaces import VectorPoint

MOST_ROWS: Final = 200_000
SCOPE: Final = Scope("bench", "bench")
CHUNK: Final = 1000


@dataclass
class Banded:
    """A filled collection behind the adapter; `requests` counts round trips, `bands` those that hold rows."""

    store: Any
    runner: asyncio.Runner
    bands: int = 0
    requests: int = 0
    searched: int = 0

    def answer(self, query: npt.NDArray[np.float32], k: int = 10) -> list[int]:
        """The row numbers of the best by decayed score."""
        hits = self.runner.run(self.store.search(SCOPE, query, k, weighted=True))
        return [hit.id.int for hit in hits]

    def heard(self, requests: Sequence[Any]) -> None:
        """A round trip with these queries, of which those with a vector search a band."""
        self.requests += 1
        self.searched += sum(isinstance(one.query, list) for one in requests)

    def close(self) -> None:
        """Drops the collection."""
        self.runner.run(self.store.drop())
        self.runner.run(self.store.close())
        self.runner.close()


def build(data: Dataset, weights: npt.NDArray[np.float64], width: float = 1.0, *, server: bool = False) -> Banded:
    """Fills a collection with rows of these weights, in bands of this width. Raises NotAvailable."""
    try:
        from qdrant_client import AsyncQdrantClient

        from memory_runtime.stores.qdrant import QdrantOptions, QdrantVectorStore, connect
    except ImportError:
        raise NotAvailable("qdrant-client is not installed: the peers come with the extra named bench") from None

    class Listening(QdrantVectorStore):
        """The adapter, counted."""

        async def _ask(self, requests: Sequence[Any]) -> list[list[Any]]:
            counted.heard(requests)
            return await super()._ask(requests)

    n, dim = data.vectors.shape
    if n > MOST_ROWS and not server:
        raise NotAvailable("qdrant-client's local mode is only measured up to 200k rows: it scans in NumPy")
    options = QdrantOptions(f"bench-{uuid.uuid4().hex}", dim, band_width=width, timeout=60.0, **_server(server))
    runner = asyncio.Runner()

    async def made() -> tuple[Any, Any]:
        client = connect(options) if server else AsyncQdrantClient(":memory:")
        store = Listening(options, client=client)
        await store.start()
        return store, client

    store, client = runner.run(made())
    counted = Banded(store, runner)
    counted.bands = runner.run(_fill(client, store, data, np.log2(weights)))
    return counted


def _server(server: bool) -> dict[str, Any]:
    if not server:
        return {}
    url = os.environ.get("SOMA_TEST_QDRANT_URL")
    if not url:
        raise NotAvailable("no Qdrant server: name one in SOMA_TEST_QDRANT_URL (and SOMA_TEST_QDRANT_GRPC_PORT)")
    return {"url": url, "grpc_port": int(os.environ.get("SOMA_TEST_QDRANT_GRPC_PORT", "6334"))}


async def _fill(client: Any, store: Any, data: Dataset, log2_weight: npt.NDArray[np.float64]) -> int:
    # straight through the client: what writes cost is measured elsewhere, and local mode tests each condition in Python
    from memory_runtime.stores.qdrant.writing import point_write

    width, bands = store.options.band_width, set()
    for start in range(0, len(log2_weight), CHUNK):
        points = [
            VectorPoint(uuid.UUID(int=row), SCOPE, "episodic", data.vectors[row], 1, float(log2_weight[row]))
            for row in range(start, min(start + CHUNK, len(log2_weight)))
        ]
        writes = [point_write(point, width, store.layout).point for point in points]
        bands |= {(point.payload or {})["band"] for point in writes}
        await client.upsert(store.options.collection, writes, wait=True)
    return len(bands)


def banded(
    data: Dataset, weights: npt.NDArray[np.float64], k: int = 10, *, server: bool = False
) -> Callable[[npt.NDArray[np.float32]], list[int]]:
    """Answers queries with row numbers. Raises NotAvailable."""
    made = build(data, weights, server=server)
    return lambda query: made.answer(query, k)
