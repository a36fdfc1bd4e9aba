"""What a graph store must be able to do to stand in for the ledger's own graph: follow it, and say how far it has."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.errors import Conflict
from memory_runtime.model.records import Edge, Scope
from memory_runtime.stores.contracts import EdgeKey
from memory_runtime.stores.interfaces import IGraphStore
from memory_runtime.stores.walking import NeighborWalk, PathWalk

W = TypeVar("W", NeighborWalk, PathWalk)
NOWHERE = -1
"""The position of a mirror that was never filled. Every negative position is one that nothing may rely on."""


def filling() -> int:
    """The position of a mirror while it is filled: negative, and another each time, so that two fillers notice."""
    return -2 - secrets.randbits(48)


def overtaken() -> Conflict:
    """The mirror was moved since this process looked: by another one, or by a call of its own that seemed to fail."""
    return Conflict("graph: another process feeds the mirror", remedy="look where it is, and go on from there")


@dataclass(frozen=True, slots=True)
class Edits:
    """What is to be true of one scope: `cleared` coordinates and `removed` edges are gone, then `edges` are there."""

    scope: Scope
    cleared: Sequence[Coordinate] = ()
    removed: Sequence[EdgeKey] = ()
    edges: Sequence[Edge] = ()


@runtime_checkable
class GraphMirror(IGraphStore, Protocol):
    """A graph store that follows a ledger: after every change up to `position` it holds the ledger's edges."""

    ledger: str
    """Whose positions count: one in another ledger's history is none. Set before the mirror is started."""

    async def walk(self, begin: Callable[[], W], scope: Scope, link_type: str | None) -> tuple[W, int]:
        """Begins a walk (anew, where it must be repeated) and runs it to its end.

        Returns it, and the position that the store had when it began: what it saw is that or later.
        """

    async def position(self) -> int:
        """The sequence that the store has followed the ledger to; negative where it holds nothing to rely on."""

    async def follow(self, edits: Sequence[Edits], position: int, *, expected: int) -> None:
        """Makes the edits and moves from the position `expected` to `position` in one transaction.

        Raises Conflict, nothing done, where the position is another one: someone else follows too.
        """

    async def wipe(self) -> int:
        """Forgets every edge of every scope, and returns the negative position (`filling`) that it is at now."""
