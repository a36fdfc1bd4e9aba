"""What the relay can feed, and what it needs of a ledger to do so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from memory_runtime.stores.contracts import Change

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


class SinkView(Protocol):
    """What is read of a ledger: `LedgerView` has it."""

    def facts(self) -> dict[str, str]: ...
    def sinks(self) -> dict[str, int]: ...


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
    async def tail(self, seq: int, limit: int = 1000) -> list[Change]: ...
    async def read(self, query: Callable[[Any], T]) -> T: ...
    async def transact(self, run: Callable[[Any], T]) -> T: ...
