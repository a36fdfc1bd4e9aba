"""The approximate route for what does not fit a replica, tried on qdrant-client's local mode: rows scaled inside bands
of L.

L never changes, so a row can be stored as v·2^(L - b) in the band b = floor(L): the vector database then searches the
decayed score itself, not similarity. Bands are asked best first; once the k-th score is at least 2^(b + 1) no row of
band b or below can be better. Local mode scans, so nothing is lost here; a server's HNSW is approximate inside each
band, which is why answers from such a route are labelled and why gate G5 knows a penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hack.bench.corpus import NotAvailable
from hack.bench.datasets import Dataset

_MOST_ROWS = 200_000


def banded(
    data: Dataset, weights: npt.NDArray[np.float64], k: int = 10
) -> Callable[[npt.NDArray[np.float32]], list[int]]:
    """Answers queries with row numbers. Raises NotAvailable."""
    try:
        from qdrant_client import QdrantClient, models
    except ImportError:
        raise NotAvailable("qdrant-client is not installed: the peers come with the extra named bench") from None
    n, dim = data.vectors.shape
    if n > _MOST_ROWS:
        raise NotAvailable("qdrant-client's local mode is only measured up to 200k rows: it scans in NumPy")
    client = QdrantClient(":memory:")
    bands = np.floor(np.log2(weights)).astype(int)
    for band in np.unique(bands):
        rows = np.flatnonzero(bands == band)
        scaled = data.vectors[rows] * (weights[rows] / 2.0**band).astype(np.float32)[:, None]
        client.create_collection(f"b{band}", models.VectorParams(size=dim, distance=models.Distance.DOT))
        client.upload_collection(f"b{band}", vectors=scaled, ids=rows.tolist())
    order = [int(band) for band in np.unique(bands)[::-1]]

    def answer(query: npt.NDArray[np.float32]) -> list[int]:
        best: list[tuple[float, Any]] = []
        for band in order:
            if len(best) == k and best[-1][0] >= 2.0 ** (band + 1):
                break
            points = client.query_points(f"b{band}", query=query.tolist(), limit=k).points
            best = sorted([*best, *((p.score * 2.0**band, p.id) for p in points)], key=lambda found: -found[0])[:k]
        return [int(row) for _, row in best]

    return answer
