"""What the relay can feed, and what it needs of a ledger to do so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from memory_runtime.stores.contracts import Change, Lineage

T = TypeVar("T")


class Sink(Protocol):
    """A follower of the ledger outside of it. The relay is its only caller, one call at a time."""

    @property
    def name(self) -> str:
        """The key of its cursor in the ledger and the label of its metrics: it stays the same for good."""

    async def deliver(self, changes: Sequence[Change]) -> int:
        """Makes these changes durable at the sink, and returns the seq up to which it holds all of them.

        The changes come in order of seq; after a failure or a crash some come again, so delivery must be idempotent
        (by event id, or newest version wins). A lower seq than the last one's says that only a part was taken: the
        rest comes again at once. What can never pass is the sink's to set aside where a person finds it, before its
        seq is returned. Raises anything: nothing of this call counts, and it is called again after a pause.
        """

    async def rebuild(self) -> int:
        """Brings the sink to what the ledger holds, where the outbox no longer reaches back; returns the seq it holds.

        Called instead of `deliver` for a sink that is new to an old ledger. Raises as `deliver` does.
        """

    async def close(self) -> None:
        """Lets go of connections."""


@runtime_checkable
class Reconciles(Protocol):
    """A sink outside of the ledger that may hold what the ledger has lost since: a future that was abandoned."""

    async def reconcile(self, chain: Sequence[Lineage], since: str, cursor: int, position: str | None) -> None:
        """Undoes at the sink what no line of `chain` (oldest first) holds; what the ledger holds may come again.

        Called when the ledger's newest line is not `since`, the one that the sink was fed under last (empty: none is
        known), before anything of the new line is delivered. `cursor` is where the sink stands by the ledger, and
        `position` what the sink named with it. Raises anything: then it is called again after a pause.
        """


@runtime_checkable
class Positioned(Protocol):
    """A sink with a place of its own that is kept with its cursor."""

    @property
    def position(self) -> str:
        """Where it is, once it holds what was delivered last."""

    def resume(self, position: str | None) -> None:
        """Goes on from a position that was kept with the cursor; None where none was."""


class SinkView(Protocol):
    """What is read of a ledger: `LedgerView` has it."""

    def facts(self) -> dict[str, str]: ...
    def sinks(self) -> dict[str, int]: ...
    def lineages(self) -> list[Lineage]: ...


class SinkTransaction(Protocol):
    """What is written: `LedgerTransaction` has it."""

    @property
    def view(self) -> SinkView: ...
    def remember(self, key: str, value: str, *, replace: bool = True) -> None: ...
    def forget(self, key: str) -> None: ...
    def advance_sink(self, name: str, seq: int, at: float) -> None: ...


class SinkLedger(Protocol):
    """The part of a ledger that a relay works with: every ledger has it."""

    @property
    def head_seq(self) -> int: ...
    @property
    def lineage(self) -> str: ...
    async def tail(self, seq: int, limit: int = 1000, token: str = "") -> list[Change]: ...
    async def read(self, query: Callable[[Any], T]) -> T: ...
    async def transact(self, run: Callable[[Any], T]) -> T: ...
