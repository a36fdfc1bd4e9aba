"""Records that retention took from a topic before a consumer group read them: found, counted, remembered.

Kafka says nothing of them: a group that stood before the topic's beginning goes on at the beginning. The ledger keeps
where the group stood, because Kafka forgets a group's offsets after about as long as its records.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from memory_runtime.stores.sessions import Ledger, LedgerTransaction

KEEP_SECONDS: Final = 30.0
_MOST: Final = 20
_PREFIX: Final = "consumer:"


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets `first` to just before `next` of a partition were never read. `at` is when it was noticed."""

    topic: str
    partition: int
    first: int
    next: int
    at: float

    @property
    def records(self) -> int:
        """How many, at most: offsets of markers count too."""
        return self.next - self.first


def missed(stood: int | None, begins: int) -> int:
    """How many records before the topic's beginning were not read, where the group stood (None: nowhere yet)."""
    return 0 if stood is None else max(0, begins - stood)


def gaps_in(facts: Mapping[str, str]) -> list[dict[str, Any]]:
    """The gaps that a ledger remembers, of all its consumer groups, as JSON shows them."""
    found: list[dict[str, Any]] = []
    for key, text in sorted(facts.items()):
        if key.startswith(_PREFIX):
            found += [{"group": key.split(":")[1], **gap} for gap in json.loads(text)["gaps"]]
    return found


class Positions:
    """Where one group stands on one topic, and its gaps: one fact of the ledger."""

    def __init__(self, ledger: Ledger, group: str, topic: str) -> None:
        self._ledger = ledger
        self._key = f"{_PREFIX}{group}:{topic}"
        self._kept_at = float("-inf")

    async def known(self) -> dict[int, int]:
        """The offsets that were kept last, by partition. Raises Unavailable."""
        text = (await self._ledger.read(lambda view: view.facts())).get(self._key)
        return {} if text is None else {int(key): value for key, value in json.loads(text)["positions"].items()}

    async def keep(self, positions: Mapping[int, int], gap: Gap | None = None, *, now: bool = False) -> None:
        """Keeps them, seldom unless there is a gap or `now` says so. Raises Unavailable."""
        if gap is None and not now and time.monotonic() - self._kept_at < KEEP_SECONDS:
            return

        def write(transaction: LedgerTransaction) -> None:
            text = transaction.view.facts().get(self._key)
            fact: dict[str, Any] = {"positions": {}, "gaps": []} if text is None else json.loads(text)
            fact["positions"] |= {str(partition): offset for partition, offset in positions.items()}
            if gap is not None:
                fact["gaps"] = [*fact["gaps"], asdict(gap) | {"records": gap.records}][-_MOST:]
            transaction.remember(self._key, json.dumps(fact))

        await self._ledger.transact(write)
        self._kept_at = time.monotonic()
