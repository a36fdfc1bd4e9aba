"""What keeps the points, as this room needs it: `IVectorStore`, and how it is filled, compared and looked after."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from memory_runtime.stores.interfaces import IVectorStore


class Stamp(Protocol):
    """What is known of a stored point: the change that wrote it, under which layout, and whether it is a tombstone."""

    @property
    def seq(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def layout(self) -> int: ...
    @property
    def gone(self) -> bool: ...


class Status(Protocol):
    """What the back end says of itself."""

    @property
    def status(self) -> str: ...
    @property
    def points(self) -> int: ...
    @property
    def indexed(self) -> int: ...
    @property
    def queued(self) -> int: ...


class VectorBacking(IVectorStore, Protocol):
    """A vector store that is filled from the ledger."""

    @property
    def layout(self) -> int:
        """The number of the rules that points are placed by."""

    def follow_layout(self, layout: str) -> bool:
        """Places and searches by these rules from now on; True where they are others."""

    async def ensure(self) -> bool:
        """Makes what is missing and checks what is there; True where it was missing. Raises SettingsError."""

    def stamps(self, start: uuid.UUID | None = None) -> AsyncIterator[Sequence[tuple[uuid.UUID, Stamp]]]:
        """Every point, tombstones and other layouts too, from `start` on in order of id, page by page."""

    async def erase(self, ids: Sequence[uuid.UUID]) -> None:
        """Removes points without a trace."""

    async def purge_tombstones(self, below: int) -> None:
        """Forgets tombstones of changes below this sequence."""

    async def status(self) -> Status:
        """What the back end says. Raises StoreWiped where nothing is there."""
