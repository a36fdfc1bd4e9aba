"""Clients bring their own vectors: text alone is refused, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from memory_runtime.embedding.contract import Vectors
from memory_runtime.model.errors import InvalidArgument


class ClientVectors:
    """Embeds nothing: every store and every recall must carry a vector."""

    name = "client"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.revision = f"client/{dim}"

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """An empty matrix for no texts. Raises InvalidArgument naming `vector` for any."""
        if texts:
            raise InvalidArgument(
                "vector: missing, and this service embeds no text (embedding_provider is client)",
                field="vector",
                remedy=f"send a vector of {self.dim} numbers, or set embedding_provider to transformer or hash",
            )
        return np.empty((0, self.dim), dtype=np.float32)

    def describe(self) -> dict[str, Any]:
        """Provider, revision and dimension."""
        return {"provider": self.name, "revision": self.revision, "dim": self.dim}

    def close(self) -> None:
        """Nothing to end."""
