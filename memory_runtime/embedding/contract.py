"""What every provider promises, and the settings that a provider is built from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class EmbeddingProvider(Protocol):
    """Turns texts into vectors. The same text gives the same vector for as long as `revision` stays the same."""

    @property
    def name(self) -> str:
        """`transformer`, `hash` or `client`."""

    @property
    def dim(self) -> int:
        """The dimension of every vector."""

    @property
    def revision(self) -> str:
        """Stored with each memory: vectors of two revisions are never compared."""

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 [len(texts), dim].

        Raises DeadlineExceeded, or InvalidArgument where text cannot be embedded.
        """

    def describe(self) -> dict[str, Any]:
        """What `/stats` says of the provider: JSON-safe, no paths."""

    def close(self) -> None:
        """Ends the provider's threads; calls that wait fail with Unavailable."""


class EmbeddingSettings(Protocol):
    """The settings that this room reads (SMFSettings has them)."""

    @property
    def embedding_provider(self) -> Literal["auto", "transformer", "hash", "client"]: ...
    @property
    def vector_dim(self) -> int: ...
    @property
    def model_dir(self) -> Path | None: ...
    @property
    def model_name(self) -> str: ...
    @property
    def model_revision(self) -> str | None: ...
    @property
    def previous_model_dir(self) -> Path | None: ...
    @property
    def embedding_timeout_seconds(self) -> float: ...
