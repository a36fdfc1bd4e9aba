"""The provider in use, which may be another tomorrow: everybody holds this one, and it is told when to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from memory_runtime.embedding.contract import EmbeddingProvider, Vectors


@runtime_checkable
class _Timed(Protocol):
    timeout_seconds: float


class SwitchingProvider:
    """Serves with one provider; `target` is the one that stored memories are being re-embedded for, if any."""

    def __init__(self, provider: EmbeddingProvider) -> None:
        self.serving = provider
        self.target: EmbeddingProvider | None = None

    @property
    def name(self) -> str:
        """The serving provider's."""
        return self.serving.name

    @property
    def dim(self) -> int:
        """The serving provider's, and the target's."""
        return self.serving.dim

    @property
    def revision(self) -> str:
        """The serving provider's."""
        return self.serving.revision

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of the serving provider."""
        return await self.serving.embed(texts)

    def allow(self, seconds: float) -> None:
        """Lets each batch take so long from now on, where a provider has a time-out at all."""
        for provider in (self.serving, self.target):
            if isinstance(provider, _Timed):
                provider.timeout_seconds = seconds

    def describe(self) -> dict[str, Any]:
        """What the serving provider says, and the revision that is being prepared."""
        described = self.serving.describe()
        return described if self.target is None else described | {"reembedding_to": self.target.revision}

    def serve_with(self, previous: EmbeddingProvider) -> None:
        """Serves with `previous` until `switch`; what served is the target now."""
        self.serving, self.target = previous, self.serving

    def switch(self) -> None:
        """Serves with the target; the previous provider's threads end."""
        if self.target is not None:
            previous, self.serving, self.target = self.serving, self.target, None
            previous.close()

    def close(self) -> None:
        """Closes both."""
        self.serving.close()
        if self.target is not None:
            self.target.close()
